"""The official evaluation functions' own outputs on seeded distances without ties.

The stored values come from CAL, FIRe2, DIFFER and the Celeb-reID authors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ccreid.data.protocols import single_shot_positions
from ccreid.retrieval import (
    RepeatedResults,
    RetrievalResults,
    queries_without_match,
    rank_distances,
)

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "eval.npz", allow_pickle=False)

# (stored prefix, our rule)
SAME_NUMBERS = [
    ("A_cal_std", "standard"),
    ("A_fire_std", "standard"),
    ("A_fire_std2", "standard"),
    ("A_differ_std", "standard"),
    ("A_cal_CC", "cc"),
    ("A_fire_CC", "cc"),
    ("A_differ_CC", "cc"),
    ("A_cal_SC", "sc"),
    ("A_nocam", "none"),
    ("T_std", "standard"),
    ("T_CC", "cc"),
    ("T_SC", "sc"),
    ("T_nocam", "none"),
]


def ids(case: str, query: str = "q") -> dict[str, Any]:
    return {
        "query_pid": GOLDEN[f"{case}_{query}_pids"],
        "gallery_pid": GOLDEN[f"{case}_g_pids"],
        "query_camid": GOLDEN[f"{case}_{query}_camids"],
        "gallery_camid": GOLDEN[f"{case}_g_camids"],
        "query_clothes_id": GOLDEN[f"{case}_{query}_clothids"],
        "gallery_clothes_id": GOLDEN[f"{case}_g_clothids"],
    }


def check(results: RetrievalResults, prefix: str) -> None:
    curve = GOLDEN[f"{prefix}_cmc"]
    assert results.metrics()["mAP"] == pytest.approx(float(GOLDEN[f"{prefix}_mAP"]), abs=1e-9)
    # The FIRe2 and DIFFER functions keep their curve in float32.
    tolerance = 1e-6 if curve.dtype == np.float32 else 1e-9
    np.testing.assert_allclose(results.cmc(len(curve)), curve, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("prefix", "rule"), SAME_NUMBERS)
def test_same_numbers_as_the_official_code(prefix: str, rule: Any) -> None:
    case = prefix[0]
    check(rank_distances(GOLDEN[f"{case}_dist"], **ids(case), rule=rule), prefix)


@pytest.mark.parametrize(
    ("prefix", "query_start", "gallery_start"), [("A_uniquecam", 0, 60), ("A_fire_celeb", 0, 0)]
)
def test_running_indices_as_cameras(prefix: str, query_start: int, gallery_start: int) -> None:
    cameras = {
        "query_camid": np.arange(60) + query_start,
        "gallery_camid": np.arange(300) + gallery_start,
    }
    check(rank_distances(GOLDEN["A_dist"], **(ids("A") | cameras)), prefix)


@pytest.mark.parametrize(
    ("name", "rule"), [("std", "standard"), ("CC", "cc"), ("SC", "sc"), ("nocam", "none")]
)
def test_per_query_values(name: str, rule: Any) -> None:
    results = rank_distances(GOLDEN["A_dist"], **ids("A"), rule=rule)
    np.testing.assert_array_equal(results.num_positives, GOLDEN[f"A_npos_{name}"])
    if name != "nocam":
        np.testing.assert_allclose(
            results.average_precision, GOLDEN[f"A_ap_{name}"], rtol=0, atol=1e-12
        )
        np.testing.assert_array_equal(results.first_hit_rank, GOLDEN[f"A_rank_{name}"])
    np.testing.assert_array_equal(
        queries_without_match(**ids("A"), rule=rule), GOLDEN[f"A_npos_{name}"] == 0
    )


@pytest.mark.parametrize("case", ["A", "T"])
def test_average_precision_is_not_the_trapezoid_one(case: str) -> None:
    ours = rank_distances(GOLDEN[f"{case}_dist"], **ids(case)).metrics()["mAP"]
    assert abs(ours - float(GOLDEN[f"{case}_huang_mAP"])) > 0.01


def test_the_case_worked_by_hand() -> None:
    expected = {
        "standard": [(1 + 2 / 3 + 3 / 5) / 3, 0.325, np.nan],
        "cc": [0.5, 0.25, np.nan],
        "sc": [1.0, 0.25, np.nan],
        "none": [(1 + 2 / 2 + 3 / 4 + 4 / 6) / 4, (1 / 4 + 2 / 5 + 3 / 6) / 3, np.nan],
    }
    for rule, precision in expected.items():
        results = rank_distances(GOLDEN["T_dist"], **ids("T"), rule=rule)  # type: ignore[arg-type]
        np.testing.assert_allclose(results.average_precision, precision, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(results.valid, [True, True, False])
    assert results.metrics()["mAP"] == pytest.approx((0.8541667 + 0.3833333) / 2, abs=1e-6)


@pytest.mark.parametrize("code", ["cal", "fire"])
@pytest.mark.parametrize("clothes", ["same", "diff"])
def test_prcc_like_multi_shot(code: str, clothes: str) -> None:
    results = rank_distances(
        GOLDEN[f"C_dist_{clothes}"], **ids("C", f"q_{clothes}") | gallery_of_c()
    )
    check(results, f"C_multi_{code}_{clothes}")


@pytest.mark.parametrize("clothes", ["same", "diff"])
def test_prcc_single_shot_is_the_mean_over_ten_draws(clothes: str) -> None:
    lists = single_shot_positions(GOLDEN["C_g_pids"])
    np.testing.assert_array_equal(lists, GOLDEN["C_gallery_idx_seed3"])
    trials = []
    for chosen in lists:
        few = {name: values[chosen] for name, values in gallery_of_c().items()}
        distances = GOLDEN[f"C_dist_{clothes}"][:, chosen]
        trials.append(rank_distances(distances, **ids("C", f"q_{clothes}") | few))
    curves = [trial.cmc(15) for trial in trials]
    precisions = [trial.metrics()["mAP"] for trial in trials]
    stored = f"C_single_{clothes}"
    np.testing.assert_allclose(curves, GOLDEN[f"{stored}_cmc_trials"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(precisions, GOLDEN[f"{stored}_mAP_trials"], rtol=0, atol=1e-9)
    metrics = RepeatedResults(tuple(trials)).metrics()
    assert metrics["mAP"] == pytest.approx(float(GOLDEN[f"{stored}_mAP"]), abs=1e-9)
    for rank in (1, 5, 10):
        expected = GOLDEN[f"{stored}_cmc"][rank - 1]
        assert metrics[f"rank{rank}"] == pytest.approx(expected, abs=1e-9)
    assert metrics["num_valid_queries"] == 60


def gallery_of_c() -> dict[str, Any]:
    return {
        name: values for name, values in ids("C", "q_same").items() if name.startswith("gallery")
    }
