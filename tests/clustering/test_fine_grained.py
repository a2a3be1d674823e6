from __future__ import annotations

import clustering_oracle as oracle
import numpy as np
import pytest
import torch
from clustering_oracle import BACKENDS, GOLDEN
from sklearn.cluster import DBSCAN

from ccreid.clustering import fine_grained as module
from ccreid.clustering import fine_grained_labels, jaccard_distance
from ccreid.errors import ConfigError, DataError


def people(seed: int, sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Features and shuffled pids (not consecutive, not from 0) of identities of these sizes."""
    rng = np.random.default_rng(seed)
    pids = rng.permutation(np.repeat(10 + 3 * np.arange(len(sizes)), sizes))
    features = np.empty((len(pids), 16), dtype=np.float32)
    for pid in np.unique(pids):
        features[pids == pid] = oracle.clustered(seed + int(pid), int((pids == pid).sum()))
    return features, pids


SIZES = [1, 2, 3, 5, 6, 7, 9, 17, 18, 20, 21, 22, 30, 40, 40]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("eps", [0.3, 0.4, 0.5, 0.6])
@pytest.mark.parametrize("case", ["a", "c"])
def test_golden_labels(case, eps, backend):
    features, expected = GOLDEN[f"{case}_feat"], GOLDEN[f"{case}_labels_eps{eps}"]
    labels, _ = fine_grained_labels(features, np.zeros(len(features), int), eps, backend=backend)
    assert oracle.same_partition(labels, expected)


@pytest.mark.parametrize("eps", [0.05, 0.2, 0.4, 0.6])
def test_labels_match_the_rules_in_plain_python(eps):
    features, pids = people(1, SIZES)
    labels, _ = fine_grained_labels(features, pids, eps)
    expected, offset = np.empty(len(pids), int), 0
    for pid in np.unique(pids):
        own = np.array(oracle.labels(oracle.jaccard(features[pids == pid], 20, 6), eps))
        expected[pids == pid] = own + offset  # sorted identities, clusters by first image
        offset += own.max() + 1
    assert labels.tolist() == expected.tolist()


@pytest.mark.parametrize("eps", [0.1, 0.4])
def test_components_are_dbscan_with_one_sample(eps):
    features, pids = people(2, SIZES)
    labels, _ = fine_grained_labels(features, pids, eps)
    for pid in np.unique(pids):
        matrix = jaccard_distance(torch.from_numpy(features[pids == pid])).numpy()
        dbscan = DBSCAN(eps=eps, min_samples=1, metric="precomputed").fit_predict(matrix)
        assert oracle.same_partition(labels[torch.from_numpy(pids == pid)], dbscan)


@pytest.mark.parametrize("min_samples", [2, 4, 8])
def test_outliers_are_clusters_of_their_own(min_samples):
    features, pids = people(3, [1, 2, 25, 40])
    eps = 0.1
    labels, centres = fine_grained_labels(features, pids, eps, min_samples=min_samples)
    outliers = 0
    for pid in np.unique(pids):
        matrix = jaccard_distance(torch.from_numpy(features[pids == pid])).numpy()
        dbscan = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(matrix)
        lonely = dbscan < 0
        outliers += int(lonely.sum())
        dbscan[lonely] = 1000 + np.arange(lonely.sum())
        assert oracle.same_partition(labels[torch.from_numpy(pids == pid)], dbscan)
    assert outliers > 1
    assert len(centres) == int(labels.max()) + 1 == len(labels.unique())
    assert_numbered_by_first_image(labels.numpy(), pids)


def assert_numbered_by_first_image(labels, pids):
    order = np.argsort(pids, kind="stable")
    firsts = list(dict.fromkeys(labels[order].tolist()))
    assert firsts == list(range(len(firsts)))


def test_clusters_are_never_shared_and_are_numbered_by_first_image():
    features, pids = people(4, SIZES)
    features[pids == 13] = features[pids == 10][0]  # another person with the same picture
    labels, _ = fine_grained_labels(features, pids)
    owners = {(int(label), int(pid)) for label, pid in zip(labels, pids, strict=True)}
    assert len(owners) == len(labels.unique())
    assert_numbered_by_first_image(labels.numpy(), pids)


@pytest.mark.parametrize("min_samples", [1, 3])
def test_small_identities_are_one_cluster(min_samples):
    # Wrapped-around neighbour lists would make each of these images an outlier.
    rng = np.random.default_rng(5)
    pids = np.repeat([0, 1, 2, 3], [1, 2, 3, 6])
    features = rng.standard_normal((12, 8))
    labels, centres = fine_grained_labels(features, pids, min_samples=min_samples)
    if min_samples == 1:
        assert labels.tolist() == pids.tolist()
    else:  # one and two images cannot make a core of three
        assert labels.tolist() == [0, 1, 2, 3, 3, 3, 4, 4, 4, 4, 4, 4]
    assert len(centres) == int(labels.max()) + 1


def test_centres_are_means_of_unit_features():
    features, pids = people(6, [20, 30])
    scale = np.linspace(0.5, 9, 50, dtype=np.float32)[:, None]
    labels, centres = fine_grained_labels(features * scale, pids)
    assert centres.dtype == torch.float32
    assert labels.dtype == torch.int64
    for label in range(len(centres)):
        members = features[labels.numpy() == label]
        np.testing.assert_allclose(centres[label], members.mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("min_samples", [1, 3])
def test_order_of_images_does_not_matter(min_samples):
    features, pids = people(7, SIZES)
    labels, _ = fine_grained_labels(features, pids, min_samples=min_samples)
    shuffle = np.random.default_rng(7).permutation(len(pids))
    again, _ = fine_grained_labels(features[shuffle], pids[shuffle], min_samples=min_samples)
    assert len(labels.unique()) > len(SIZES)
    assert oracle.same_partition(labels[shuffle], again)


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_and_batches_give_the_same_labels(backend, monkeypatch):
    features, pids = people(8, [*SIZES, 90])
    features[np.flatnonzero(pids == 40)[:15]] = features[pids == 40][0]  # duplicates
    expected, centres = fine_grained_labels(features, pids)
    for limit, elements in [(1024, 1), (1024, 2**30), (25, 2000)]:
        monkeypatch.setattr(module, "_BATCH_ELEMENTS", elements)
        monkeypatch.setattr("ccreid.clustering.jaccard.MATRIX_LIMIT", limit)
        labels, again = fine_grained_labels(features, pids, backend=backend)
        assert torch.equal(labels, expected)
        torch.testing.assert_close(again, centres)


@pytest.mark.parametrize("fill", [0.01, 0.5])
def test_padding_does_not_matter(fill, monkeypatch):
    features, pids = people(9, SIZES)
    for eps in (0.4, 1.0):
        expected, _ = fine_grained_labels(features, pids, eps)
        with monkeypatch.context() as patch:
            patch.setattr(module, "_SMALLEST_FILL", fill)
            labels, _ = fine_grained_labels(features, pids, eps)
        assert torch.equal(labels, expected)


def test_accepts_tensors_arrays_and_lists():
    features, pids = people(10, [9, 25])
    expected, centres = fine_grained_labels(features, pids)
    for other in (torch.from_numpy(pids), pids.tolist(), pids.astype(np.int32)):
        for same in (torch.from_numpy(features), features.astype(np.float64)):
            labels, again = fine_grained_labels(same, other)
            assert torch.equal(labels, expected)
            torch.testing.assert_close(again, centres)
    tracked = torch.from_numpy(features).requires_grad_()
    assert not fine_grained_labels(tracked, pids)[1].requires_grad


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"eps": 0.0}, "eps"),
        ({"eps": -1.0}, "eps"),
        ({"eps": float("nan")}, "eps"),
        ({"eps": 1.5}, "eps"),
        ({"k1": 0}, "k1=0"),
        ({"k2": 0}, "k2=0"),
        ({"min_samples": 0}, "min_samples"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        fine_grained_labels(*people(11, [5]), **setting)


def test_bad_data_is_refused():
    features, pids = people(12, [5, 6])
    with pytest.raises(DataError, match="one pid for each"):
        fine_grained_labels(features, pids[:-1])
    with pytest.raises(DataError, match="one pid for each"):
        fine_grained_labels(features, pids[:, None])
    with pytest.raises(DataError, match="integers"):
        fine_grained_labels(features, pids.astype(np.float32))
    with pytest.raises(DataError, match="floating"):
        fine_grained_labels(pids[:, None], pids)
    with pytest.raises(DataError, match="not empty"):
        fine_grained_labels(features[:0], pids[:0])
    features[2, 3] = np.nan
    with pytest.raises(DataError, match="1 of 11"):
        fine_grained_labels(features, pids)
