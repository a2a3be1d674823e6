"""The attribute-aware loss against the official values and a plain loop."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ccreid.losses import attribute_aware_loss

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "fire2.npz")


@pytest.mark.parametrize(("scale", "epsilon"), [(16, 0.1), (16, 0.3), (8, 0.0), (32, 1.0)])
@pytest.mark.parametrize("mask_dtype", [torch.float32, torch.bool])
def test_equals_the_official_values(scale, epsilon, mask_dtype):
    loss = attribute_aware_loss(
        torch.from_numpy(GOLDEN["attr_cos"]),
        torch.from_numpy(GOLDEN["attr_target"]),
        torch.from_numpy(GOLDEN["attr_posmask"]).to(mask_dtype),
        tau=1 / scale,
        epsilon=epsilon,
    )
    assert loss.item() == pytest.approx(float(GOLDEN[f"attr_loss_s{scale}_e{epsilon}"]), rel=1e-6)


def example(batch=5, clusters=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    owner = torch.tensor([0, 0, 0, 1, 1, 2, 2])  # identity of each cluster
    target = torch.randint(clusters, (batch,), generator=generator)
    cosine = torch.rand(batch, clusters, generator=generator, dtype=torch.float64) * 2 - 1
    return cosine.to(dtype), target, owner[None, :] == owner[target][:, None]


def test_equals_a_plain_loop_and_its_defaults_are_the_papers():
    cosine, target, mask = example()
    total = 0.0
    for i, row in enumerate(cosine.tolist()):
        logits = [16 * c for c in row]
        normaliser = math.log(sum(math.exp(x) for x in logits))
        members = [j for j in range(len(row)) if mask[i, j]]
        for j in members:
            weight = 0.1 / len(members) + (0.9 if j == target[i] else 0.0)
            total -= weight * (logits[j] - normaliser)
    expected = total / len(cosine)
    assert attribute_aware_loss(cosine, target, mask).item() == pytest.approx(expected, rel=1e-12)


def test_gradient():
    cosine, target, mask = example()
    assert torch.autograd.gradcheck(
        lambda c: attribute_aware_loss(c, target, mask), cosine.requires_grad_()
    )


def test_own_cluster_is_a_member_even_if_the_mask_forgets_it():
    cosine, target, mask = example()
    forgetful = mask.clone()
    forgetful[torch.arange(len(target)), target] = False
    expected = attribute_aware_loss(cosine, target, mask)
    torch.testing.assert_close(attribute_aware_loss(cosine, target, forgetful), expected)


def test_computes_in_float32_for_low_precision_and_under_autocast():
    cosine, target, mask = example(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = attribute_aware_loss(cosine, target, mask)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, attribute_aware_loss(cosine.float(), target, mask))
