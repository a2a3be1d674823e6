"""DIFFER: identity features disentangled with text.

Liang and Rawat: "DIFFER: Disentangling Identity Features via Semantic Cues for Clothes-Changing
Person Re-ID", CVPR 2025, arXiv 2503.22912.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from ccreid.data.sample import Batch, ids
from ccreid.errors import ConfigError, DataError, require
from ccreid.losses import (
    batch_hard_triplet_loss,
    image_text_contrastive_loss,
    released_reverse_loss,
)
from ccreid.methods.base import Method, OptimizerFactory, ParameterGroups, SchedulerFactory
from ccreid.methods.schedules import adversarial_ramp
from ccreid.models import (
    TEXT_PROJECTIONS,
    Backbone,
    CameraEmbedding,
    GradientReversal,
    forget_final_norm,
    text_projection,
)


class DIFFER(Method):
    """DIFFER: L = L_id + L_tri + L_bio + Σ_k L_k, the L_k behind a gradient reversal.

    The feature f, a transformer's class token or a CNN's pooled map, knows its image's camera. One
    head projects f to the text of what stays with a person (`biometric`); each of the others to the
    text of one thing that changes (`non_biometric`), and the gradient reversal makes f hide it from
    them. Every head finds an image's text among those of the batch. Only f is left at test.

    Args:
        backbone: images to feature maps, or to f.
        num_identities, num_cameras: people of the train split; its largest camera plus one.
        caption_dim: length D of the text features.
        optimizer, scheduler, gather: see `Method`; `gather` is for the triplets.
        gather_contrastive: find texts among those of all devices.
        biometric, non_biometric: names of the perspectives, in the order of the batch's captions.
        triplet_weight, biometric_weight, non_biometric_weight: of the terms; 0 leaves one out.
        margin: of the triplet loss, `soft` or in units of its distance.
        distance: of the triplet loss, `euclidean` (the paper) or `cosine`.
        temperature, targets: see `image_text_contrastive_loss`.
        heads: `clipFc`, linear, or `clipMLP` with a hidden layer of `hidden_dim`.
        non_biometric_bias: give the linear non-biometric heads a bias.
        reversal_strength: α of the gradient reversal.
        reversal_schedule: `constant`, or `ramp` from 0 to α (`adversarial_ramp`).
        camera_factor: what the camera embedding is multiplied by; 0 for none.
        reset_final_norm: forget the pretrained scale and shift of the transformer's last norm.
        bias_lr_factor: learning rate of the biases over that of the weights.
        as_released: the released code's non-biometric term (`released_reverse_loss`), defect
            included, in place of the paper's.
    """

    requires = frozenset({"captions", "cameras"})  # at most, see `needs`
    does_without: ClassVar[Mapping[str, str]] = {
        "cameras": "Without cameras: method.camera_factor=0"
    }

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        num_cameras: int,
        caption_dim: int,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        gather: bool = False,
        gather_contrastive: bool = False,
        biometric: str = "biometrics",
        non_biometric: Sequence[str] = ("hairstyle", "clothing"),
        triplet_weight: float = 1.0,
        biometric_weight: float = 1.0,
        non_biometric_weight: float = 1.0,
        margin: float | Literal["soft"] = "soft",
        distance: Literal["euclidean", "cosine"] = "euclidean",
        temperature: float = 1.0,
        targets: str = "instance",
        heads: str = "clipFc",
        hidden_dim: int = 512,
        non_biometric_bias: bool = False,
        reversal_strength: float = 1.0,
        reversal_schedule: str = "constant",
        camera_factor: float = 3.0,
        reset_final_norm: bool = True,
        bias_lr_factor: float = 2.0,
        as_released: bool = False,
    ) -> None:
        super().__init__(_with_faster_biases(optimizer, bias_lr_factor), scheduler, gather)
        self.biometric, self.non_biometric = biometric, tuple(non_biometric)
        self.triplet_weight, self.biometric_weight = triplet_weight, biometric_weight
        self.non_biometric_weight = non_biometric_weight
        self.margin, self.distance = margin, distance
        self.temperature, self.targets = temperature, targets
        self.reversal_strength, self.reversal_schedule = reversal_strength, reversal_schedule
        self.gather_contrastive, self.as_released = gather_contrastive, as_released
        self._require_possible(heads, hidden_dim, bias_lr_factor)
        self.backbone = backbone
        if reset_final_norm:
            forget_final_norm(backbone.network)
        backbone.train_for_vector()
        self.cameras = CameraEmbedding(num_cameras, backbone.shift_dim, camera_factor)
        self.uses_camera = camera_factor > 0 and num_cameras > 0
        width = backbone.num_features
        self.classifier = nn.Linear(width, num_identities)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02 * 0.001)  # as the released code
        nn.init.zeros_(self.classifier.bias)
        self.biometric_head = text_projection(width, caption_dim, heads, hidden_dim)
        self.reversal = GradientReversal(reversal_strength)
        self.non_biometric_heads = nn.ModuleList(
            text_projection(width, caption_dim, heads, hidden_dim, bias=non_biometric_bias)
            for _ in self.non_biometric
        )

    @classmethod
    def needs(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Return the side information that training with these settings (`cfg.method`) takes.

        Texts are taken even where both of their weights are 0: the heads are of their length.
        """
        return cls.requires if settings["camera_factor"] else cls.requires - {"cameras"}

    def embed(self, images: Tensor, camid: Tensor | None = None) -> Tensor:
        """Return f, [B, C], of images [B, 3, H, W] from cameras [B]; without, from unknown ones."""
        if camid is None:
            camid = torch.full((len(images),), -1, device=images.device)
        feature: Tensor = self.backbone(images, self.cameras(camid), pooled=True)
        return feature.mean(dim=1) if feature.ndim == 3 else feature  # a clip: over its frames

    def knows_camera(self, camid: Tensor) -> Tensor:
        """Return which of the cameras [B] it was trained with, [B] bool."""
        return self.cameras.knows(camid)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `id`, `triplet` and one term per perspective, named after it.

        As released, one term `non_biometric` stands for all non-biometric perspectives.
        """
        pid = batch["pid"]
        feature = self.embed(batch["image"], batch["camid"])
        losses = {"id": cross_entropy(self.classifier(feature), pid)}
        if self.triplet_weight:
            features, pids = self.gathered(feature, pid)
            triplet = batch_hard_triplet_loss(features, pids, self.margin, self.distance)
            losses["triplet"] = self.triplet_weight * triplet
        if self.biometric_weight:
            text = batch["caption"][:, 0]
            term = self._contrastive(self.biometric_head(feature), text, pid)
            losses[self.biometric] = self.biometric_weight * term
        if self.non_biometric_weight:
            for name, term in self._adversarial(feature, batch["caption"][:, 1:], pid).items():
                losses[name] = self.non_biometric_weight * term
        return losses

    def _adversarial(self, feature: Tensor, text: Tensor, pid: Tensor) -> dict[str, Tensor]:
        """The heads descend on these terms, what is before the gradient reversal ascends."""
        hidden = self.reversal(feature)
        projected = torch.stack([head(hidden) for head in self.non_biometric_heads], dim=1)
        if self.as_released:
            return {"non_biometric": released_reverse_loss(projected, text, self.temperature)}
        return {
            name: self._contrastive(projected[:, k], text[:, k], pid)
            for k, name in enumerate(self.non_biometric)
        }

    def _contrastive(self, projected: Tensor, text: Tensor, pid: Tensor) -> Tensor:
        """Find each image's text among those of the batch, or of all devices' batches."""
        projected, text, pid = self.gathered(projected, text, pid, when=self.gather_contrastive)
        return image_text_contrastive_loss(
            projected, text, self.temperature, self.targets, pids=pid
        )

    def parameter_groups(self) -> ParameterGroups:
        """Return the weights and, apart, the biases, told by their names as the authors do."""
        trainable = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        weights = [p for name, p in trainable if "bias" not in name]
        biases = [p for name, p in trainable if "bias" in name]
        return [{"params": weights}, {"params": biases}]

    def on_fit_start(self) -> None:
        """Make sure that the camera embedding has rows for the train split's cameras, and no other.

        The rows of the numbers between them become zeros: at test these are unknown cameras.
        """
        camid = ids(self.datamodule.train, "camid")
        rows = len(self.cameras.table)
        if camid.min() < -1 or camid.max() >= rows:
            raise DataError(
                f"The train split has cameras {camid.min()} to {camid.max()}; the camera embedding "
                f"has rows for 0 to {rows - 1}, and -1 is an unknown camera. Renumber the cameras, "
                "or begin a new run if this one was begun with other data."
            )
        self.cameras.forget_all_but(torch.from_numpy(camid))

    def on_train_epoch_start(self) -> None:
        """Set the gradient reversal's strength of this epoch."""
        super().on_train_epoch_start()
        if self.reversal_schedule == "ramp":
            assert self.trainer.max_epochs is not None
            share = adversarial_ramp(self.current_epoch / self.trainer.max_epochs)
            self.reversal.strength = share * self.reversal_strength

    def _require_possible(self, heads: str, hidden_dim: int, bias_lr_factor: float) -> None:
        for name in ("triplet_weight", "biometric_weight", "non_biometric_weight"):
            value = getattr(self, name)
            require(value >= 0, f"method.{name}", value, "at least 0")
        strength = self.reversal_strength
        require(strength >= 0, "method.reversal_strength", strength, "at least 0")
        require(self.temperature > 0, "method.temperature", self.temperature, "above 0")
        require(hidden_dim >= 1, "method.hidden_dim", hidden_dim, "at least 1")
        require(bias_lr_factor > 0, "method.bias_lr_factor", bias_lr_factor, "above 0")
        fits = self.margin == "soft" if isinstance(self.margin, str) else self.margin >= 0
        require(fits, "method.margin", self.margin, "soft, or a distance, at least 0")
        for name, value, choices in (
            ("distance", self.distance, ("euclidean", "cosine")),
            ("targets", self.targets, ("instance", "identity")),
            ("heads", heads, TEXT_PROJECTIONS),
            ("reversal_schedule", self.reversal_schedule, ("constant", "ramp")),
        ):
            require(value in choices, f"method.{name}", value, f"one of {', '.join(choices)}")
        names = (self.biometric, *self.non_biometric)
        distinct = len(set(names)) == len(names) > 1
        wanted = "at least one perspective, each once and none of them method.biometric"
        require(distinct, "method.non_biometric", list(self.non_biometric), wanted)
        if self.as_released and (self.gather_contrastive or self.targets == "identity"):
            raise ConfigError(
                "method.as_released=true reproduces the released term, which knows neither "
                "method.gather_contrastive nor method.targets=identity. Leave these out."
            )


def _with_faster_biases(make: OptimizerFactory, factor: float) -> OptimizerFactory:
    """The learning rate is the optimiser's setting: only where it is known can it be scaled."""

    def make_optimizer(groups: ParameterGroups) -> Optimizer:
        optimizer = make(groups)
        _weights, biases = optimizer.param_groups
        biases["lr"] *= factor
        return optimizer

    return make_optimizer
