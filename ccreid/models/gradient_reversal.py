"""Gradient reversal: what a head learns to see, the layers before it learn to hide."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GradientReversal(nn.Module):
    """Identity forward; backward the gradient is multiplied by -strength. Any shape.

    Args:
        strength: α, 0 or more, dimensionless; may be set anew between steps.

    Source: Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation" (ICML 2015).
    """

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength

    def forward(self, features: Tensor) -> Tensor:
        """Return the features as they are."""
        reversed_: Tensor = _Reverse.apply(features, self.strength)  # type: ignore[no-untyped-call]
        return reversed_


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None
