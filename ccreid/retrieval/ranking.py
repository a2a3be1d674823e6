"""Exact ranking of a gallery, a chunk of queries at a time: never the whole query x gallery matrix.

Equal distances rank by gallery index. For given distances the result depends on neither chunk size
nor depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccreid.errors import ConfigError, DataError
from ccreid.faults import within_memory
from ccreid.retrieval.junk import Ids, Rule, SamePerson
from ccreid.retrieval.kernel import RankedChunk, rank_chunk
from ccreid.retrieval.numerics import exact_float32, normalised, own_copy
from ccreid.retrieval.results import RetrievalResults

# Distances held at once: 32 MiB of float32; a chunk needs about four times that in all. More is not
# faster on a CPU, less reads a large gallery too often (experiments/benchmarks/ranking.md).
_CHUNK_ELEMENTS = 2**23


def rank_distances(
    distances: Tensor | NDArray[Any],
    *,
    query_pid: Ids,
    gallery_pid: Ids,
    query_camid: Ids | None = None,
    gallery_camid: Ids | None = None,
    query_clothes_id: Ids | None = None,
    gallery_clothes_id: Ids | None = None,
    rule: Rule = "standard",
    depth: int = 50,
) -> RetrievalResults:
    """Rank the gallery of every query by given distances (smaller is nearer).

    Args:
        distances: `[Q, G]`, tensor or array. float64 (and integers) are ranked as float64, half
            precision as float32; never changed.
        query_pid: integer ids `[Q]`.
        gallery_pid: integer ids `[G]`.
        query_camid: the camera, or what plays it; needed by every rule but `none`.
        gallery_camid: likewise.
        query_clothes_id: needed by `cc` and `sc`.
        gallery_clothes_id: likewise.
        rule: which gallery images are positives and which are junk
            (`ccreid.retrieval.junk.SamePerson`).
        depth: number of ranked places to keep for each query.

    Raises:
        ConfigError: unknown rule, or a depth below 1.
        DataError: malformed ids, distances of another shape, or a distance that is NaN or infinite.
    """
    same = SamePerson(
        query_pid,
        gallery_pid,
        query_camid,
        gallery_camid,
        query_clothes_id,
        gallery_clothes_id,
        rule,
        distances.device if isinstance(distances, Tensor) else None,
    )
    if tuple(distances.shape) != (same.num_queries, same.num_gallery):
        raise DataError(
            f"`distances` is {tuple(distances.shape)} for {same.num_queries} query and "
            f"{same.num_gallery} gallery ids; it must be [queries, gallery]."
        )

    def chunk(start: int, stop: int) -> Tensor:
        copy = own_copy(distances[start:stop])
        if not torch.isfinite(torch.stack(torch.aminmax(copy))).all():
            row = start + int(torch.nonzero(~torch.isfinite(copy))[0, 0])
            raise DataError(
                f"A distance of query {row} is NaN or infinite; check the features it comes from."
            )
        return copy

    return _rank(chunk, same, depth, None)


def rank_features(
    query_features: Tensor | NDArray[Any],
    gallery_features: Tensor | NDArray[Any],
    *,
    query_pid: Ids,
    gallery_pid: Ids,
    query_camid: Ids | None = None,
    gallery_camid: Ids | None = None,
    query_clothes_id: Ids | None = None,
    gallery_clothes_id: Ids | None = None,
    rule: Rule = "standard",
    depth: int = 50,
    chunk_size: int | None = None,
) -> RetrievalResults:
    """Rank the gallery of every query by cosine distance 1 - q.g of the L2-normalised features.

    Normalisation and distances are float32 whatever the input, also under autocast or TF32. Only a
    chunk of the query x gallery matrix exists at a time; the features' device computes. A matrix
    product may round a distance's last bit differently for another chunk size. A feature of zeros
    is at distance 1 from all.

    Args:
        query_features: `[Q, D]`, any float type.
        gallery_features: `[G, D]`, any float type.
        query_pid: this and the other ids, the rule and the depth are as in `rank_distances`.
        gallery_pid: ids `[G]`.
        query_camid: ids `[Q]`.
        gallery_camid: ids `[G]`.
        query_clothes_id: ids `[Q]`.
        gallery_clothes_id: ids `[G]`.
        rule: the junk rule.
        depth: number of ranked places to keep for each query.
        chunk_size: queries in a chunk; by default as many as keep a chunk at about eight million
            distances.

    Raises:
        ConfigError: unknown rule, a depth or chunk size below 1, or no memory for the features.
        DataError: malformed ids, features whose shapes do not fit, or a NaN or infinite feature.
    """
    device = query_features.device if isinstance(query_features, Tensor) else None
    same = SamePerson(
        query_pid,
        gallery_pid,
        query_camid,
        gallery_camid,
        query_clothes_id,
        gallery_clothes_id,
        rule,
        device,
    )
    enough = within_memory(
        f"ranking {same.num_queries:,} × {same.num_gallery:,} features on {device or 'cpu'}",
        "The ranking holds a second copy of the features and a chunk of distances: rank on the "
        "CPU (device=cpu), or on a machine with more memory.",
    )
    with enough:
        query = normalised(query_features, "query", same.num_queries)
        gallery = normalised(gallery_features, "gallery", same.num_gallery)
        if query.shape[1] != gallery.shape[1] or query.device != gallery.device:
            raise DataError(
                f"Query features ({query.shape[1]}-d on {query.device}) and gallery features "
                f"({gallery.shape[1]}-d on {gallery.device}) must have one length and one device."
            )
        with exact_float32(query.device):
            return _rank(
                lambda start, stop: (query[start:stop] @ gallery.T).neg_().add_(1),
                same,
                depth,
                chunk_size,
            )


def queries_without_match(
    query_pid: Ids,
    gallery_pid: Ids,
    *,
    query_camid: Ids | None = None,
    gallery_camid: Ids | None = None,
    query_clothes_id: Ids | None = None,
    gallery_clothes_id: Ids | None = None,
    rule: Rule = "standard",
) -> NDArray[np.bool_]:
    """Return bool `[Q]`: the queries that have no positive under the rule, told from ids alone.

    Memory does not grow with query x gallery. Arguments and errors are those of `rank_distances`.
    """
    same = SamePerson(
        query_pid,
        gallery_pid,
        query_camid,
        gallery_camid,
        query_clothes_id,
        gallery_clothes_id,
        rule,
    )
    size = max(1, _CHUNK_ELEMENTS // same.largest_group)
    parts = [same.chunk(i, i + size)[1].any(dim=1) for i in range(0, same.num_queries, size)]
    return np.asarray(~torch.cat(parts).numpy())


def _rank(
    chunk: Callable[[int, int], Tensor], same: SamePerson, depth: int, chunk_size: int | None
) -> RetrievalResults:
    """Rank chunk by chunk; `chunk(start, stop)` yields finite `[C, G]` that may be overwritten."""
    if depth < 1 or (chunk_size is not None and chunk_size < 1):
        raise ConfigError(f"depth and chunk_size must be at least 1, got {depth} and {chunk_size}.")
    size = chunk_size or max(1, _CHUNK_ELEMENTS // same.num_gallery)
    parts = []
    for start in range(0, same.num_queries, size):
        stop = min(start + size, same.num_queries)
        parts.append(rank_chunk(chunk(start, stop), *same.chunk(start, stop), depth))
    whole = RankedChunk(*(torch.cat(tensors).cpu() for tensors in zip(*parts, strict=True)))

    # Junk has left the ranking, so a ranked image of the query's person is a positive.
    person = same.gallery_pid.cpu()[whole.indices.clamp(min=0)]
    matches = (person == same.query_pid.cpu()[:, None]) & (whole.indices >= 0)
    return RetrievalResults(
        indices=whole.indices.numpy(),
        distances=whole.distances.numpy(),
        matches=matches.numpy(),
        average_precision=whole.average_precision.numpy(),
        first_hit_rank=whole.first_hit_rank.numpy(),
        last_hit_rank=whole.last_hit_rank.numpy(),
        num_positives=whole.num_positives.numpy(),
        rule=same.rule,
        num_gallery=same.num_gallery,
    )
