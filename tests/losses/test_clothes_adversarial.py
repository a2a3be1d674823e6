"""The clothes-based adversarial loss against the official values and a plain loop."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ccreid.losses import clothes_adversarial_loss

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "cal.npz")
COSINE, TARGET, MASK = (torch.from_numpy(GOLDEN[name]) for name in ("cos", "target", "posmask"))


@pytest.mark.parametrize("scale", [8, 16, 32])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("mask_dtype", [torch.float32, torch.bool])
def test_equals_the_official_values(scale, epsilon, mask_dtype):
    loss = clothes_adversarial_loss(COSINE, TARGET, MASK.to(mask_dtype), scale, epsilon)
    assert loss.item() == pytest.approx(float(GOLDEN[f"loss_s{scale}_e{epsilon}"]), rel=1e-6)


def test_the_defaults_and_the_gradient_are_the_official_ones():
    cosine = COSINE.clone().requires_grad_()
    clothes_adversarial_loss(cosine, TARGET, MASK).backward()
    np.testing.assert_allclose(cosine.grad, GOLDEN["grad_s16_e0.1"], rtol=1e-4, atol=1e-7)


def test_equals_a_plain_loop():
    total = 0.0
    for row, own, members in zip(
        COSINE.tolist(), TARGET.tolist(), MASK.bool().tolist(), strict=True
    ):
        logits = [16 * c for c in row]
        strangers = sum(math.exp(a) for a, m in zip(logits, members, strict=True) if not m)
        outfits = [j for j, m in enumerate(members) if m]
        for j in outfits:
            q = 0.1 / len(outfits) + (0.9 if j == own else 0.0)
            total -= q * (logits[j] - math.log(math.exp(logits[j]) + strangers))
    loss = clothes_adversarial_loss(COSINE.double(), TARGET, MASK)
    assert loss.item() == pytest.approx(total / len(COSINE), rel=1e-9)


def test_a_lone_person_gives_zero_with_a_finite_gradient():
    cosine = torch.rand(4, 3, requires_grad=True)
    loss = clothes_adversarial_loss(cosine, torch.tensor([0, 1, 2, 0]), torch.ones(4, 3))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(cosine.grad, torch.zeros(4, 3))


def test_large_scales_do_not_overflow_in_half_precision():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = clothes_adversarial_loss(COSINE.bfloat16(), TARGET, MASK, scale=1000)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
