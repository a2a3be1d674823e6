"""Gradient reversal: identity forward, the gradient turned round backward."""

import pytest
import torch

from ccreid.models import GradientReversal


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_forward_is_the_identity_and_backward_turns_the_gradient_round(strength):
    x, weight = torch.randn(2, 3, 4)
    x.requires_grad_()
    y = GradientReversal(strength)(x)
    assert torch.equal(y, x)
    (weight * y).sum().backward()
    torch.testing.assert_close(x.grad, -strength * weight)


def test_the_strength_may_change_between_steps():
    reversal, x = GradientReversal(), torch.ones(3, requires_grad=True)
    gradients = []
    for strength in (0.25, 2.0):
        reversal.strength = strength
        gradients.append(torch.autograd.grad(reversal(x).sum(), x)[0][0].item())
    assert gradients == [-0.25, -2.0]


def test_keeps_low_precision():
    x = torch.randn(4).bfloat16().requires_grad_()
    GradientReversal(0.5)(x).sum().backward()
    assert x.grad.dtype == torch.bfloat16
    assert x.grad.tolist() == [-0.5] * 4
