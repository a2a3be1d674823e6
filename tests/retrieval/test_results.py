"""RetrievalResults: metrics, the curve, immutability and the checks it makes of itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ccreid.retrieval import RetrievalResults, rank_distances


def small(**changes: Any) -> RetrievalResults:
    """Three queries: positives at ranks 2 and 5 of 5, none at all, and at rank 1."""
    values: dict[str, Any] = {
        "indices": np.array([[3, 0, 1], [2, 1, -1], [4, 3, 2]]),
        "distances": np.array([[0.1, 0.2, 0.3], [0.1, 0.1, np.inf], [0.0, 0.5, 0.6]]),
        "matches": np.array([[False, True, False], [False, False, False], [True, False, False]]),
        "average_precision": np.array([(1 / 2 + 2 / 5) / 2, np.nan, 1.0]),
        "first_hit_rank": np.array([2, -1, 1]),
        "last_hit_rank": np.array([5, -1, 1]),
        "num_positives": np.array([2, 0, 1]),
        "rule": "standard",
        "num_gallery": 5,
    }
    return RetrievalResults(**(values | changes))


def test_metrics_of_a_case_worked_by_hand() -> None:
    results = small()
    assert (results.num_queries, results.depth) == (3, 3)
    assert results.valid.tolist() == [True, False, True]
    assert results.metrics() == pytest.approx(
        {
            "rank1": 0.5,
            "rank5": 1.0,
            "rank10": 1.0,
            "mAP": (0.45 + 1) / 2,
            "mINP": (2 / 5 + 1) / 2,
            "num_valid_queries": 2.0,
        }
    )
    np.testing.assert_allclose(results.cmc(4), [0.5, 1, 1, 1])
    np.testing.assert_allclose(results.cmc(1), [0.5])


def test_without_a_valid_query_the_metrics_are_nan() -> None:
    results = rank_distances(np.zeros((2, 3)), query_pid=[7, 8], gallery_pid=[0, 0, 1], rule="none")
    metrics = results.metrics()
    assert metrics.pop("num_valid_queries") == 0
    assert len(metrics) == 5
    assert all(np.isnan(value) for value in metrics.values())
    assert np.isnan(results.cmc(3)).all()


def test_nothing_can_be_changed() -> None:
    source = np.array([2, -1, 1])
    results = small(first_hit_rank=source)
    source[0] = 1
    assert results.first_hit_rank[0] == 2
    with pytest.raises(ValueError, match="read-only"):
        results.indices[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        results.rule = "cc"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("rule", "other", "rule"),
        ("num_gallery", 4, "out of range"),
        ("indices", np.zeros((0, 3), int), "Q, D > 0"),
        ("indices", np.zeros((3, 2), int), "different numbers"),
        ("num_positives", np.array([2.0, 0, 1]), "int64"),
        ("indices", np.array([[3, 0, 1], [2, -1, 1], [4, 3, 2]]), "follows an empty"),
        ("distances", np.zeros((3, 3)), "must hold inf"),
        ("distances", np.array([[0.3, 0.2, 0.3], [0, 0, np.inf], [0, 0, 0]]), "fall"),
        ("matches", np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], bool), "is a match"),
        ("matches", np.array([[0, 1, 0], [0, 0, 0], [1, 1, 0]], bool), "more matches"),
        ("matches", np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool), "first match"),
        ("last_hit_rank", np.array([2, -1, 1]), "hit ranks"),
        ("last_hit_rank", np.array([6, -1, 1]), "hit ranks"),
        ("average_precision", np.array([0.45, 0.0, 1.0]), "without positives"),
        ("average_precision", np.array([0.45, np.nan, 1.1]), "outside"),
        ("average_precision", np.array([np.nan, np.nan, 1.0]), "outside"),
    ],
)
def test_contradictions_are_refused(field: str, value: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        small(**{field: value})


def test_the_curve_needs_a_rank() -> None:
    with pytest.raises(ValueError, match="max_rank"):
        small().cmc(0)
