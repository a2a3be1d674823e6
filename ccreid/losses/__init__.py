"""Losses: pure functions of tensors that know nothing of Lightning, Hydra or datasets."""

from ccreid.losses.attribute_aware import attribute_aware_loss
from ccreid.losses.batch_hard_triplet import batch_hard_triplet_loss

__all__ = ["attribute_aware_loss", "batch_hard_triplet_loss"]
