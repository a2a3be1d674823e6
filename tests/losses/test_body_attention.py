"""Attention and consistency losses against closed forms."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from ccreid.losses import attention_loss, twin_consistency_loss

A = torch.tensor([[[[0.5, 0.25]]], [[[1.0, 0.0]]], [[[0.9, 0.9]]]])
T = torch.tensor([[[[1.0, 0.25]]], [[[1.0, 0.1]]], [[[0.1, 0.1]]]])
TRUSTED = torch.tensor([True, True, False])

EXPECTED = {
    "mse": (0.125 + 0.005) / 2,
    # 1 - 2·(.5 + .0625) / (.3125 + 1.0625) and 1 - 2·1 / (1 + 1.01)
    "dice": ((1 - 1.125 / 1.375) + (1 - 2 / 2.01)) / 2,
}
EXPECTED["mse+dice"] = EXPECTED["mse"] + EXPECTED["dice"]


@pytest.mark.parametrize("kind", EXPECTED)
def test_closed_forms_over_the_trusted_images(kind):
    assert attention_loss(A, T, TRUSTED, kind).item() == pytest.approx(EXPECTED[kind], abs=1e-6)


def test_cross_entropy_with_soft_targets_also_under_autocast():
    expected = binary_cross_entropy(A[:2].clamp(1e-6, 1 - 1e-6), T[:2])
    inside = A.clamp(1e-6, 1 - 1e-6)
    torch.testing.assert_close(attention_loss(inside, T, TRUSTED, "bce"), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(attention_loss(inside, T, TRUSTED, "bce"), expected)
    assert torch.isfinite(attention_loss(A, T, TRUSTED, "bce"))  # also where A is exactly 0 or 1


@pytest.mark.parametrize("kind", ["mse", "dice", "mse+dice"])
def test_a_target_that_is_met_costs_nothing(kind):
    assert attention_loss(T, T, TRUSTED, kind).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["mse", "bce", "dice", "mse+dice"])
def test_without_a_trusted_mask_the_loss_is_zero_and_connected(kind):
    attention = A.clone().requires_grad_()
    loss = attention_loss(attention, T, torch.zeros(3, dtype=torch.bool), kind)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(attention.grad, torch.zeros_like(A))


def test_unknown_kinds_list_the_choices():
    with pytest.raises(ValueError, match="mse, bce, dice"):
        attention_loss(A, T, TRUSTED, "l1")
    with pytest.raises(ValueError, match="mse, ps_sigmoid, cosine"):
        twin_consistency_loss(A[:, 0, 0], A[:, 0, 0], kind="l1")


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("mse", 2.5, 0.0),  # (1² + 2²) / 2
        ("ps_sigmoid", 0.9933071, 0.5),  # of 5 and of 0
        ("cosine", 1.0, 0.0),
    ],
)
def test_consistency_closed_forms(kind, first, second):
    features = torch.tensor([[1.0, 0.0], [3.0, 4.0]])
    twins = torch.tensor([[0.0, 2.0], [3.0, 4.0]])
    both = twin_consistency_loss(features, twins, kind=kind)
    assert both.item() == pytest.approx((first + second) / 2, abs=1e-6)
    kept = torch.tensor([True, False])
    assert twin_consistency_loss(features, twins, kept, kind).item() == pytest.approx(
        first, abs=1e-6
    )
    two_each = twin_consistency_loss(features, torch.cat([twins, features]), kind=kind)
    none = {"mse": 0.0, "ps_sigmoid": 0.5, "cosine": 0.0}[kind]
    assert two_each.item() == pytest.approx((first + second + 2 * none) / 4, abs=1e-6)


def test_consistency_without_a_kept_twin_is_zero_and_connected():
    features = torch.randn(3, 4, requires_grad=True)
    loss = twin_consistency_loss(features, features + 1, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros(3, 4))
