from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from clustering_oracle import BACKENDS, clustered, needs_faiss, neighbour_lists

from ccreid.clustering import nearest_neighbours
from ccreid.clustering import neighbours as module
from ccreid.errors import ConfigError, DataError


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 40, 150])
def test_lists_match_a_full_sort(backend, count):
    features = clustered(count, count)
    found = nearest_neighbours(torch.from_numpy(features), 20, backend)
    assert found.dtype == torch.int64
    assert found.tolist() == [row[:20] for row in neighbour_lists(features)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_duplicates_self_first_then_by_index(backend):
    # More copies than k plus FAISS's margin: its own choice among them would be arbitrary.
    features = torch.from_numpy(clustered(0, 3)).repeat(50, 1)
    found = nearest_neighbours(features, 5, backend)
    for image, row in enumerate(found.tolist()):
        copies = [j for j in range(image % 3, 150, 3) if j != image]
        assert row == [image, *copies[:4]]


@needs_faiss
def test_faiss_and_torch_agree_on_many_near_ties():
    rng = np.random.default_rng(0)
    centre = rng.standard_normal((4, 64))
    noise = 1e-6 * rng.standard_normal((400, 64))  # differences below FAISS's precision
    features = torch.from_numpy(centre[rng.integers(0, 4, 400)] + noise)
    expected = nearest_neighbours(features, 20, "torch")
    assert torch.equal(nearest_neighbours(features, 20, "faiss"), expected)
    assert expected.tolist() == [row[:20] for row in neighbour_lists(features.numpy())]


@needs_faiss
def test_faiss_candidates_are_used_and_rows_with_near_ties_searched_in_full(monkeypatch):
    searched = []
    plain = module._search_rows

    def spy(features, rows, k):
        searched.append(len(rows))
        return plain(features, rows, k)

    monkeypatch.setattr(module, "_search_rows", spy)
    features = torch.from_numpy(clustered(1, 200))
    nearest_neighbours(features, 10, "faiss")
    assert searched == []
    features[100:140] = features[100]
    found = nearest_neighbours(features, 10, "faiss")
    assert searched
    assert searched[0] >= 40
    assert found.tolist() == [row[:10] for row in neighbour_lists(features.numpy())]


def test_chunks_of_rows_do_not_matter(monkeypatch):
    features = torch.from_numpy(clustered(2, 90))
    expected = nearest_neighbours(features, 20, "torch")
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    assert torch.equal(nearest_neighbours(features, 20, "torch"), expected)


def test_without_faiss_auto_falls_back_and_faiss_explains(monkeypatch):
    def missing(name, *args, **kwargs):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    real = importlib.import_module
    monkeypatch.setattr(module.importlib, "import_module", missing)
    features = torch.from_numpy(clustered(3, 60))
    expected = nearest_neighbours(features, 20, "torch")
    assert torch.equal(nearest_neighbours(features, 20, "auto"), expected)
    with pytest.raises(ConfigError, match="faiss-cpu"):
        nearest_neighbours(features, 20, "faiss")


def test_importing_the_package_does_not_import_faiss():
    code = "import sys, ccreid.clustering; sys.exit('faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_unusable_features_are_refused(value):
    features = torch.from_numpy(clustered(4, 10))
    features[3] = value
    with pytest.raises(DataError, match="1 of 10"):
        nearest_neighbours(features, 3)


def test_bad_arguments_are_refused():
    features = torch.from_numpy(clustered(4, 10))
    with pytest.raises(ConfigError, match="k >= 1"):
        nearest_neighbours(features, 0)
    with pytest.raises(ConfigError, match="annoy"):
        nearest_neighbours(features, 3, "annoy")
    with pytest.raises(DataError, match="not empty"):
        nearest_neighbours(features[:0], 3)
    with pytest.raises(DataError, match=r"\[N, D\]"):
        nearest_neighbours(features[0], 3)
