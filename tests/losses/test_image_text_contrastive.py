"""DIFFER's contrastive losses against the official values and gradients, and closed forms."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, linear

from ccreid.losses import (
    batch_hard_triplet_loss,
    image_text_contrastive_loss,
    released_reverse_loss,
)
from ccreid.models import GradientReversal

with np.load(Path(__file__).parents[1] / "golden" / "differ.npz") as golden:
    GOLDEN = {k: torch.from_numpy(golden[k]) for k in golden.files if k.startswith("loss/")}


def official_inputs():
    names = ("feat", "W_bio", "b_bio", "W_non", "cls_w", "cls_b")
    return {name: GOLDEN[f"loss/in_{name}"].clone().requires_grad_() for name in names}


def terms(x, release):
    """All four terms from our parts; `first` is the first commit, `head` the released code."""
    pid, caption = GOLDEN["loss/in_target"], GOLDEN["loss/in_caption"]
    hidden = GradientReversal()(x["feat"])
    projected = torch.stack([linear(hidden, weight) for weight in x["W_non"]], dim=1)
    if release == "head":
        reverse = released_reverse_loss(projected, caption[:, 1:])
    else:
        reverse = sum(
            image_text_contrastive_loss(projected[:, k], caption[:, 1 + k]) for k in range(2)
        )
    biometric = linear(x["feat"], x["W_bio"], x["b_bio"])
    return {
        "ce": cross_entropy(linear(x["feat"], x["cls_w"], x["cls_b"]), pid),
        "triplet": batch_hard_triplet_loss(x["feat"], pid, margin="soft"),
        "bio": image_text_contrastive_loss(biometric, caption[:, 0]),
        "rev": reverse,
    }


@pytest.mark.parametrize("release", ["first", "head"])
@pytest.mark.parametrize("term", ["ce", "triplet", "bio", "rev", "all"])
def test_every_term_and_its_gradients_equal_the_official_ones(release, term):
    x = official_inputs()
    losses = terms(x, release)
    loss = sum(losses.values()) if term == "all" else losses[term]
    loss.backward()
    torch.testing.assert_close(loss.detach(), GOLDEN[f"loss/{release}_{term}"])
    gradients = {"gradfeat": "feat", "gradWbio": "W_bio", "gradWnon": "W_non"}
    wanted = [
        f"loss/{release}_{term}_{g}" for g in gradients if f"loss/{release}_{term}_{g}" in GOLDEN
    ]
    assert wanted
    for name in wanted:
        ours = x[gradients[name.rsplit("_", 1)[1]]].grad
        torch.testing.assert_close(ours, GOLDEN[name], rtol=1e-4, atol=1e-7)


def test_the_released_term_reaches_only_the_first_images():
    x = official_inputs()
    terms(x, "head")["rev"].backward()
    assert x["feat"].grad.norm(dim=1).nonzero().flatten().tolist() == [0, 1]


def test_the_head_descends_and_what_is_before_it_ascends():
    x, direct = official_inputs(), official_inputs()
    text = GOLDEN["loss/in_caption"][:, 1]
    reversed_ = linear(GradientReversal(0.5)(x["feat"]), x["W_non"][0])
    image_text_contrastive_loss(reversed_, text).backward()
    image_text_contrastive_loss(linear(direct["feat"], direct["W_non"][0]), text).backward()
    torch.testing.assert_close(x["W_non"].grad, direct["W_non"].grad)
    torch.testing.assert_close(x["feat"].grad, -0.5 * direct["feat"].grad)


def test_closed_forms_of_a_perfect_match():
    eye = torch.eye(8)
    assert image_text_contrastive_loss(eye, eye).item() == pytest.approx(math.log(1 + 7 / math.e))
    pairs = torch.eye(4).repeat_interleave(2, dim=0)
    assert image_text_contrastive_loss(pairs, pairs).item() == pytest.approx(
        math.log(2) + math.log(1 + 3 / math.e)
    )
    # Both texts of a person are right: the uncertainty between the two stays, and no more.
    by_person = image_text_contrastive_loss(
        eye, eye, targets="identity", pids=torch.arange(8) // 2
    ).item()
    denominator = math.log(math.e + 7)
    assert by_person == pytest.approx(denominator - 0.5)


def test_chance_and_floor():
    same = torch.ones(16, 4)
    assert image_text_contrastive_loss(same, same).item() == pytest.approx(math.log(16))
    apart = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert image_text_contrastive_loss(apart, apart).item() == pytest.approx(
        math.log(1 + math.exp(-2))
    )
    cold = image_text_contrastive_loss(apart, apart, temperature=0.1).item()
    assert cold == pytest.approx(math.log(1 + math.exp(-20)), abs=1e-7)


def loop_oracle(projected, text, temperature, pids):
    """Mean over images of the mean over the right texts, in plain Python."""
    total = 0.0
    for i, image in enumerate(projected):
        logits = [(image @ t / image.norm() / t.norm() / temperature).item() for t in text]
        normaliser = math.log(sum(math.exp(x) for x in logits))
        right = [j for j in range(len(text)) if pids[i] == pids[j]]
        total -= sum(logits[j] - normaliser for j in right) / len(right)
    return total / len(projected)


@pytest.mark.parametrize("pids", [[0, 1, 2, 3, 4, 5], [0, 0, 0, 1, 2, 2], [7] * 6])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_both_targets_equal_a_plain_loop(pids, temperature):
    generator = torch.Generator().manual_seed(0)
    projected, text = torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    pids = torch.tensor(pids)
    loss = image_text_contrastive_loss(projected, text, temperature, "identity", pids)
    assert loss.item() == pytest.approx(loop_oracle(projected, text, temperature, pids), rel=1e-12)
    instance = image_text_contrastive_loss(projected, text, temperature)
    alone = loop_oracle(projected, text, temperature, torch.arange(6))
    assert instance.item() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("targets", ["instance", "identity"])
def test_gradient(targets):
    projected, text = torch.randn(2, 5, 4, dtype=torch.float64)
    pids = torch.tensor([0, 0, 1, 1, 2])
    assert torch.autograd.gradcheck(
        lambda x: image_text_contrastive_loss(x, text, 0.5, targets, pids),
        projected.requires_grad_(),
    )


def test_the_order_of_the_batch_does_not_matter_to_the_right_loss_but_to_the_released_one():
    projected, text = torch.randn(2, 8, 2, 5, generator=torch.Generator().manual_seed(0))
    order = torch.arange(8).flip(0)
    for k in range(2):
        torch.testing.assert_close(
            image_text_contrastive_loss(projected[:, k], text[:, k]),
            image_text_contrastive_loss(projected[order, k], text[order, k]),
        )
    one, other = (released_reverse_loss(projected[o], text[o]) for o in (torch.arange(8), order))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("loss", ["right", "released"])
def test_computes_in_float32_for_low_precision_and_under_autocast(loss):
    projected, text = torch.randn(2, 8, 2, 32).bfloat16()
    if loss == "right":
        function, projected, text = image_text_contrastive_loss, projected[:, 0], text[:, 0]
    else:
        function = released_reverse_loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = function(projected, text, 0.01)  # cold, so that a rounded product would show
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, function(projected.float(), text.float(), 0.01))


def test_zero_rows_have_a_finite_gradient():
    projected = torch.zeros(4, 3, requires_grad=True)
    image_text_contrastive_loss(projected, torch.zeros(4, 3)).backward()
    assert torch.isfinite(projected.grad).all()


def test_what_cannot_be_computed_is_refused():
    x = torch.randn(4, 3)
    with pytest.raises(ValueError, match="needs pids"):
        image_text_contrastive_loss(x, x, targets="identity")
    with pytest.raises(ValueError, match="instance or identity"):
        image_text_contrastive_loss(x, x, targets="person")
    with pytest.raises(ValueError, match="give two"):
        image_text_contrastive_loss(x, x[:2])
    with pytest.raises(ValueError, match="give two"):
        released_reverse_loss(x, x)
    few = torch.randn(1, 2, 3)
    with pytest.raises(ValueError, match="the batch has 1"):
        released_reverse_loss(few, few)
