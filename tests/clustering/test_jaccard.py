from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_oracle import BACKENDS, GOLDEN

from ccreid.clustering import jaccard as module
from ccreid.clustering import jaccard_distance
from ccreid.errors import ConfigError, DataError


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", ["a", "c"])
def test_golden_matrix(case, backend):
    found = jaccard_distance(torch.from_numpy(GOLDEN[f"{case}_feat"]), backend=backend)
    assert torch.equal(jaccard_distance(GOLDEN[f"{case}_feat"], backend=backend), found)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), GOLDEN[f"{case}_jaccard"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("count", [*range(1, 13), 15, 19, 20, 21, 22, 25, 31, 40])
def test_matches_the_rules_in_plain_python(count, backend):
    features = oracle.clustered(count, count)
    found = jaccard_distance(torch.from_numpy(features), backend=backend)
    np.testing.assert_allclose(found.numpy(), oracle.jaccard(features, 20, 6), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("k1", "k2"), [(1, 1), (2, 1), (3, 2), (4, 6), (5, 3), (7, 7), (9, 1), (10, 15), (30, 6)]
)
def test_other_neighbourhoods(k1, k2):
    for features in (oracle.clustered(k1, 37), oracle.clustered(k2, 24, dimension=3, groups=1)):
        found = jaccard_distance(torch.from_numpy(features), k1, k2).numpy()
        np.testing.assert_allclose(found, oracle.jaccard(features, k1, k2), rtol=0, atol=1e-6)


def test_duplicates_follow_the_tie_rule():
    features = oracle.clustered(5, 12)[np.random.default_rng(5).integers(0, 12, 38)]
    found = jaccard_distance(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, oracle.jaccard(features, 20, 6), rtol=0, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_up_to_k2_images_are_all_equal(count):
    # Padded neighbour lists would put images of such identities 0.5 from themselves.
    features = np.random.default_rng(count).standard_normal((count, 8)).astype(np.float32)
    assert jaccard_distance(torch.from_numpy(features)).abs().max() < 1e-6


def test_is_a_distance_matrix_and_ignores_lengths():
    features = torch.from_numpy(oracle.clustered(6, 80, groups=6))
    found = jaccard_distance(features)
    assert torch.equal(found, found.T)
    assert (found.diagonal() == 0).all()
    assert found.min() >= 0
    assert found.max() == 1
    lengths = torch.linspace(0.1, 50, 80)[:, None]
    torch.testing.assert_close(jaccard_distance(lengths * features), found, rtol=0, atol=1e-5)


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_large_identities_take_the_search_and_give_the_same(monkeypatch, backend):
    features = torch.from_numpy(oracle.clustered(7, 120))
    expected = jaccard_distance(features)
    monkeypatch.setattr(module, "MATRIX_LIMIT", 50)
    torch.testing.assert_close(jaccard_distance(features, backend=backend), expected)


def test_bad_input_is_refused():
    features = torch.from_numpy(oracle.clustered(8, 10))
    with pytest.raises(ConfigError, match="k1=0"):
        jaccard_distance(features, k1=0)
    with pytest.raises(ConfigError, match="k2=-1"):
        jaccard_distance(features, k2=-1)
    features[0, 0] = float("nan")
    with pytest.raises(DataError, match="diverged"):
        jaccard_distance(features)
