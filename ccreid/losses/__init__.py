"""Losses: pure functions of tensors that know nothing of Lightning, Hydra or datasets."""

from ccreid.losses.attribute_aware import attribute_aware_loss
from ccreid.losses.batch_hard_triplet import batch_hard_triplet_loss
from ccreid.losses.body_attention import attention_loss
from ccreid.losses.clothes_adversarial import clothes_adversarial_loss
from ccreid.losses.cross_clothes_triplet import (
    CrossClothesTriplets,
    cross_clothes_triplet_loss,
    mine_cross_clothes_triplets,
)
from ccreid.losses.image_text_contrastive import (
    image_text_contrastive_loss,
    released_reverse_loss,
)
from ccreid.losses.twin_consistency import twin_consistency_loss

__all__ = [
    "CrossClothesTriplets",
    "attention_loss",
    "attribute_aware_loss",
    "batch_hard_triplet_loss",
    "clothes_adversarial_loss",
    "cross_clothes_triplet_loss",
    "image_text_contrastive_loss",
    "mine_cross_clothes_triplets",
    "released_reverse_loss",
    "twin_consistency_loss",
]
