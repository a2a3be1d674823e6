"""FIRe²: fine-grained representation and recomposition.

Wang, Qian, Li, Xue, Fu: "Exploring Fine-Grained Representation and Recomposition for
Cloth-Changing Person Re-Identification", IEEE TIFS 2024, arXiv 2308.10692.
"""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch.nn.functional import cross_entropy

from ccreid.data.sample import Batch
from ccreid.errors import require
from ccreid.losses import attribute_aware_loss, batch_hard_triplet_loss
from ccreid.methods.base import Method, OptimizerFactory, ParameterGroups, SchedulerFactory
from ccreid.methods.mining import Attributes, Mining, mine_attributes
from ccreid.models import (
    Backbone,
    BNNeck,
    IdentityClassifier,
    cosine_similarity,
    images_without_donor,
    max_average_pool,
    recompose,
)


class FIRe2(Method):
    """FIRe²: L = L_id + L_tri + L_attr + λ L_r, the last three after `mining.start_epoch`.

    The batch-normalised, pooled feature f serves everything: both classifiers, the triplet loss,
    clustering and retrieval. FFM clusters the images of each identity anew every epoch and trains
    one attribute prototype per cluster; FAR re-styles stripes of the feature map with the
    statistics of images from other clusters. Both are gone at test.

    Args:
        backbone: images to feature maps.
        num_identities: people in the train split.
        optimizer, scheduler, gather: see `Method`.
        mining: settings of FFM; None for the released ones.
        label_smoothing: probability spread over all identities.
        margin: of the triplet loss, in units of Euclidean distance.
        tau: temperature of the attribute logits.
        epsilon: probability that the attribute target spreads over the identity's clusters.
        parts: horizontal stripes P of FAR.
        recompositions: recomposed maps K per image.
        recomposition_weight: λ of L_r (λ₄ in the paper).
        reset_optimizer_state: forget the optimiser's moments at each mining, as the released code.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        gather: bool = False,
        mining: Mining | None = None,
        label_smoothing: float = 0.1,
        margin: float = 0.3,
        tau: float = 1 / 16,
        epsilon: float = 0.1,
        parts: int = 2,
        recompositions: int = 1,
        recomposition_weight: float = 0.3,
        reset_optimizer_state: bool = True,
    ) -> None:
        super().__init__(optimizer, scheduler, gather)
        require(0 <= label_smoothing <= 1, "method.label_smoothing", label_smoothing, "in [0, 1]")
        require(tau > 0, "method.tau", tau, "above 0")
        require(0 <= epsilon <= 1, "method.epsilon", epsilon, "between 0 and 1")
        require(parts >= 1, "method.parts", parts, "at least 1")
        require(recompositions >= 1, "method.recompositions", recompositions, "at least 1")
        weight = recomposition_weight
        require(weight >= 0, "method.recomposition_weight", weight, "at least 0")
        num_features = 2 * backbone.num_features  # global max and global average
        self.backbone = backbone
        self.bnneck = BNNeck(num_features)
        self.classifier = IdentityClassifier(num_features, num_identities)
        self.recomposed_bnneck = BNNeck(num_features)
        self.recomposed_classifier = IdentityClassifier(num_features, num_identities)
        self.attributes: Attributes | None = None
        self.mining = mining or Mining()
        self.label_smoothing, self.margin = label_smoothing, margin
        self.tau, self.epsilon = tau, epsilon
        self.parts, self.recompositions = parts, recompositions
        self.recomposition_weight = recomposition_weight
        self.reset_optimizer_state = reset_optimizer_state

    def embed(self, images: Tensor) -> Tensor:
        """Return f, [B, 2C]."""
        return self._feature(self.backbone(images))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `id`, and after FFM has begun also `triplet`, `attribute` and `recomposition`."""
        pid = batch["pid"]
        feature_map = self.backbone(batch["image"])
        feature = self._feature(feature_map)
        losses = {"id": self._identity_loss(self.classifier(feature), pid)}
        if self.attributes is None:
            return losses
        cluster = self.attributes.cluster[batch["index"]]
        cosine = cosine_similarity(feature, self.attributes.weight)
        siblings = self.attributes.pid == pid[:, None]  # clusters of the image's own identity
        recomposed = self._recompose(feature_map, cluster)
        recomposed_loss = self._identity_loss(recomposed, pid.repeat(self.recompositions))
        features, pids = self.gathered(feature, pid)
        losses["triplet"] = batch_hard_triplet_loss(features, pids, self.margin)
        losses["attribute"] = attribute_aware_loss(
            cosine, cluster, siblings, self.tau, self.epsilon
        )
        losses["recomposition"] = self.recomposition_weight * recomposed_loss
        return losses

    def _feature(self, feature_map: Tensor) -> Tensor:
        feature: Tensor = self.bnneck(max_average_pool(feature_map))
        return feature

    def _identity_loss(self, logits: Tensor, pid: Tensor) -> Tensor:
        return cross_entropy(logits, pid, label_smoothing=self.label_smoothing)

    def _recompose(self, feature_map: Tensor, cluster: Tensor) -> Tensor:
        """FAR: identity logits of the recomposed maps, [K·B, num_identities]."""
        recomposed = recompose(feature_map, cluster, self.parts, self.recompositions)
        alone = images_without_donor(cluster).float()
        self.log(
            "mining/images_without_donor",
            alone,
            on_step=False,
            on_epoch=True,
            reduce_fx="sum",
            sync_dist=True,
        )
        logits: Tensor = self.recomposed_classifier(
            self.recomposed_bnneck(max_average_pool(recomposed))
        )
        return logits

    def clusters(self) -> Tensor | None:
        """Return the cluster of every train image as mined last, [N]; None before the first."""
        return None if self.attributes is None else self.attributes.cluster

    def parameter_groups(self) -> ParameterGroups:
        """Return the network, and an empty group that each mining fills anew."""
        return [*super().parameter_groups(), {"params": []}]

    def on_fit_start(self) -> None:
        """Make sure that the feature map has a row for every stripe, the batch enough donors."""
        rows = -(-self.datamodule.test_transform.height // self.backbone.reduction)
        wanted = f"at most {rows}, the rows of the feature map (input.height makes more)"
        require(self.parts <= rows, "method.parts", self.parts, wanted)
        images = self.datamodule.identities_per_batch * self.datamodule.images_per_identity
        wanted = f"at most {images}, the images of a batch"
        number = self.recompositions
        require(number <= images, "method.recompositions", number, wanted)

    def on_train_epoch_start(self) -> None:
        """Mine attributes at the start of every epoch after `mining.start_epoch`."""
        super().on_train_epoch_start()
        if self.current_epoch + 1 > self.mining.start_epoch:
            attributes, statistics = mine_attributes(self, self.mining, self.attributes)
            self._begin_training(attributes)
            self.log_dict({f"mining/{key}": v for key, v in statistics.items()}, sync_dist=True)

    def _begin_training(self, attributes: Attributes) -> None:
        optimizer = self.trainer.optimizers[0]
        if self.reset_optimizer_state:
            optimizer.state.clear()
        elif self.attributes is not None:
            optimizer.state.pop(self.attributes.weight, None)
        optimizer.param_groups[1]["params"] = [attributes.weight]
        self.attributes = attributes

    def on_after_backward(self) -> None:
        """Average the prototypes' gradient over ranks: DDP does not know them."""
        if dist.is_initialized() and self.attributes is not None:
            gradient = self.attributes.weight.grad
            assert gradient is not None
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the prototypes' moments out: at an epoch's boundary they are mined again."""
        super().on_save_checkpoint(checkpoint)
        for optimizer in checkpoint.get("optimizer_states", []):
            for position in optimizer["param_groups"][1]["params"]:
                optimizer["state"].pop(position, None)
            optimizer["param_groups"][1]["params"] = []
