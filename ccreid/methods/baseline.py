"""The BNNeck strong baseline (Luo et al., "Bag of Tricks", CVPR Workshops 2019)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import cross_entropy

from ccreid.data.sample import Batch
from ccreid.errors import require
from ccreid.losses import batch_hard_triplet_loss
from ccreid.methods.base import Method, OptimizerFactory, SchedulerFactory
from ccreid.models import Backbone, BNNeck, IdentityClassifier, average_pool


class Baseline(Method):
    """Label-smoothed cross entropy after the batch-norm neck, batch-hard triplet before it.

    Args:
        backbone: images to feature maps.
        num_identities: people in the train split.
        optimizer, scheduler, gather: see `Method`.
        label_smoothing: probability spread over all identities.
        margin: of the triplet loss, in units of its distance.
        distance: of the triplet loss, `euclidean` or `cosine`.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        gather: bool = False,
        label_smoothing: float = 0.1,
        margin: float = 0.3,
        distance: Literal["euclidean", "cosine"] = "euclidean",
    ) -> None:
        super().__init__(optimizer, scheduler, gather)
        wanted = "euclidean or cosine"
        require(0 <= label_smoothing <= 1, "method.label_smoothing", label_smoothing, "in [0, 1]")
        require(distance in ("euclidean", "cosine"), "method.distance", distance, wanted)
        self.backbone = backbone
        self.bnneck = BNNeck(backbone.num_features)
        self.classifier = IdentityClassifier(backbone.num_features, num_identities)
        self.label_smoothing, self.margin, self.distance = label_smoothing, margin, distance

    def embed(self, images: Tensor) -> Tensor:
        """Return the pooled features after the neck, [B, C]."""
        features: Tensor = self.bnneck(average_pool(self.backbone(images)))
        return features

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `id` and `triplet`."""
        pid = batch["pid"]
        pooled = average_pool(self.backbone(batch["image"]))
        logits = self.classifier(self.bnneck(pooled))
        features, pids = self.gathered(pooled, pid)
        return {
            "id": cross_entropy(logits, pid, label_smoothing=self.label_smoothing),
            "triplet": batch_hard_triplet_loss(features, pids, self.margin, self.distance),
        }
