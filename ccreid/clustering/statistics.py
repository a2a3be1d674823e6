"""How clusters relate to identities and clothes: for the dashboard, never for training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from ccreid.errors import DataError


def cluster_statistics(
    labels: Tensor | NDArray[np.integer],
    pids: Tensor | NDArray[np.integer],
    clothes_ids: Tensor | NDArray[np.integer] | None = None,
) -> dict[str, float]:
    """Summarise a clustering.

    Args:
        labels: cluster of each image, `[N]`, N >= 1.
        pids: identity of each image, `[N]`.
        clothes_ids: clothes of each image, `[N]`, where the benchmark has them.

    Returns:
        `num_clusters` and `clusters_per_identity` (different labels met inside an identity,
        averaged over identities); with clothes also `purity` (fraction of images that wear the
        commonest clothes of their cluster) and `nmi` (normalised mutual information of clusters and
        clothes, arithmetic mean).

    Raises:
        DataError: lengths differ or nothing is given.
    """
    cluster, identity = _flat(labels), _flat(pids)
    clothes = None if clothes_ids is None else _flat(clothes_ids)
    lengths = {len(a) for a in (cluster, identity, clothes) if a is not None}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(
            f"labels, pids and clothes_ids have lengths {sorted(lengths)}: "
            "pass one entry of each for every image, in the same order."
        )
    pairs = np.unique(np.stack([identity, cluster]), axis=1)
    statistics = {
        "num_clusters": float(len(np.unique(cluster))),
        "clusters_per_identity": pairs.shape[1] / len(np.unique(identity)),
    }
    if clothes is not None:
        found, sizes = np.unique(np.stack([cluster, clothes]), axis=1, return_counts=True)
        _, group = np.unique(found[0], return_inverse=True)
        majority = np.zeros(int(group.max()) + 1, dtype=np.int64)
        np.maximum.at(majority, group, sizes)
        statistics["purity"] = float(majority.sum() / len(cluster))
        statistics["nmi"] = float(normalized_mutual_info_score(clothes, cluster))
    return statistics


def _flat(values: Tensor | NDArray[np.integer]) -> NDArray[np.int64]:
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    return array.astype(np.int64).reshape(-1)
