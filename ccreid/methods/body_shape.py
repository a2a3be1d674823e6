"""Settings of BSGA and of BCTri in CRE/BSGA; our reconstruction from the poster (BMVC 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import Tensor

from ccreid.data.parsing.schemas import GARMENT
from ccreid.errors import require
from ccreid.losses.body_attention import ATTENTION_LOSSES
from ccreid.losses.cross_clothes_triplet import (
    DISTANCES,
    ERASED_AS,
    FALLBACKS,
    POSITIVES,
    REDUCTIONS,
)
from ccreid.methods.clothes_erasure import label_numbers
from ccreid.models import Backbone
from ccreid.models.attention import TARGETS, BodyShapeAttention, attention_target, body_mask


@dataclass(frozen=True)
class BodyShape:
    """Settings of Body-Shape-Guided Attention (BSGA).

    Attributes:
        enabled: off: no attention at all.
        stages, head, gate: see `models.attention.BodyShapeAttention`.
        mask: what the attention should see; see `models.attention.body_mask`.
        target_floor: least value of the target, so that nothing is fully cut.
        loss: see `losses.body_attention.attention_loss`.
        weight: w_att.

    Raises:
        ConfigError: an impossible setting.
    """

    enabled: bool = True
    stages: Sequence[str] = ("layer3",)
    head: str = "conv256"
    gate: str = "mul"
    mask: str = "body"
    target_floor: float = 0.1
    loss: str = "mse"
    weight: float = 1.0

    def __post_init__(self) -> None:
        for name, choices in (("mask", TARGETS), ("loss", ATTENTION_LOSSES)):
            value = getattr(self, name)
            require(value in choices, f"method.bsga.{name}", value, f"one of {', '.join(choices)}")
        floor = self.target_floor
        require(0 <= floor < 1, "method.bsga.target_floor", floor, "at least 0 and below 1")
        require(self.weight >= 0, "method.bsga.weight", self.weight, "at least 0")

    def build(self, backbone: Backbone) -> BodyShapeAttention:
        """Hook the attention into the backbone."""
        return BodyShapeAttention(backbone, tuple(self.stages), self.head, self.gate)

    def target(self, labels: Tensor, attention: Tensor) -> Tensor:
        """Return what an attention map [M, 1, h, w] should be of masks [B, H, W]: [B, 1, h, w]."""
        garments, bags = label_numbers(GARMENT), label_numbers(["bag"])
        mask = body_mask(labels, self.mask, garments, bags)
        return attention_target(mask, (attention.shape[2], attention.shape[3]), self.target_floor)


@dataclass(frozen=True)
class BCTri:
    """Settings of the Batch Cross-clothes Triplet mining (BCTri).

    Attributes:
        positives, include_own, distance, erased_as, reduce_n, fallback: see
            `losses.cross_clothes_triplet.cross_clothes_triplet_loss`. The distance is that of
            `method.triplet=batch_hard`, too.

    Raises:
        ConfigError: an unknown choice.
    """

    positives: str = "per_outfit_hardest"
    include_own: bool = False
    distance: Literal["euclidean", "cosine"] = "euclidean"
    erased_as: str = "extra_outfit"
    reduce_n: str = "sum"
    fallback: str = "same_outfit"

    def __post_init__(self) -> None:
        for name, choices in (
            ("positives", POSITIVES),
            ("distance", DISTANCES),
            ("erased_as", ERASED_AS),
            ("reduce_n", REDUCTIONS),
            ("fallback", FALLBACKS),
        ):
            value = getattr(self, name)
            require(value in choices, f"method.bctri.{name}", value, f"one of {', '.join(choices)}")

    @property
    def mining(self) -> dict[str, Any]:
        """What the triplets are mined with."""
        names = [field.name for field in fields(self) if field.name != "reduce_n"]
        return {name: getattr(self, name) for name in names}
