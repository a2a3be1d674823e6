"""From feature map to feature vector; in float32 or better, also of half-precision maps.

A mean rounded to bfloat16 is off by up to 0.4 %, which distances and clusters of features see; the
sum is taken in float32 anyway, so that keeping it costs nothing that could be measured.
"""

from __future__ import annotations

import torch
from torch import Tensor


def average_pool(feature_map: Tensor) -> Tensor:
    """Average over all positions, and over the frames of clips: [B, (T,) C, H, W] -> [B, C]."""
    return _over_frames(feature_map.mean(dim=(-2, -1), dtype=_at_least_float32(feature_map)))


def max_average_pool(feature_map: Tensor) -> Tensor:
    """Maximum and average over all positions, the maximum first: [B, C, H, W] -> [B, 2C].

    Clips [B, T, C, H, W] are pooled frame by frame, then averaged over their frames, so that a
    clip's feature is the mean of what its frames would give alone.

    Where several positions share the maximum, one of them receives the gradient.

    Source: CAL (Gu et al., CVPR 2022) and FIRe² (Wang et al., TIFS 2024) pool like this.
    """
    return torch.cat([max_pool(feature_map), average_pool(feature_map)], dim=1)


def max_pool(feature_map: Tensor) -> Tensor:
    """Maximum over all positions: [B, C, H, W] -> [B, C]; of clips the mean over their frames.

    Source: CAL's video network.
    """
    # Not adaptive_max_pool2d: its CUDA backward is refused under deterministic algorithms.
    maximum = feature_map.flatten(-2).max(dim=-1).values
    return _over_frames(maximum.to(_at_least_float32(feature_map)))


POOLINGS = {
    "average": (average_pool, 1),
    "max": (max_pool, 1),
    "max_average": (max_average_pool, 2),
}
"""Poolings by name, and how many numbers each gives per channel."""


def _at_least_float32(feature_map: Tensor) -> torch.dtype:
    return torch.promote_types(feature_map.dtype, torch.float32)


def _over_frames(pooled: Tensor) -> Tensor:
    """Average clips [B, T, C] over their frames; images [B, C] stay."""
    return pooled.mean(dim=1) if pooled.ndim == 3 else pooled
