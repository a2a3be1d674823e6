"""k-reciprocal Jaccard distance (Zhong et al., CVPR 2017), as FIRe² uses it inside one identity.

Everything is dense tensor algebra over `[B, N, N]`: a batch of B identities padded to N images.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ccreid.clustering.neighbours import (
    Backend,
    check_features,
    cosine_matrix,
    nearest_neighbours,
    paired_cosines,
    rank_in_sets,
)
from ccreid.errors import ConfigError

# Up to this many images the cosine matrix is cheaper than a search followed by scoring the pairs
# that matter; beyond it, double-precision matrices would dominate the memory.
MATRIX_LIMIT = 1024


@torch.no_grad()
def jaccard_distance(
    features: Tensor | NDArray[np.floating], k1: int = 20, k2: int = 6, backend: Backend = "auto"
) -> Tensor:
    """Return the k-reciprocal Jaccard distance of all pairs of images.

    With R(i) the k1-reciprocal neighbours of i, V(i) the softmax of the cosines over the expanded
    R(i), averaged over the first k2 neighbours, the distance is 1 - s / (2 - s) with
    s = Σ min(V(i), V(j)).
    Sets smaller than k1 or k2 use min(k1, N) and min(k2, N).

    Args:
        features: `[N, D]`, tensor or array, finite and not zero; used as unit features.
        k1: length of the neighbour lists, the image itself counted.
        k2: neighbours averaged by the query expansion, the image itself counted.
        backend: who searches the neighbours, see `nearest_neighbours`. The distances do not depend
            on it.

    Returns:
        `[N, N]` float32 in [0, 1], symmetric, zero diagonal, on the device of `features`. Memory is
        some ten matrices of that size.

    Raises:
        ConfigError: `k1` or `k2` < 1, or an unusable backend.
        DataError: features that are not `[N, D]`, not finite, or zero.

    Source: FIRe² (arXiv 2308.10692), fine-grained feature mining.
    """
    check_neighbourhood(k1, k2)
    features = torch.as_tensor(features)
    check_features(features)
    count = len(features)
    (condensed,) = condensed_distances(features[None], [count], k1, k2, backend)
    distances = features.new_zeros(count, count, dtype=torch.float32)
    rows, columns = torch.triu_indices(count, count, offset=1, device=features.device)
    distances[rows, columns] = condensed
    distances[columns, rows] = condensed
    return distances


def condensed_distances(
    block: Tensor, sizes: list[int], k1: int, k2: int, backend: Backend = "auto"
) -> list[Tensor]:
    """Return the distances i < j (row by row, as `pdist`) inside each set of a padded batch.

    Args:
        block: `[B, N, D]`; rows of set b beyond `sizes[b]` may hold anything finite. B must be 1
            where N > MATRIX_LIMIT.
        sizes: B integers of at most N.
        k1: see `jaccard_distance`.
        k2: see `jaccard_distance`.
        backend: see `jaccard_distance`.
    """
    count, depth = block.shape[1], min(max(k1, k2), block.shape[1])
    size = torch.tensor(sizes, device=block.device)
    if count > MATRIX_LIMIT:
        assert len(block) == 1, "large sets are not batched"
        ranks = nearest_neighbours(block[0], depth, backend)[None]
        members = expanded_neighbours(ranks, size, k1)
        _, rows, columns = members.nonzero(as_tuple=True)
        cosines = torch.zeros(members.shape, device=block.device)
        cosines[0, rows, columns] = paired_cosines(block[0], rows, columns).float()
    else:
        exact = cosine_matrix(block)
        ranks = rank_in_sets(block, exact, size, depth, backend)
        members = expanded_neighbours(ranks, size, k1)
        cosines = exact.float()
    weights = cosines.mul_(2).sub_(2).exp_().mul_(members)  # softmax of -(2 - 2 cos)
    weights.div_(weights.sum(-1, keepdim=True))
    encoding = query_expansion(weights, ranks, size, k2)
    # The rows sum to one, hence Σ min(a, b) = 1 - |a - b|₁ / 2 and 1 - s / (2 - s) = 2 l / (2 + l).
    # Equal rows give exactly 0; the clip removes rounding above 1 (no common neighbour).
    gaps = [F.pdist(encoding[b, :n, :n].contiguous(), p=1) for b, n in enumerate(sizes)]
    return [(2 * gap / (2 + gap)).clamp_(max=1) for gap in gaps]


def expanded_neighbours(ranks: Tensor, size: Tensor, k1: int) -> Tensor:
    """Return the mask `[B, N, N]` of the expanded k1-reciprocal neighbours.

    R½(j), reciprocal in the first round(k1 / 2) + 1 columns, joins R(i) for every j of R(i) with
    more than two thirds of R½(j) inside R(i). All tests look at R(i) before any joining.

    Args:
        ranks: neighbour lists `[B, N, >= min(k1, N)]`.
        size: number of images of each set, `[B]`.
        k1: length of the lists, the image itself counted.
    """
    lengths = [min(k1, n) for n in size.tolist()]
    # Python's rounding (to even) is part of the published rule.
    half_lengths = [round(length / 2) + 1 for length in lengths]
    near = _reciprocal(ranks, size.new_tensor(lengths))
    core = _reciprocal(ranks, size.new_tensor(half_lengths))
    overlap = near @ core  # |R(i) ∩ R½(j)|: core is symmetric
    joins = near * (3 * overlap > 2 * core.sum(-1)[:, None, :])
    return (near + joins @ core) > 0


def query_expansion(weights: Tensor, ranks: Tensor, size: Tensor, k2: int) -> Tensor:
    """Return the rows of `weights` `[B, N, N]` averaged over each image's first k2 neighbours."""
    batch, count, _ = weights.shape
    length = size.clamp(max=k2)
    rows = weights.view(batch * count, count)
    offsets = torch.arange(batch, device=ranks.device)[:, None] * count
    total = torch.zeros_like(weights)
    for column in range(min(k2, count)):
        share = (column < length) / length  # sets smaller than k2 have fewer columns
        source = (ranks[:, :, column] + offsets).flatten()
        total.addcmul_(rows[source].view_as(weights), share[:, None, None])
    return total


def check_neighbourhood(k1: int, k2: int) -> None:
    """Raise ConfigError unless both list lengths are at least 1."""
    if k1 < 1 or k2 < 1:
        raise ConfigError(
            f"The neighbourhood sizes must be at least 1, not k1={k1}, k2={k2}. "
            "Each counts the image itself; published: k1=20, k2=6."
        )


def _reciprocal(ranks: Tensor, length: Tensor) -> Tensor:
    """Return 1 where i and j are in the first `length` columns of each other, else 0."""
    batch, count, depth = ranks.shape
    column = torch.arange(depth, device=ranks.device)
    listed = (column < length[:, None, None]).float().expand(batch, count, depth)
    forward = torch.zeros(batch, count, count, device=ranks.device).scatter_(2, ranks, listed)
    return forward * forward.mT
