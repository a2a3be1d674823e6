"""The stages of a timm network by one set of names, whatever the network calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ccreid.errors import ConfigError
from ccreid.models.backbone import Backbone

_NAMES = {4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}


@dataclass(frozen=True)
class Stage:
    """Where a network's map has been shrunk to a certain size for the last time.

    Attributes:
        name: ResNet's name of the stage with this reduction, `layer1` (1/4) to `layer4` (1/32, also
            where the last stride was removed); elsewhere the module's own.
        path: the module in the backbone's network.
        channels: of its output.
        channels_first: its output is [B, C, h, w]; else [B, h, w, C].
    """

    name: str
    path: str
    channels: int
    channels_first: bool


def find_stages(backbone: Backbone, names: Sequence[str], setting: str) -> list[Stage]:
    """Return the stages of these names, or of these module paths (`stages.2`).

    Args:
        backbone: whose stages.
        names: one or more.
        setting: where they were asked for, for the message.

    Raises:
        ConfigError: none or the same one twice is asked for, or one that the network does not have.
    """
    there = stages_of(backbone)
    by_name = {stage.name: stage for stage in there} | {stage.path: stage for stage in there}
    listed = ", ".join(f"{s.name} ({s.path}, {s.channels} channels)" for s in there)
    remedy = f"This network has {listed or 'none: it gives no maps on the way'}."
    if unknown := [name for name in names if name not in by_name]:
        raise ConfigError(f"{setting} names no stage {', '.join(unknown)}. {remedy}")
    stages = [by_name[name] for name in names]
    if not stages or len(set(stages)) < len(stages):
        raise ConfigError(f"{setting}={list(names)}: name one or more, once. {remedy}")
    return stages


def stages_of(backbone: Backbone) -> list[Stage]:
    """Return the stages whose outputs are maps, from the first to the last.

    They are the modules that timm's `feature_info` names; a vision transformer, whose blocks give
    lists of tokens, has none.
    """
    network: Any = backbone.network
    reductions = {info["module"]: info["reduction"] for info in network.feature_info}
    channels_first = getattr(network, "output_fmt", "NCHW") == "NCHW"
    axis = 1 if channels_first else 3
    return [
        Stage(_NAMES.get(reductions[path], path), path, shape[axis], channels_first)
        for path, shape in _output_shapes(backbone, list(reductions)).items()
    ]


def _output_shapes(backbone: Backbone, paths: list[str]) -> dict[str, tuple[int, ...]]:
    """Run the network once and note the 4-d outputs of these modules, where they exist."""
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    modules = dict(backbone.network.named_modules())
    for path in paths:

        def note(_module: nn.Module, _inputs: object, output: object, path: str = path) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                shapes[path] = tuple(output.shape)

        if path in modules:
            handles.append(modules[path].register_forward_hook(note))
    training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, 8 * backbone.reduction, 4 * backbone.reduction))
    finally:
        backbone.train(training)
        for handle in handles:
            handle.remove()
    return shapes
