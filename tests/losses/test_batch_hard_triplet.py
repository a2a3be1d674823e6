"""The batch-hard triplet loss against a triple loop, and its degenerate batches."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ccreid.losses import batch_hard_triplet_loss

with np.load(Path(__file__).parents[1] / "golden" / "differ.npz") as golden:
    DIFFER = {k: torch.from_numpy(golden[k]) for k in golden.files if k.startswith("triplet/")}


def loop_oracle(features, pids, margin=0.3):
    """Largest violation of each anchor over all its triplets, averaged."""
    terms = []
    for a in range(len(pids)):
        violations = []
        for p in range(len(pids)):
            for n in range(len(pids)):
                if a != p and pids[a] == pids[p] and pids[a] != pids[n]:
                    d_ap = (features[a] - features[p]).norm()
                    d_an = (features[a] - features[n]).norm()
                    violations.append(torch.relu(d_ap - d_an + margin))
        if violations:
            terms.append(torch.stack(violations).max())
    return torch.stack(terms).mean()


BATCHES = {
    "balanced": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "unbalanced": [3, 0, 0, 7, 3, 3, 3, 7, 0, 3],
    "with single images": [0, 1, 1, 2, 5, 5, 5, 9],
}


@pytest.mark.parametrize("pids", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("margin", [0.3, 5.0])
def test_value_and_gradient_equal_a_triple_loop(pids, margin):
    pids = torch.tensor(pids)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(len(pids), 6, generator=generator, dtype=torch.float64)
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    loss, expected = batch_hard_triplet_loss(ours, pids, margin), loop_oracle(theirs, pids, margin)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert torch.autograd.gradcheck(
        lambda x: batch_hard_triplet_loss(x, pids, margin), features.clone().requires_grad_()
    )


@pytest.mark.parametrize("pids", [[4, 4, 4, 4], [0, 1, 2, 3], [0]])
def test_without_a_triplet_the_loss_is_zero_and_connected(pids):
    features = torch.randn(len(pids), 8, requires_grad=True)
    loss = batch_hard_triplet_loss(features, torch.tensor(pids))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_identical_features_give_the_margin_and_a_finite_gradient():
    features = torch.ones(6, 8, requires_grad=True)
    loss = batch_hard_triplet_loss(features, torch.tensor([0, 0, 0, 1, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert torch.isfinite(features.grad).all()


def test_near_duplicates_far_from_the_origin_keep_their_distance():
    # |a|^2 + |b|^2 - 2ab would lose these differences altogether in float32.
    features = torch.full((4, 16), 100.0)
    features[1, 0] += 0.25
    features[2, 1] += 0.5
    features[3, 1] += 0.625
    pids = torch.tensor([0, 0, 1, 1])
    expected = loop_oracle(features.double(), pids)
    torch.testing.assert_close(batch_hard_triplet_loss(features, pids).double(), expected)


def test_computes_in_float32_for_low_precision_and_under_autocast():
    pids = torch.tensor(BATCHES["unbalanced"])
    features = torch.randn(len(pids), 32).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = batch_hard_triplet_loss(features, pids)
    loss.backward()
    assert loss.dtype == torch.float32
    assert features.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, loop_oracle(features.detach().float(), pids))


def test_gradients_are_the_same_every_time():
    # Large enough for several threads to add into one row at once.
    features = torch.randn(64, 4096, generator=torch.Generator().manual_seed(0))
    pids = torch.arange(64) // 8

    def gradient():
        leaf = features.clone().requires_grad_()
        batch_hard_triplet_loss(leaf, pids, margin=100.0).backward()
        return leaf.grad

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(20))


def test_soft_and_hard_margin_of_the_official_example():
    x, y = DIFFER["triplet/x"], DIFFER["triplet/y"]
    torch.testing.assert_close(batch_hard_triplet_loss(x, y, margin="soft"), DIFFER["triplet/soft"])
    torch.testing.assert_close(batch_hard_triplet_loss(x, y, margin=0.3), DIFFER["triplet/m03"])


@pytest.mark.parametrize("case", ["ok", "dup", "two", "three"])
def test_soft_margin_is_mined_rightly_for_any_number_of_images(case):
    loss = batch_hard_triplet_loss(DIFFER["triplet/batch_x"], DIFFER[f"triplet/{case}_y"], "soft")
    torch.testing.assert_close(loss, DIFFER[f"triplet/{case}_correct"])


def test_soft_margin_without_a_triplet_is_zero_and_its_gradient_is_right():
    features = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    assert batch_hard_triplet_loss(features, torch.zeros(6), "soft").item() == 0
    pids = torch.tensor([0, 0, 1, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x: batch_hard_triplet_loss(x, pids, "soft"), features)


def test_an_unknown_margin_is_refused():
    with pytest.raises(ValueError, match="'soft'"):
        batch_hard_triplet_loss(torch.randn(4, 2), torch.tensor([0, 0, 1, 1]), "sofft")
