"""The cross-clothes triplet loss against a triple loop, worked examples and degenerate cases."""

import itertools

import pytest
import torch
from torch.nn.functional import normalize

from ccreid.losses import (
    batch_hard_triplet_loss,
    cross_clothes_triplet_loss,
    mine_cross_clothes_triplets,
)

READINGS = {
    "H1": {},
    "H1b": {"include_own": True},
    "H2": {"positives": "all"},
    "H2 with own": {"positives": "all", "include_own": True},
}


def anchors_of_the_loop(
    features,
    pids,
    clothes_ids,
    *,
    erased=None,
    positives="per_outfit_hardest",
    include_own=False,
    distance="euclidean",
    erased_as="extra_outfit",
    fallback="same_outfit",
):
    """Of every anchor: distances to its positives x_j^n, to x_k, and whether it fell back."""
    pids, clothes = pids.tolist(), clothes_ids.tolist()
    twin = [False] * len(pids) if erased is None else erased.tolist()

    def d(i, j):
        if distance == "cosine":
            return 1 - normalize(features[i], dim=0) @ normalize(features[j], dim=0)
        return (features[i] - features[j]).norm()

    def outfit(i):
        return "erased" if twin[i] and erased_as == "extra_outfit" else clothes[i]

    anchors = []
    for i in range(len(pids)):
        seen = [j for j in range(len(pids)) if erased_as != "separate" or twin[i] == twin[j]]
        negatives = [d(i, j) for j in seen if pids[j] != pids[i]]
        groups = {}
        for j in seen:
            if j != i and pids[j] == pids[i]:
                groups.setdefault(outfit(j), []).append(d(i, j))
        own = groups.pop(outfit(i), None)
        if include_own and own is not None:
            groups[outfit(i)] = own
        if positives == "all":
            chosen = list(itertools.chain(*groups.values()))
        else:
            chosen = [max(group) for group in groups.values()]
        fell_back = not chosen and fallback == "same_outfit"
        if fell_back and own is not None:
            chosen = [max(own)]
        if chosen and negatives:
            anchors.append((torch.stack(chosen), min(negatives), fell_back))
    return anchors


def loop_oracle(features, pids, clothes_ids, margin=0.3, *, reduce_n="sum", **settings):
    terms = []
    for chosen, negative, _ in anchors_of_the_loop(features, pids, clothes_ids, **settings):
        hinge = torch.relu(margin + chosen - negative)
        terms.append(hinge.sum() if reduce_n == "sum" else hinge.mean())
    return torch.stack(terms).mean() if terms else features.sum() * 0


def random_batch(seed=0, size=18, twins=True):
    generator = torch.Generator().manual_seed(seed)
    pids = torch.randint(0, 5, (size,), generator=generator)
    pids[0] = 9  # a person with one image
    clothes_ids = 10 * pids + torch.randint(0, 3, (size,), generator=generator)
    if twins:
        pids, clothes_ids = pids.repeat(2), clothes_ids.repeat(2)
    features = torch.randn(len(pids), 6, generator=generator, dtype=torch.float64)
    erased = torch.arange(len(pids)) >= size
    return features, pids, clothes_ids, erased


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("erased_as", ["extra_outfit", "same_outfit", "separate"])
@pytest.mark.parametrize("reading", READINGS)
def test_value_and_gradient_equal_a_triple_loop(reading, erased_as, distance):
    for seed, reduce_n, fallback in [(0, "sum", "same_outfit"), (1, "mean", "skip")]:
        features, pids, clothes_ids, erased = random_batch(seed)
        settings = {
            **READINGS[reading],
            "erased": erased,
            "erased_as": erased_as,
            "distance": distance,
            "reduce_n": reduce_n,
            "fallback": fallback,
        }
        ours, theirs = (features.clone().requires_grad_() for _ in range(2))
        loss = cross_clothes_triplet_loss(ours, pids, clothes_ids, 0.3, **settings)
        expected = loop_oracle(theirs, pids, clothes_ids, 0.3, **settings)
        torch.testing.assert_close(loss, expected)
        loss.backward()
        expected.backward()
        assert expected > 0
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("fallback", ["same_outfit", "skip"])
@pytest.mark.parametrize("reading", READINGS)
def test_without_twins_it_equals_a_triple_loop(reading, fallback):
    features, pids, clothes_ids, _ = random_batch(2, twins=False)
    settings = {**READINGS[reading], "fallback": fallback}
    torch.testing.assert_close(
        cross_clothes_triplet_loss(features, pids, clothes_ids, **settings),
        loop_oracle(features, pids, clothes_ids, **settings),
    )


def test_the_readings_differ_from_each_other():
    features, pids, clothes_ids, erased = random_batch(3)
    values = {
        cross_clothes_triplet_loss(
            features, pids, clothes_ids, erased=erased, erased_as=how, **reading
        ).item()
        for how in ("extra_outfit", "same_outfit", "separate")
        for reading in (READINGS["H1"], READINGS["H1b"], READINGS["H2"])
    }
    assert len(values) == 9


def worked_example():
    """On a line: the anchor at 0; B at 1 and 2, C at 0.5; a stranger at -1.2."""
    features = torch.tensor([[0.0], [1.0], [2.0], [0.5], [-1.2]])
    return features, torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 1, 1, 2, 3])


def test_the_worked_example():
    # The anchor of the specification: max(.3 + 2 - 1.2, 0) + max(.3 + .5 - 1.2, 0) = 1.1.
    # B at 1: .3 + 1 - 2.2 and .3 + .5 - 2.2, B at 2: .3 + 2 - 3.2 and .3 + 1.5 - 3.2: all below 0.
    # C at 0.5: .3 + .5 - 1.7 < 0 and .3 + 1.5 - 1.7 = 0.1. The stranger has no positive.
    loss = cross_clothes_triplet_loss(*worked_example())
    assert loss.item() == pytest.approx((1.1 + 0 + 0 + 0.1) / 4)


def test_a_smaller_margin_leaves_the_worked_anchor_alone():
    # With 0.2 the term of C at 0.5 is 0, too: what is left is max(.2 + 2 - 1.2, 0) = 1.
    features, pids, clothes_ids = worked_example()
    loss = cross_clothes_triplet_loss(features, pids, clothes_ids, margin=0.2)
    assert loss.item() == pytest.approx(1.0 / 4)


def test_the_statistics_of_the_worked_example():
    triplets = mine_cross_clothes_triplets(*worked_example())
    found = triplets.statistics(0.3)
    # Triplets: anchor (2, .5), B1 (1, .5), B2 (2, 1.5), C (.5, 1.5); of the 8, two are active.
    assert found["active"].item() == pytest.approx(2 / 8)
    assert found["positive_distance"].item() == pytest.approx(9.5 / 8)
    assert found["negative_distance"].item() == pytest.approx(2 * (1.2 + 2.2 + 3.2 + 1.7) / 8)
    assert found["positives"].item() == pytest.approx(2)
    assert found["fallback"].item() == 0
    assert found["unused"].item() == pytest.approx(1 / 5)
    assert triplets.cross_clothes_positives()[triplets.used].tolist() == [2, 2, 2, 2]


def share_without_a_real_pair(pids, clothes_ids, erased):
    rows = [
        (p, c)
        for p, c, e in zip(*(t.tolist() for t in (pids, clothes_ids, erased)), strict=True)
        if not e
    ]
    alone = [not any(q == p and d != c for q, d in rows) for p, c in rows]
    return torch.tensor(alone).double().mean()


def test_twins_do_not_hide_that_nobody_changes_clothes():
    pids = torch.arange(8).repeat(2)
    erased = torch.arange(16) >= 8
    triplets = mine_cross_clothes_triplets(torch.rand(16, 4), pids, pids, erased=erased)
    found = triplets.statistics(0.3)
    assert found["fallback"].item() == 0  # a twin is another outfit
    assert found["unpaired"].item() == 1


@pytest.mark.parametrize("erased_as", ["extra_outfit", "same_outfit", "separate"])
@pytest.mark.parametrize("reading", READINGS)
def test_statistics_equal_a_triple_loop(reading, erased_as):
    features, pids, clothes_ids, erased = random_batch(4)
    settings = {**READINGS[reading], "erased": erased, "erased_as": erased_as}
    triplets = mine_cross_clothes_triplets(features, pids, clothes_ids, **settings)
    found = triplets.statistics(0.3)
    anchors = anchors_of_the_loop(features, pids, clothes_ids, **settings)
    positive = torch.cat([chosen for chosen, _, _ in anchors])
    negative = torch.cat([n.expand(len(chosen)) for chosen, n, _ in anchors])
    counts = torch.tensor([0 if fell_back else len(c) for c, _, fell_back in anchors])
    expected = {
        "active": (0.3 + positive - negative > 0).double().mean(),
        "positive_distance": positive.mean(),
        "negative_distance": negative.mean(),
        "positives": counts.double().mean(),
        "fallback": torch.tensor([f for _, _, f in anchors]).double().mean(),
        "unused": torch.tensor(1 - len(anchors) / len(pids)),
        "unpaired": share_without_a_real_pair(pids, clothes_ids, erased),
    }
    number = triplets.cross_clothes_positives()[triplets.used]
    assert sorted(number.tolist()) == sorted(counts.tolist())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value.double(), msg=name)


@pytest.mark.parametrize("include_own", [False, True])
def test_one_outfit_each_without_twins_is_batch_hard(include_own):
    features, pids, _, _ = random_batch(5, twins=False)
    ours, theirs = (features.clone().requires_grad_() for _ in range(2))
    loss = cross_clothes_triplet_loss(ours, pids, 7 * pids, include_own=include_own)
    expected = batch_hard_triplet_loss(theirs, pids)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_fallback_is_counted():
    features, pids, _, _ = random_batch(5, twins=False)
    triplets = mine_cross_clothes_triplets(features, pids, 7 * pids)
    assert triplets.statistics(0.3)["fallback"] == 1
    skipped = cross_clothes_triplet_loss(features, pids, 7 * pids, fallback="skip")
    assert skipped.item() == 0


def test_a_twin_ties_an_image_to_its_erased_self():
    # One image each: the only positive is the erased twin.
    features = torch.tensor([[0.0], [5.0], [0.7], [5.9]])
    pids, erased = torch.tensor([0, 1, 0, 1]), torch.tensor([False, False, True, True])
    loss = cross_clothes_triplet_loss(features, pids, pids, margin=10.0, erased=erased)
    # Positives .7, .9, .7, .9; nearest strangers 5, 4.3, 4.3, 5.2.
    assert loss.item() == pytest.approx(((5.7 + 6.6 + 6.4 + 5.7) / 4), abs=1e-5)
    apart = cross_clothes_triplet_loss(
        features, pids, pids, margin=10.0, erased=erased, erased_as="separate"
    )
    assert apart.item() == 0


@pytest.mark.parametrize("pids", [[4, 4, 4, 4], [0, 1, 2, 3], [0]])
@pytest.mark.parametrize("settings", [{}, {"positives": "all"}, {"distance": "cosine"}])
def test_without_a_triplet_the_loss_is_zero_and_connected(pids, settings):
    features = torch.randn(len(pids), 8, requires_grad=True)
    pids = torch.tensor(pids)
    loss = cross_clothes_triplet_loss(features, pids, torch.arange(len(pids)), **settings)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(features.grad, torch.zeros_like(features))


def test_identical_features_give_the_margin_and_a_finite_gradient():
    features = torch.ones(6, 8, requires_grad=True)
    pids = torch.tensor([0, 0, 0, 1, 1, 1])
    # Two equally far images of one outfit count once: outfits {0, 1}, so N = 1 for everybody.
    loss = cross_clothes_triplet_loss(features, pids, torch.tensor([0, 1, 1, 2, 3, 3]))
    loss.backward()
    assert loss.item() == pytest.approx(0.3)
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("erased_as", ["extra_outfit", "separate"])
def test_the_order_of_the_batch_does_not_matter(erased_as):
    features, pids, clothes_ids, erased = random_batch(6)
    order = torch.randperm(len(pids), generator=torch.Generator().manual_seed(0))
    whole = cross_clothes_triplet_loss(
        features, pids, clothes_ids, erased=erased, erased_as=erased_as
    )
    shuffled = cross_clothes_triplet_loss(
        features[order],
        pids[order],
        clothes_ids[order],
        erased=erased[order],
        erased_as=erased_as,
    )
    torch.testing.assert_close(whole, shuffled)


def test_outfits_are_told_apart_within_a_person_only():
    features, pids, clothes_ids, _ = random_batch(7, twins=False)
    shared = clothes_ids % 10  # two people may wear "outfit 1"
    torch.testing.assert_close(
        cross_clothes_triplet_loss(features, pids, shared),
        cross_clothes_triplet_loss(features, pids, clothes_ids),
    )


def test_near_duplicates_far_from_the_origin_keep_their_distance():
    features = torch.full((4, 16), 100.0)
    features[1, 0] += 0.25
    features[2, 1] += 0.5
    features[3, 1] += 0.625
    pids, clothes_ids = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 2, 3])
    expected = loop_oracle(features.double(), pids, clothes_ids)
    loss = cross_clothes_triplet_loss(features, pids, clothes_ids)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_computes_in_float32_for_low_precision_and_under_autocast(distance):
    features, pids, clothes_ids, erased = random_batch(8)
    features = features.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = cross_clothes_triplet_loss(
            features, pids, clothes_ids, erased=erased, distance=distance
        )
    loss.backward()
    assert loss.dtype == torch.float32
    assert features.grad.dtype == torch.bfloat16
    expected = loop_oracle(
        features.detach().float(), pids, clothes_ids, erased=erased, distance=distance
    )
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("setting", ["positives", "distance", "erased_as", "reduce_n", "fallback"])
def test_an_unknown_choice_lists_the_choices(setting):
    features, pids, clothes_ids, _ = random_batch(9, twins=False)
    with pytest.raises(ValueError, match=f"{setting}=other: choose one of"):
        cross_clothes_triplet_loss(features, pids, clothes_ids, **{setting: "other"})
