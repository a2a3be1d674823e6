"""Body-shape-guided attention (BSGA): one spatial map per stage, predicted, that gates features.

Our reconstruction from the poster of Mu, Li, Li, Yang: "Learning Clothes-irrelevant Cues for
Clothes-Changing Person Re-identification", BMVC 2022. The poster says that a module in the network
learns an attention map under the guidance of a body-shape mask; place, head, gate and target are
inferred from its relatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, max_pool2d

from ccreid.errors import require
from ccreid.models.backbone import Backbone
from ccreid.models.pooling import average_pool
from ccreid.models.stages import Stage, find_stages

GATES = ("mul", "residual", "concat_branch")
TARGETS = ("body", "nonclothes", "contour", "body_no_bag")


class BodyShapeAttention(nn.Module):
    """Predicts an attention map A after stages of a backbone and gates the features F with it.

    It hooks itself into the backbone, whose module names and weights stay what they are; from then
    on every forward of the backbone is gated and leaves its maps here.

    Args:
        backbone: the network to gate.
        stages: after which stages, e.g. `layer3`; see `find_stages`.
        head: `conv256` (1×1 convolution to 256 channels, batch norm, ReLU, 3×3 convolution),
            `deskpro` (1×1 convolution, ReLU, 1×1 convolution, as DeSKPro, arXiv 2208.12023), or
            `cbam7` (7×7 convolution of the channels' mean and maximum, as CBAM, arXiv 1807.06521).
        gate: `mul` (F·A), `residual` (F·(1 + A)), or `concat_branch` (F stays, and the pooled F·A
            is appended to the image's feature).

    Attributes:
        num_features: channels that `pool` appends to the backbone's.

    Raises:
        ConfigError: an unknown choice, or a stage that the backbone does not have.
    """

    def __init__(
        self,
        backbone: Backbone,
        stages: Sequence[str] = ("layer3",),
        head: str = "conv256",
        gate: str = "mul",
    ) -> None:
        super().__init__()
        require(head in HEADS, "method.bsga.head", head, f"one of {', '.join(HEADS)}")
        require(gate in GATES, "method.bsga.gate", gate, f"one of {', '.join(GATES)}")
        chosen = find_stages(backbone, stages, "method.bsga.stages")
        self.gates = nn.ModuleList(_Gate(stage, HEADS[head], gate) for stage in chosen)
        for stage, module in zip(chosen, self._gates(), strict=True):
            # A bound method: a deep copy of the whole network gates with the copy's heads.
            backbone.network.get_submodule(stage.path).register_forward_hook(module.hook)
        self.stages = tuple(stages)
        widens = gate == "concat_branch"
        self.num_features = sum(stage.channels for stage in chosen) if widens else 0

    def pool(self, feature_map: Tensor) -> Tensor:
        """Average the backbone's map and append the branches of its last forward.

        Args:
            feature_map: [B, C, h, w].

        Returns:
            [B, C + num_features].
        """
        branches = [gate.branch for gate in self._gates() if gate.branch is not None]
        return torch.cat([average_pool(feature_map), *branches], dim=1)

    def take_maps(self) -> dict[str, Tensor]:
        """Return the attention [B, 1, h, w] of the backbone's last forward by stage; once."""
        maps = {}
        for stage, gate in zip(self.stages, self._gates(), strict=True):
            assert gate.attention is not None  # the backbone has been called
            maps[stage] = gate.attention
            gate.attention = gate.branch = None
        return maps

    def _gates(self) -> list[_Gate]:
        return [gate for gate in self.gates if isinstance(gate, _Gate)]


class _Gate(nn.Module):
    """Head and gate of one stage; keeps the last map and branch until they are taken."""

    def __init__(self, stage: Stage, head: Callable[[int], nn.Module], gate: str) -> None:
        super().__init__()
        self.head = head(stage.channels)
        self.gate, self.channels_first = gate, stage.channels_first
        self.attention: Tensor | None = None
        self.branch: Tensor | None = None

    def hook(self, _module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        """Replace a stage's output by the gated one."""
        features = output if self.channels_first else output.permute(0, 3, 1, 2)
        attention: Tensor = self.head(features).float().sigmoid()
        self.attention = attention
        weight = attention.to(features.dtype)
        if self.gate == "concat_branch":
            self.branch = average_pool(features * weight)
            return output
        gated = features * (weight if self.gate == "mul" else 1 + weight)
        return gated if self.channels_first else gated.permute(0, 2, 3, 1)


def _conv256(channels: int) -> nn.Module:
    last = nn.Conv2d(256, 1, 3, padding=1)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    first = nn.Conv2d(channels, 256, 1, bias=False)  # the batch norm's shift is its bias
    return nn.Sequential(first, nn.BatchNorm2d(256), nn.ReLU(), last)


def _deskpro(channels: int) -> nn.Module:
    first = nn.Conv2d(channels, channels, 1, bias=False)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(channels, 1, 1, bias=False))


class _CBAM7(nn.Module):
    def __init__(self, _channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        mean, maximum = features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)
        logits: Tensor = self.convolution(torch.cat([mean, maximum], dim=1))
        return logits


HEADS: dict[str, Callable[[int], nn.Module]] = {
    "conv256": _conv256,
    "deskpro": _deskpro,
    "cbam7": _CBAM7,
}


def body_mask(labels: Tensor, kind: str, garments: Sequence[int], bags: Sequence[int]) -> Tensor:
    """Return what the attention should see of a body, [B, H, W] bool.

    Args:
        labels: human parsing, [B, H, W] uint8, 0 = background.
        kind: `body` (all but the background: clothes included, their outline is the shape),
            `nonclothes` (the body without its garments), `contour` (the rim of the body, H / 32
            pixels wide: half a cell of a map of H / 16 rows), or `body_no_bag`.
        garments: labels of garments, for `nonclothes`.
        bags: labels of what is carried, for `body_no_bag`.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in TARGETS:
        raise ValueError(f"kind={kind}: choose one of {', '.join(TARGETS)}.")
    body = labels != 0
    if kind == "contour":
        rim = max(1, labels.shape[-2] // 32)
        outside = max_pool2d((~body).float()[:, None], 2 * rim + 1, stride=1, padding=rim)
        return body & (outside[:, 0] > 0)
    for label in {"nonclothes": garments, "body_no_bag": bags}.get(kind, ()):
        body = body & (labels != label)
    return body


def attention_target(mask: Tensor, size: tuple[int, int], floor: float = 0.1) -> Tensor:
    """Return a mask's share of every cell of a map, at least `floor`: [B, H, W] -> [B, 1, h, w].

    Source: DeSKPro (arXiv 2208.12023) sets empty cells to 0.1; with it no position is fully cut.
    """
    return adaptive_avg_pool2d(mask.float()[:, None], size).clamp(min=floor)
