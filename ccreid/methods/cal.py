"""CAL: clothes-based adversarial loss.

Gu, Chang, Ma, Bai, Shan, Chen: "Clothes-Changing Person Re-identification with RGB Modality Only",
CVPR 2022, arXiv 2204.06890.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from torch.optim import Optimizer

from ccreid.data.sample import Batch
from ccreid.errors import ConfigError, require
from ccreid.losses import batch_hard_triplet_loss, clothes_adversarial_loss
from ccreid.methods.base import Method, OptimizerFactory, ParameterGroups, SchedulerFactory
from ccreid.models import POOLINGS, Backbone, cosine_similarity


class CAL(Method):
    """L = L_id + L_adv, against a clothes classifier C that is trained beside the network.

    After `start_epoch` every step first trains C, with an optimiser of its own, to tell the outfits
    of all people from the feature; then the network is trained to be right about the person and to
    leave C undecided between the person's own outfits. C is gone at test. Gradients are clipped, if
    at all, for the network alone.

    Args:
        backbone: images to feature maps.
        num_identities, num_clothes: people and outfits in the train split.
        optimizer, scheduler, gather: see `Method`; `optimizer` does not know C.
        clothes_optimizer: makes C's optimiser; its learning rate is constant.
        start_epoch: epochs trained on identities alone, C untouched.
        pooling: a name of `ccreid.models.POOLINGS`.
        scale: s of C's logits and of the adversarial loss.
        epsilon: share of the adversarial target that is spread over the person's outfits.
        label_smoothing: probability that the identity loss spreads over all identities.
        triplet_weight: of a batch-hard triplet loss on cosine distances; 0 leaves it out.
        margin: of that loss.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"clothes"})

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        num_clothes: int,
        optimizer: OptimizerFactory,
        clothes_optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        gather: bool = False,
        start_epoch: int = 25,
        pooling: str = "max_average",
        scale: float = 16.0,
        epsilon: float = 0.1,
        label_smoothing: float = 0.1,
        triplet_weight: float = 0.0,
        margin: float = 0.3,
    ) -> None:
        super().__init__(optimizer, scheduler, gather)
        require(start_epoch >= 0, "method.start_epoch", start_epoch, "at least 0")
        require(0 <= label_smoothing <= 1, "method.label_smoothing", label_smoothing, "in [0, 1]")
        require(scale > 0, "method.scale", scale, "above 0")
        require(0 <= epsilon <= 1, "method.epsilon", epsilon, "between 0 and 1")
        require(triplet_weight >= 0, "method.triplet_weight", triplet_weight, "at least 0")
        require(margin >= 0, "method.margin", margin, "at least 0")
        require(pooling in POOLINGS, "method.pooling", pooling, f"one of {', '.join(POOLINGS)}")
        self.backbone = backbone
        self.pool, times = POOLINGS[pooling]
        num_features = times * backbone.num_features
        self.norm = nn.BatchNorm1d(num_features)
        nn.init.normal_(self.norm.weight, mean=1.0, std=0.02)
        self.classifier = nn.Linear(num_features, num_identities)
        nn.init.normal_(self.classifier.weight, std=0.001)
        nn.init.zeros_(self.classifier.bias)
        rows = torch.empty(num_clothes, num_features).uniform_(-1, 1)
        self.clothes_weight = nn.Parameter(normalize(rows))  # C: one row per outfit
        self._make_clothes_optimizer = clothes_optimizer
        self._clothes_optimizer: Optimizer | None = None
        self._saved_clothes_optimizer: dict[str, Any] | None = None
        self.start_epoch, self.scale, self.epsilon = start_epoch, scale, epsilon
        self.label_smoothing = label_smoothing
        self.triplet_weight, self.margin = triplet_weight, margin

    def embed(self, images: Tensor) -> Tensor:
        """Return the pooled, batch-normalised feature f, [B, D]."""
        feature: Tensor = self.norm(self.pool(self.backbone(images)))
        return feature

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `id`, and as configured `triplet`; after `start_epoch` also `adversarial`."""
        pid, clothes_id = batch["pid"], batch["clothes_id"]
        feature = self.embed(batch["image"])
        logits = self.classifier(feature)
        losses = {"id": cross_entropy(logits, pid, label_smoothing=self.label_smoothing)}
        if self.triplet_weight:
            features, pids = self.gathered(feature, pid)
            triplet = batch_hard_triplet_loss(features, pids, self.margin, distance="cosine")
            losses["triplet"] = self.triplet_weight * triplet
        if self.current_epoch >= self.start_epoch:
            self._train_clothes_classifier(feature.detach(), clothes_id)
            losses["adversarial"] = clothes_adversarial_loss(
                cosine_similarity(feature, self.clothes_weight.detach()),
                clothes_id,
                self._clothes_pid == pid[:, None],
                self.scale,
                self.epsilon,
            )
        return losses

    def _train_clothes_classifier(self, feature: Tensor, clothes_id: Tensor) -> None:
        """Take one step of C on its own loss; the same on all ranks."""
        assert self._clothes_optimizer is not None
        cosine = cosine_similarity(feature, self.clothes_weight)
        loss = cross_entropy(self.scale * cosine, clothes_id)
        # Not backward(): DDP would wait for this gradient among the network's.
        (gradient,) = torch.autograd.grad(loss, self.clothes_weight)
        if dist.is_initialized():
            dist.all_reduce(gradient)
            gradient /= dist.get_world_size()
        self.clothes_weight.grad = gradient
        self._clothes_optimizer.step()
        self.clothes_weight.grad = None
        self.log_means({"clothes": loss.detach()}, len(clothes_id))

    def parameter_groups(self) -> ParameterGroups:
        """Return everything but C, which has an optimiser of its own."""
        own = [p for p in self.parameters() if p.requires_grad and p is not self.clothes_weight]
        return [{"params": own}]

    def on_fit_start(self) -> None:
        """Make C's optimiser and note whose outfit each is.

        Raises:
            ConfigError: gradients are to be accumulated, between which C would take steps, or
                settings that C's optimiser does not take.
        """
        together = self.trainer.accumulate_grad_batches
        wanted = "1: the clothes classifier takes a step with every batch"
        require(together == 1, "trainer.accumulate_grad_batches", together, wanted)
        data = self.datamodule
        clothes_pid = torch.empty(data.num_clothes, dtype=torch.long)
        clothes_pid[data.train_clothes_id] = data.train_pid
        self._clothes_pid = clothes_pid.to(self.device)
        try:
            own = [{"params": [self.clothes_weight]}]
            self._clothes_optimizer = self._make_clothes_optimizer(own)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"These settings of method.clothes_optimizer do not work: {error}"
            ) from error
        if self._saved_clothes_optimizer is not None:
            self._clothes_optimizer.load_state_dict(self._saved_clothes_optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the state of C's optimiser, too."""
        super().on_save_checkpoint(checkpoint)
        if self._clothes_optimizer is not None:
            checkpoint["clothes_optimizer"] = self._clothes_optimizer.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with C's optimiser where it was."""
        self._saved_clothes_optimizer = checkpoint.get("clothes_optimizer")
