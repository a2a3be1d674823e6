"""Similarities that decide a loss are computed in fp32, whatever the network computes in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize


def cosine_similarity(features: Tensor, weights: Tensor) -> Tensor:
    """Return the cosine of every feature with every weight vector, in fp32.

    Args:
        features: [B, D].
        weights: [M, D].

    Returns:
        [B, M] float32. Under autocast the product would be taken in half precision, whose error a
        temperature of 1/16 multiplies by 16.
    """
    with torch.autocast(features.device.type, enabled=False):
        return linear(normalize(features.float()), normalize(weights.float()))
