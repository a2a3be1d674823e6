"""From feature map to feature vector."""

from __future__ import annotations

import torch
from torch import Tensor


def average_pool(feature_map: Tensor) -> Tensor:
    """Average over all positions: [B, C, H, W] -> [B, C]."""
    return feature_map.mean(dim=(2, 3))


def max_average_pool(feature_map: Tensor) -> Tensor:
    """Maximum and average over all positions, the maximum first: [B, C, H, W] -> [B, 2C].

    Where several positions share the maximum, one of them receives the gradient.

    Source: CAL (Gu et al., CVPR 2022) and FIRe² (Wang et al., TIFS 2024) pool like this.
    """
    # Not adaptive_max_pool2d: its CUDA backward is refused under deterministic algorithms.
    maximum = feature_map.flatten(2).max(dim=2).values
    return torch.cat([maximum, average_pool(feature_map)], dim=1)
