"""Fine-grained labels: the clusters of every identity's images (FIRe² feature mining)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from sklearn.cluster import DBSCAN
from torch import Tensor

from ccreid.clustering.jaccard import MATRIX_LIMIT, check_neighbourhood, condensed_distances
from ccreid.clustering.neighbours import Backend, check_features
from ccreid.errors import ConfigError, DataError

Features = Tensor | NDArray[np.floating]
Ids = Tensor | NDArray[np.integer] | Sequence[int]
Labels = NDArray[np.int64]

_BATCH_ELEMENTS = 2**21  # features, or their cosines, of one batch (16 MiB in double precision)
_SMALLEST_FILL = 0.8  # a batch takes no identity that would leave more than 20 % of its rows empty


@torch.no_grad()
def fine_grained_labels(
    features: Features,
    pids: Ids,
    eps: float = 0.4,
    k1: int = 20,
    k2: int = 6,
    min_samples: int = 1,
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor]:
    """Cluster the images of each identity by DBSCAN on their k-reciprocal Jaccard distance.

    Labels are unique over identities: identities in rising pid, clusters of an identity by their
    first image. With `min_samples=1` no image can be an outlier and DBSCAN is the connected
    components of {distance <= eps}. With more, each outlier is a cluster of its own, numbered by
    the same rule.

    Args:
        features: `[N, D]`, finite and not zero, of any length; normalised here.
        pids: `[N]` integer identities.
        eps: DBSCAN radius, a Jaccard distance in (0, 1]. Not the target smoothing of the loss.
        k1: length of the neighbour lists, see `jaccard_distance`.
        k2: neighbours of the query expansion, see `jaccard_distance`.
        min_samples: images within `eps`, itself counted, that make an image a core of DBSCAN.
        backend: who searches neighbours, see `jaccard_distance`; the labels do not depend on it.

    Returns:
        labels `[N]` int64 and centres `[num_clusters, D]` float32 (mean of the cluster's unit
        features, not renormalised), both on the CPU.

    Raises:
        ConfigError: an impossible `eps`, `k1`, `k2`, `min_samples` or backend.
        DataError: features or pids of a wrong shape, or features that are not finite or zero.

    Source: FIRe² (arXiv 2308.10692), fine-grained feature mining.
    """
    check_neighbourhood(k1, k2)
    if not 0 < eps <= 1:
        raise ConfigError(f"eps is a Jaccard distance and must be in (0, 1], not {eps}.")
    if min_samples < 1:
        raise ConfigError(f"min_samples must be at least 1 (no outliers), not {min_samples}.")
    vectors = torch.as_tensor(features)
    if not vectors.is_floating_point():
        raise DataError(f"Features must be floating point, not {vectors.dtype}: pass embeddings.")
    identity = _as_ids(pids)
    check_features(vectors)
    if identity.shape != (len(vectors),):
        raise DataError(
            f"{len(vectors)} features but pids of shape {list(identity.shape)}: "
            "pass one pid for each feature, in the same order."
        )
    order = np.argsort(identity, kind="stable")  # stable: first images stay first
    _, starts, sizes = np.unique(identity[order], return_index=True, return_counts=True)
    distances = _distances(vectors, order, starts, sizes, k1, k2, backend)
    if min_samples == 1:
        grouped = _components(distances, starts, sizes, eps)
    else:
        grouped = _dbscan(distances, starts, sizes, eps, min_samples)
    labels = np.empty(len(order), dtype=np.int64)
    labels[order] = _number_by_first(grouped)
    return torch.from_numpy(labels), _centres(vectors, labels)


def _distances(
    features: Tensor,
    order: NDArray[np.intp],
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    k1: int,
    k2: int,
    backend: Backend,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (identity, its condensed distances), identities of similar size batched together."""
    for members in _batches(sizes, features.shape[1]):
        longest = int(sizes[members].max())
        # Short identities are padded with their own first image; the sizes mask it out again.
        within = np.arange(longest)
        within = np.where(within < sizes[members, None], within, 0)
        rows = torch.from_numpy(order[starts[members, None] + within]).to(features.device)
        block = features[rows]
        condensed = condensed_distances(block, sizes[members].tolist(), k1, k2, backend)
        for member, distance in zip(members.tolist(), condensed, strict=True):
            yield member, distance.cpu().numpy()


def _batches(sizes: NDArray[np.intp], dimension: int) -> Iterator[NDArray[np.intp]]:
    """Yield identities, largest first, in batches of bounded memory and little padding."""
    by_size = np.argsort(-sizes, kind="stable")
    position = 0
    while position < len(by_size):
        longest = int(sizes[by_size[position]])
        most = max(1, _BATCH_ELEMENTS // (longest * max(longest, dimension)))
        if longest > MATRIX_LIMIT:
            most = 1
        batch = by_size[position : position + most]
        batch = batch[sizes[batch] >= _SMALLEST_FILL * longest]
        yield batch
        position += len(batch)


def _components(
    distances: Iterator[tuple[int, NDArray[np.float32]]],
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    eps: float,
) -> Labels:
    """Return the connected components of {distance <= eps} over all identities at once."""
    heads, tails = [], []
    for member, distance in distances:
        size = int(sizes[member])
        linked = np.flatnonzero(distance <= eps)
        # Row i of the condensed matrix begins at its i-th running total of row lengths.
        row_ends = np.cumsum(np.arange(size - 1, 0, -1))
        row = np.searchsorted(row_ends, linked, side="right")
        column = linked - row_ends[row] + size if len(linked) else linked
        heads.append(row + starts[member])
        tails.append(column + starts[member])
    head, tail = np.concatenate(heads), np.concatenate(tails)
    count = int(sizes.sum())
    graph = coo_array((np.ones(len(head), dtype=np.int8), (head, tail)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _dbscan(
    distances: Iterator[tuple[int, NDArray[np.float32]]],
    starts: NDArray[np.intp],
    sizes: NDArray[np.intp],
    eps: float,
    min_samples: int,
) -> Labels:
    """Return DBSCAN's clusters of every identity; an outlier is a cluster of its own."""
    labels = np.empty(int(sizes.sum()), dtype=np.int64)
    for member, distance in distances:
        start, size = int(starts[member]), int(sizes[member])
        matrix = squareform(distance) if size > 1 else np.zeros((1, 1), dtype=np.float32)
        dbscan = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed")
        found = dbscan.fit_predict(matrix).astype(np.int64)
        outlier = found < 0
        found[outlier] = size + np.flatnonzero(outlier)  # no cluster number reaches size
        labels[start : start + size] = found + 2 * start  # keeps identities apart
    return labels


def _number_by_first(labels: Labels) -> Labels:
    """Renumber clusters 0, 1, ... in the order of their first image."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _centres(features: Tensor, labels: Labels) -> Tensor:
    """Return the mean unit feature of every cluster, without a normalised copy of the features."""
    cluster = torch.from_numpy(labels).to(features.device)
    image = torch.arange(len(cluster), device=features.device)
    counts = torch.bincount(cluster)
    features = features.float()
    share = 1 / (torch.linalg.vector_norm(features, dim=1) * counts[cluster])
    averaging = torch.sparse_coo_tensor(
        torch.stack([cluster, image]), share, (len(counts), len(cluster)), check_invariants=False
    )
    centres: Tensor = torch.sparse.mm(averaging, features)
    return centres.cpu()


def _as_ids(pids: Ids) -> NDArray[np.int64]:
    array = pids.detach().cpu().numpy() if isinstance(pids, Tensor) else np.asarray(pids)
    if array.size and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"pids must be integers, not {array.dtype}: map names to numbers first.")
    return array.astype(np.int64)
