from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

from ccreid.clustering import cluster_statistics
from ccreid.errors import DataError

PIDS = np.array([0, 0, 0, 0, 0, 1, 1, 1])
LABELS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
CLOTHES = np.array([4, 4, 5, 5, 5, 7, 8, 7])


@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_a_case_by_hand(convert):
    found = cluster_statistics(convert(LABELS), convert(PIDS), convert(CLOTHES))
    assert found["num_clusters"] == 3
    assert found["clusters_per_identity"] == 1.5
    assert found["purity"] == (2 + 2 + 2) / 8
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(CLOTHES, LABELS))
    assert all(type(value) is float for value in found.values())


def test_names_do_not_matter_and_perfect_clusters_score_one():
    found = cluster_statistics(100 - 7 * CLOTHES, PIDS, CLOTHES)
    assert found["purity"] == 1
    assert found["nmi"] == pytest.approx(1)
    assert found["num_clusters"] == 4


def test_without_clothes_only_counts():
    assert set(cluster_statistics(LABELS, PIDS)) == {"num_clusters", "clusters_per_identity"}


def test_lengths_must_agree():
    with pytest.raises(DataError, match="same order"):
        cluster_statistics(LABELS, PIDS[:-1])
    with pytest.raises(DataError, match="same order"):
        cluster_statistics(LABELS[:0], PIDS[:0])
