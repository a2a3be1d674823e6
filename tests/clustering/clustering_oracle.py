"""The spec's rules as plain Python over sets: slow, and written apart from the library."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "fire2.npz")

needs_faiss = pytest.mark.skipif(
    importlib.util.find_spec("faiss") is None, reason="FAISS is an optional package"
)
BACKENDS = ["torch", pytest.param("faiss", marks=needs_faiss)]


def neighbour_lists(features: np.ndarray) -> list[list[int]]:
    unit = features.astype(np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = np.round(unit @ unit.T * 2**30)
    count = len(unit)
    return [
        [i, *sorted((j for j in range(count) if j != i), key=lambda j: (-cosines[i, j], j))]
        for i in range(count)
    ]


def jaccard(features: np.ndarray, k1: int, k2: int) -> np.ndarray:
    lists, count = neighbour_lists(features), len(features)
    unit = features.astype(np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    k1, k2 = min(k1, count), min(k2, count)

    def reciprocal(i: int, length: int) -> set[int]:
        return {j for j in lists[i][:length] if i in lists[j][:length]}

    weights = []
    for i in range(count):
        near = reciprocal(i, k1)
        expanded = set(near)
        for j in near:
            core = reciprocal(j, round(k1 / 2) + 1)
            if 3 * len(core & near) > 2 * len(core):
                expanded |= core
        scores = {j: math.exp(2 * float(unit[i] @ unit[j]) - 2) for j in expanded}
        total = sum(scores.values())
        weights.append({j: score / total for j, score in scores.items()})
    encoding = [
        {m: sum(weights[j].get(m, 0.0) for j in lists[i][:k2]) / k2 for m in range(count)}
        for i in range(count)
    ]
    distances = np.zeros((count, count))
    for i in range(count):
        for j in range(count):
            shared = sum(min(encoding[i][m], encoding[j][m]) for m in range(count))
            distances[i, j] = 0 if i == j else max(0, 1 - shared / (2 - shared))
    return distances


def labels(distances: np.ndarray, eps: float) -> list[int]:
    """Connected components of {d <= eps} by flooding, numbered by first image."""
    found: dict[int, int] = {}
    number = 0
    for seed in range(len(distances)):
        if seed in found:
            continue
        front = [seed]
        while front:
            i = front.pop()
            if i not in found:
                found[i] = number
                front.extend(np.flatnonzero(distances[i] <= eps).tolist())
        number += 1
    return [found[i] for i in range(len(distances))]


def same_partition(a: object, b: object) -> bool:
    """Whether two labellings agree up to the names of the clusters."""
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs})


def clustered(seed: int, count: int, dimension: int = 16, groups: int = 3) -> np.ndarray:
    """Unit features around a few centres."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, dimension))
    features = centres[rng.integers(0, groups, count)]
    features = features + 0.3 * rng.standard_normal((count, dimension))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32)
