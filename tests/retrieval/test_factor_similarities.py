"""What a change costs, on features whose answer is known in closed form."""

import math

import numpy as np
import pytest
import torch

from ccreid.errors import DataError
from ccreid.retrieval.factors import factor_similarities

# Four people at the levels of four factors; a person's first row is shared by all factors.
PEOPLE, FACTORS = 4, ("clothes", "camera", "yaw")
LEVELS = {
    factor: np.array([[10 * p, 10 * p + 3 * f + 1, 10 * p + 3 * f + 2] for p in range(PEOPLE)])
    for f, factor in enumerate(FACTORS)
}
# Everybody is seen by cameras 0, 1 and 2, first by camera 0: others are everybody else's first row.
OTHERS = np.array([[10 * q for q in range(PEOPLE) if q != p] for p in range(PEOPLE)])


def one_hot(*ids):
    """An own direction for every distinct id."""
    known = {}
    index = [known.setdefault(each, len(known)) for each in zip(*ids, strict=True)]
    return np.eye(10 * PEOPLE)[index]


def features(person=0.0, clothes=0.0, camera=0.0, spot=0.0, yaw=0.0):
    """Features that encode these, side by side, with these squared lengths."""
    pid = np.repeat(np.arange(PEOPLE), 10)
    level = {factor: np.zeros(10 * PEOPLE, dtype=int) for factor in FACTORS}
    for factor, rows in LEVELS.items():
        for k in range(3):
            level[factor][rows[:, k]] = k
    parts = {
        "person": (person, one_hot(pid)),
        "clothes": (clothes, one_hot(pid, level["clothes"])),
        "camera": (camera, one_hot(level["camera"])),
        "spot": (spot, one_hot(pid, level["camera"])),
        "yaw": (yaw, one_hot(level["yaw"])),
    }
    return np.hstack([math.sqrt(weight) * code for weight, code in parts.values()])


def measured(**weights):
    return factor_similarities(features(**weights), LEVELS, OTHERS)


CHANGES = ("clothes", "clothes+camera", "camera", "yaw", "yaw+camera")


def test_every_factor_is_also_changed_beyond_cameras_but_the_camera():
    assert measured(person=1).changes == CHANGES


@pytest.mark.parametrize("change", CHANGES)
def test_a_feature_of_the_person_alone_keeps_everything(change):
    found = measured(person=1)
    assert found.kept(change) == pytest.approx((1, 1, 1))
    assert found.ranked_right(change) == (1, 1, 1)
    assert found.cosine(change) == pytest.approx((1, 1, 1))
    assert found.another_person(change) == pytest.approx((0, 0, 0))


def test_a_feature_of_clothes_alone_keeps_nothing_of_clothes_and_all_of_the_rest():
    found = measured(clothes=1)
    for change in CHANGES:
        expected = (0.0, 0.5) if change.startswith("clothes") else (1.0, 1.0)
        assert (found.kept(change).mean, found.ranked_right(change).mean) == expected


def test_a_feature_of_cameras_alone_tells_nobody_apart():
    found = measured(camera=1)
    for change, right in zip(CHANGES, (0.5, 0.5, 0.0, 0.5, 0.5), strict=True):
        assert all(map(math.isnan, found.kept(change)))
        assert found.ranked_right(change).mean == right


def test_the_same_spot_passes_for_the_person_within_a_camera_only():
    found = measured(spot=1)
    assert found.kept("clothes").mean == found.ranked_right("clothes").mean == 1
    assert math.isnan(found.kept("clothes+camera").mean)
    assert found.ranked_right("clothes+camera").mean == 0.5


@pytest.mark.parametrize(
    ("p", "c", "v", "w", "y"),
    [
        (0.4, 0.3, 0.2, 0.1, 0.0),
        (0.1, 0.6, 0.0, 0.2, 0.1),
        (0.3, 0.1, 0.6, 0.0, 0.0),
        (5, 2, 3, 4, 1),
    ],
)
def test_mixtures_give_the_shares_of_the_formulas(p, c, v, w, y):
    found = measured(person=p, clothes=c, camera=v, spot=w, yaw=y)
    total = p + c + v + w + y
    expected = {
        "clothes": ((p + w) / (p + c + w), p + v + w + y, v + y),
        "clothes+camera": (p / (p + c), p + y, y),
        "camera": (1 - (v + w) / (p + c + w), p + c + y, v + y),
        "yaw": (1 - y / (p + c + w), total - y, v + y),
        "yaw+camera": (1 - y / (p + c), p + c, y),
    }
    for change, (kept, cosine, another) in expected.items():
        assert found.kept(change) == pytest.approx((kept, kept, kept), abs=1e-5)
        assert found.cosine(change).mean == pytest.approx(cosine / total, abs=1e-6)
        assert found.another_person(change).mean == pytest.approx(another / total, abs=1e-6)
        assert found.ranked_right(change).mean == (cosine > another) + 0.5 * (cosine == another)


@pytest.fixture
def noisy():
    rng = np.random.default_rng(7)
    return features(person=1, clothes=1, spot=0.5) + 0.15 * rng.standard_normal((40, 200))


def by_hand(unit, change, p):
    """The measures of one person, with loops."""
    factor, _, beyond = change.partition("+")
    reference = LEVELS["camera"][p, 1:] if beyond else LEVELS["camera"][p, :1]
    s = [unit[u] @ unit[x] for u in reference for x in LEVELS[factor][p, 1:]]
    b = [unit[u] @ unit[LEVELS[factor][p, 0]] for u in reference]
    o = [unit[u] @ unit[n] for u in reference for n in OTHERS[p]]
    right = [
        float(unit[u] @ unit[x] > unit[u] @ unit[n])
        for u in reference
        for x in LEVELS[factor][p, 1:]
        for n in OTHERS[p]
    ]
    return [np.mean(values) for values in (s, b, o, right)]


@pytest.mark.parametrize("change", CHANGES)
def test_any_features_agree_with_loops(noisy, change):
    found = factor_similarities(torch.from_numpy(3 * noisy), LEVELS, OTHERS)
    unit = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    s, b, o, right = np.array([by_hand(unit, change, p) for p in range(PEOPLE)]).T
    np.testing.assert_allclose(found.cosines(change), s, atol=1e-6)
    np.testing.assert_allclose(found.unchanged(change), b, atol=1e-6)
    np.testing.assert_allclose(found.others(change), o, atol=1e-6)
    np.testing.assert_allclose(found.right(change), right)
    assert found.kept(change).mean == pytest.approx((s - o).mean() / (b - o).mean(), abs=1e-5)


def test_intervals_are_quantiles_over_draws_of_people(noisy):
    found = factor_similarities(noisy, LEVELS, OTHERS)
    people = np.random.default_rng(0).integers(PEOPLE, size=(10_000, PEOPLE))
    s, o = found.cosines("clothes"), found.others("clothes")
    ratios = [(s[draw] - o[draw]).mean() / (1 - o[draw]).mean() for draw in people]
    interval = found.kept("clothes")
    assert interval[1:] == pytest.approx(np.quantile(ratios, [0.025, 0.975]))
    assert interval.low < interval.mean < interval.high
    again = factor_similarities(noisy, LEVELS, OTHERS)
    for change in CHANGES:
        assert found.kept(change) == again.kept(change)
        assert found.ranked_right(change) == again.ranked_right(change)


def test_kept_and_order_do_not_depend_on_the_spread_of_features(noisy):
    """A constant beside unit features gives r + (1 - r) cos: less spread, the same answers."""
    unit = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    spread = factor_similarities(unit, LEVELS, OTHERS)
    narrow = factor_similarities(np.hstack([unit, np.full((40, 1), 2.0)]), LEVELS, OTHERS)
    for change in CHANGES:
        assert narrow.cosine(change).mean > spread.cosine(change).mean + 0.1
        assert narrow.kept(change) == pytest.approx(spread.kept(change), abs=1e-4)
        assert narrow.ranked_right(change) == spread.ranked_right(change)


def test_a_lead_that_could_be_chance_is_no_scale():
    """Two of four people are nearer to others than to themselves in another camera."""
    unit = features(person=1)
    unit[LEVELS["camera"][:2, 1:]] = -unit[OTHERS[:2, :1]]
    unit[LEVELS["camera"][2:, 1:]] = unit[OTHERS[2:, :1]]
    found = factor_similarities(unit, LEVELS, OTHERS)
    assert math.isnan(found.kept("clothes+camera").mean)
    assert found.kept("clothes").mean == 1


def test_pairs_are_means_over_people_of_every_two_levels(noisy):
    found = factor_similarities(noisy, LEVELS, OTHERS)
    unit = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    pairs = found.pairs("yaw")
    assert list(pairs) == [(0, 1), (0, 2), (1, 2)]
    for (k, m), cosine in pairs.items():
        expected = np.mean([unit[row[k]] @ unit[row[m]] for row in LEVELS["yaw"]])
        assert cosine == pytest.approx(expected, abs=1e-6)


def test_a_feature_that_is_not_finite_is_refused():
    broken = features(person=1)
    broken[3] = np.nan
    with pytest.raises(DataError, match="controlled image 3"):
        factor_similarities(broken, LEVELS, OTHERS)
