"""Ranking against a naive loop: ties, absent people, junk, depths, chunks, types, memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ccreid.errors import ConfigError, DataError
from ccreid.retrieval import (
    RetrievalResults,
    kernel,
    queries_without_match,
    rank_distances,
    rank_features,
    ranking,
)

RULES: tuple[Any, ...] = ("standard", "cc", "sc", "none")
PER_QUERY = ("average_precision", "first_hit_rank", "last_hit_rank", "num_positives")
FIELDS = ("indices", "distances", "matches", *PER_QUERY)


def naive(
    distances: NDArray[Any], ids: dict[str, NDArray[Any]], rule: str, depth: int
) -> dict[str, Any]:
    """Rank with plain Python, one image at a time, as the definitions read."""
    found: dict[str, list[Any]] = {name: [] for name in FIELDS}
    for q, row in enumerate(distances.tolist()):
        kept = []
        for g, distance in enumerate(row):
            person = ids["query_pid"][q] == ids["gallery_pid"][g]
            camera = ids["query_camid"][q] == ids["gallery_camid"][g]
            clothes = ids["query_clothes_id"][q] == ids["gallery_clothes_id"][g]
            junk = {
                "standard": camera,
                "cc": camera or clothes,
                "sc": camera or not clothes,
                "none": False,
            }[rule]
            if not (person and junk):
                kept.append((distance, g, bool(person)))
        kept.sort()
        hits = [rank for rank, (_, _, person) in enumerate(kept, start=1) if person]
        precisions = [k / rank for k, rank in enumerate(hits, start=1)]
        found["average_precision"].append(sum(precisions) / len(hits) if hits else np.nan)
        found["first_hit_rank"].append(hits[0] if hits else -1)
        found["last_hit_rank"].append(hits[-1] if hits else -1)
        found["num_positives"].append(len(hits))
        shown = kept[:depth] + [(np.inf, -1, False)] * (depth - len(kept))
        for name, column in (("distances", 0), ("indices", 1), ("matches", 2)):
            found[name].append([place[column] for place in shown])
    return {name: np.array(values) for name, values in found.items()}


def random_case(
    seed: int, num_query: int = 23, num_gallery: int = 40, levels: int = 6
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Distances of few levels, so that ties abound; one absent person, one with junk only."""
    generator = np.random.default_rng(seed)
    ids: dict[str, Any] = {}
    for role, count in (("query", num_query), ("gallery", num_gallery)):
        ids[f"{role}_pid"] = generator.integers(5, size=count)
        ids[f"{role}_camid"] = generator.integers(3, size=count)
        ids[f"{role}_clothes_id"] = ids[f"{role}_pid"] * 3 + generator.integers(3, size=count)
    ids["query_pid"][0] = 99
    ids["gallery_camid"][ids["gallery_pid"] == 4] = 1
    ids["query_pid"][1], ids["query_camid"][1] = 4, 1
    distances = generator.integers(levels, size=(num_query, num_gallery)).astype(np.float64)
    return distances, ids


def same(a: RetrievalResults, b: RetrievalResults) -> None:
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("depth", [1, 7, 39, 40, 55])
@pytest.mark.parametrize("levels", [1, 2, 6, 10**6])
def test_equals_the_naive_loop(rule: Any, depth: int, levels: int) -> None:
    for seed in range(3):
        distances, ids = random_case(seed, levels=levels)
        results = rank_distances(distances, **ids, rule=rule, depth=depth)
        expected = naive(distances, ids, rule, depth)
        for name in FIELDS:
            found = getattr(results, name)
            if name == "average_precision":
                np.testing.assert_allclose(found, expected[name], rtol=0, atol=1e-12)
            else:
                np.testing.assert_array_equal(found, expected[name], err_msg=name)

        valid = expected["num_positives"] > 0
        inverse = (expected["num_positives"] / expected["last_hit_rank"])[valid]
        metrics = results.metrics()
        assert list(metrics) == ["rank1", "rank5", "rank10", "mAP", "mINP", "num_valid_queries"]
        assert metrics["num_valid_queries"] == valid.sum() < results.num_queries
        assert metrics["mAP"] == pytest.approx(expected["average_precision"][valid].mean())
        assert metrics["mINP"] == pytest.approx(inverse.mean())
        for k in (1, 5, 10):
            hit = expected["first_hit_rank"][valid] <= k
            assert metrics[f"rank{k}"] == pytest.approx(hit.mean())
        without = queries_without_match(**ids, rule=rule)
        np.testing.assert_array_equal(without, ~valid)


def test_absent_and_all_junk_queries_are_not_valid() -> None:
    distances, ids = random_case(0)
    results = rank_distances(distances, **ids, rule="standard")
    assert not results.valid[:2].any()
    assert (results.first_hit_rank[:2] == -1).all()
    # The other people's images are still ranked, and the junk is gone.
    assert (results.indices[0] >= 0).sum() == 40
    assert (results.indices[1] >= 0).sum() == (ids["gallery_pid"] != 4).sum()


def test_equal_distances_rank_by_gallery_index() -> None:
    results = rank_distances(
        np.zeros((1, 6)), query_pid=[1], gallery_pid=[0, 1, 0, 1, 0, 0], rule="none", depth=4
    )
    np.testing.assert_array_equal(results.indices, [[0, 1, 2, 3]])
    np.testing.assert_array_equal(results.matches, [[False, True, False, True]])
    assert results.average_precision[0] == pytest.approx((1 / 2 + 2 / 4) / 2)


@pytest.mark.parametrize("levels", [1, 3, 10**6])
def test_exact_values_do_not_depend_on_depth(levels: int) -> None:
    distances, ids = random_case(1, levels=levels)
    deep = rank_distances(distances, **ids, rule="cc", depth=40)
    for depth in range(1, 40):
        cut = rank_distances(distances, **ids, rule="cc", depth=depth)
        np.testing.assert_array_equal(cut.indices, deep.indices[:, :depth])
        for name in PER_QUERY:
            np.testing.assert_array_equal(getattr(cut, name), getattr(deep, name))


def exact_features(seed: int, count: int) -> torch.Tensor:
    """Signs in 16 dimensions: norms and products are exact in any order, and ties abound."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (count, 16), generator=generator).float() * 2 - 1


@pytest.mark.parametrize("rule", RULES)
def test_features_equal_the_whole_matrix_for_any_chunk_size(rule: Any) -> None:
    _, ids = random_case(2)
    query, gallery = exact_features(0, 23), exact_features(1, 40)
    expected = rank_distances(1 - query @ gallery.T / 16, **ids, rule=rule, depth=9)
    for size in (None, 1, 4, 22, 23, 1000):
        results = rank_features(query * 3, gallery / 7, **ids, rule=rule, depth=9, chunk_size=size)
        np.testing.assert_allclose(results.distances, expected.distances, atol=1e-6)
        same(rank_features(query, gallery, **ids, rule=rule, depth=9, chunk_size=size), expected)


def test_distances_are_ranked_in_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    distances, ids = random_case(3)
    whole = rank_distances(distances, **ids, rule="sc")
    without = queries_without_match(**ids, rule="sc")
    monkeypatch.setattr(ranking, "_CHUNK_ELEMENTS", 90)  # two queries, four for the ids
    same(rank_distances(distances, **ids, rule="sc"), whole)
    chunked = queries_without_match(**ids, rule="sc")
    np.testing.assert_array_equal(chunked, without)


def test_no_tensor_of_query_times_gallery_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return result

    num_query, num_gallery, budget = 200, 300, 3000
    monkeypatch.setattr(ranking, "_CHUNK_ELEMENTS", budget)
    pid: dict[str, Any] = {"query_pid": np.arange(200) % 100, "gallery_pid": np.arange(300) % 100}
    with Watch():
        rank_features(
            exact_features(0, num_query),
            exact_features(1, num_gallery),
            **pid,
            rule="none",
            depth=5,
        )
    # The inputs themselves hold 300 x 16; nothing comes near 200 x 300.
    assert budget <= largest <= 300 * 16

    one_person = np.zeros(200, dtype=int), np.zeros(300, dtype=int)
    largest = 0
    with Watch():
        queries_without_match(*one_person, rule="none")
    assert largest <= budget


@pytest.mark.parametrize(
    "dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_arrays_tensors_and_integer_types_agree(dtype: Any) -> None:
    distances, ids = random_case(4)
    expected = rank_distances(distances, **ids, rule="cc")
    cast = {name: values.astype(dtype) for name, values in ids.items()}
    same(rank_distances(distances, **cast, rule="cc"), expected)
    tensors: Any = {name: torch.from_numpy(values) for name, values in cast.items()}
    same(rank_distances(torch.from_numpy(distances), **tensors, rule="cc"), expected)
    lists = {name: values.tolist() for name, values in ids.items()}
    same(rank_distances(distances, **lists, rule="cc"), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_ranked_as_float32(dtype: torch.dtype) -> None:
    _, ids = random_case(5)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(23, 16, generator=generator).to(dtype)
    gallery = torch.randn(40, 16, generator=generator).to(dtype)
    half = rank_features(query, gallery, **ids)
    same(half, rank_features(query.float(), gallery.float(), **ids))
    assert half.distances.dtype == np.float32
    rounded = (1 - query.float() @ gallery.float().T).to(dtype)
    same(rank_distances(rounded, **ids), rank_distances(rounded.float(), **ids))


def test_float64_distances_keep_their_precision() -> None:
    distances = np.array([[1 + 2e-16, 1.0]])
    results = rank_distances(distances, query_pid=[1], gallery_pid=[0, 1], rule="none")
    np.testing.assert_array_equal(results.indices[0, :2], [1, 0])


def test_autocast_and_low_precision_products_do_not_reach_the_distances() -> None:
    _, ids = random_case(6)
    generator = torch.Generator().manual_seed(0)
    query, gallery = (torch.randn(n, 512, generator=generator) for n in (23, 40))
    expected = rank_features(query, gallery, **ids)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            same(rank_features(query, gallery, **ids), expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_ids_above_two_to_the_24_stay_apart() -> None:
    near = 2**24
    results = rank_distances(
        np.array([[0.1, 0.2]]), query_pid=[near + 1], gallery_pid=[near, near + 1], rule="none"
    )
    np.testing.assert_array_equal(results.matches[0, :2], [False, True])
    far = 2**53
    assert queries_without_match([far + 1], [far], rule="none").tolist() == [True]


def test_inputs_are_not_changed_and_may_be_read_only_or_strided() -> None:
    distances, ids = random_case(7)
    expected = rank_distances(distances, **ids)
    strided = np.asfortranarray(distances)
    strided.setflags(write=False)
    same(rank_distances(strided, **ids), expected)
    tensor = torch.from_numpy(distances.T.copy()).T.requires_grad_()
    kept = tensor.detach().clone()
    same(rank_distances(tensor, **ids), expected)
    assert torch.equal(tensor, kept)


def test_both_counts_of_equal_distances_agree() -> None:
    generator = torch.Generator().manual_seed(0)
    distances = torch.randint(0, 3, (5, 30), generator=generator).float()
    row = torch.randint(0, 5, (37,), generator=generator)
    column = torch.randint(0, 30, (37,), generator=generator)
    value = distances[row, column]
    looped = kernel._equal_before_by_loop(distances, row, column, value)
    assert torch.equal(looped, kernel._equal_before_in_parts(distances, row, column, value))


def call(**changes: Any) -> RetrievalResults:
    distances, ids = random_case(8)
    given: dict[str, Any] = {"distances": distances, "rule": "cc"}
    return rank_distances(**(given | ids | changes))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_distance_that_is_not_finite_is_refused(value: float) -> None:
    distances, _ = random_case(8)
    distances[17, 3] = value
    with pytest.raises(DataError, match="query 17 is NaN or infinite"):
        call(distances=distances)
    features = exact_features(0, 40).numpy()
    features[12, 0] = value
    _, ids = random_case(8)
    with pytest.raises(DataError, match="gallery image 12 is NaN"):
        rank_features(exact_features(1, 23), features, **ids)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"rule": "clothes"}, ConfigError, "standard, cc, sc, none"),
        ({"depth": 0}, ConfigError, "at least 1"),
        ({"query_camid": None}, DataError, "`query_camid`"),
        ({"gallery_clothes_id": None}, DataError, "`gallery_clothes_id`"),
        ({"query_pid": np.zeros(23)}, DataError, "float64"),
        ({"query_pid": np.zeros((23, 1), int)}, DataError, "one-dimensional"),
        ({"gallery_camid": np.zeros(39, int)}, DataError, "39 entries for 40"),
        ({"gallery_pid": np.full(40, 2**63, np.uint64)}, DataError, "number the ids anew"),
        ({"query_pid": np.zeros(0, int)}, DataError, "no query image"),
        ({"gallery_pid": np.zeros(0, int)}, DataError, "no gallery image"),
        ({"distances": np.zeros((40, 23))}, DataError, r"\(40, 23\) for 23 query and 40"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(**changes)


def test_features_that_do_not_fit_are_refused() -> None:
    pid: dict[str, Any] = {"query_pid": [0, 1], "gallery_pid": [0, 1, 2], "rule": "none"}
    with pytest.raises(DataError, match=r"4-d on cpu.*\n?.*5-d on cpu"):
        rank_features(torch.ones(2, 4), torch.ones(3, 5), **pid)
    with pytest.raises(DataError, match="for 3 gallery ids"):
        rank_features(torch.ones(2, 4), torch.ones(2, 4), **pid)
    with pytest.raises(ConfigError, match="chunk_size"):
        rank_features(torch.ones(2, 4), torch.ones(3, 4), chunk_size=0, **pid)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("rule", RULES)
def test_a_gpu_gives_the_same_ranking(rule: Any) -> None:
    distances, ids = random_case(9)
    expected = rank_distances(distances, **ids, rule=rule, depth=9)
    same(rank_distances(torch.from_numpy(distances).cuda(), **ids, rule=rule, depth=9), expected)
    query, gallery = exact_features(0, 23), exact_features(1, 40)
    on_cpu = rank_features(query, gallery, **ids, rule=rule, depth=9)
    same(rank_features(query.cuda(), gallery.cuda(), **ids, rule=rule, depth=9), on_cpu)
