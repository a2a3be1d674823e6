"""Heads that project an image's feature into the space of text features."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

TEXT_PROJECTIONS = ("clipFc", "clipMLP")
"""What DIFFER's code calls its two kinds of head."""


def text_projection(
    in_features: int, caption_dim: int, kind: str, hidden_dim: int, bias: bool = True
) -> nn.Sequential:
    """Build a head, [B, in_features] -> [B, caption_dim].

    Args:
        in_features: length of the image's feature.
        caption_dim: length of the text features.
        kind: `clipFc`, one linear layer, or `clipMLP`, two with a GELU between them.
        hidden_dim: of `clipMLP`.
        bias: of `clipFc`; `clipMLP` always has biases.

    Raises:
        ValueError: an unknown kind.

    Source: DIFFER (CVPR 2025, arXiv 2503.22912), released code.
    """
    layers: OrderedDict[str, nn.Module]
    if kind == "clipFc":
        layers = OrderedDict(fc=nn.Linear(in_features, caption_dim, bias=bias))
    elif kind == "clipMLP":
        layers = OrderedDict(
            fc1=nn.Linear(in_features, hidden_dim),
            activation=nn.GELU(),
            fc2=nn.Linear(hidden_dim, caption_dim),
        )
    else:
        raise ValueError(f"kind = {kind!r}: choose one of {', '.join(TEXT_PROJECTIONS)}.")
    for layer in layers.values():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(layers)
