"""The ranking of one chunk of queries.

A gallery is never sorted together with its indices: the first places come from a partial sort, and
average precision needs only the ranks of the positives, which a binary search among the sorted
distances of the other images gives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class RankedChunk(NamedTuple):
    """The fields of `RetrievalResults` for a chunk of C queries, `[C, depth]` or `[C]`."""

    indices: Tensor
    distances: Tensor
    average_precision: Tensor
    first_hit_rank: Tensor
    last_hit_rank: Tensor
    num_positives: Tensor


def rank_chunk(
    distances: Tensor, columns: Tensor, positive: Tensor, junk: Tensor, depth: int
) -> RankedChunk:
    """Rank the gallery for the queries of a chunk.

    Args:
        distances: float32 or float64 `[C, G]`, finite; overwritten.
        columns: int64 `[C, S]`, the gallery indices of the query's person (`SamePerson.chunk`).
        positive: bool `[C, S]`.
        junk: bool `[C, S]`.
        depth: number of ranked places to return.
    """
    _remove(distances, columns, junk)
    indices, nearest = _first_places(distances, depth)

    count = positive.sum(dim=1)
    # Columns rise along a row, so a stable sort orders the positives as the tie rule does.
    value, slot = torch.where(positive, distances.gather(1, columns), torch.inf).sort(
        dim=1, stable=True
    )
    most = max(1, int(count.max()))
    value, column = value[:, :most].contiguous(), columns.gather(1, slot[:, :most])

    _remove(distances, columns, positive)
    order = torch.arange(1, most + 1, device=distances.device)
    rank = order + _others_before(distances, value, column)

    is_positive = order <= count[:, None]
    precision = torch.where(is_positive, order / rank.double(), 0.0)
    # A running sum adds in order, so the fill of a wider chunk does not change the last bit.
    summed = precision.cumsum(dim=1)[:, -1]
    hit = count > 0
    last = rank.gather(1, (count - 1).clamp(min=0)[:, None])[:, 0]
    return RankedChunk(
        indices=indices,
        distances=nearest,
        average_precision=summed / count,  # 0 / 0 is the NaN of a query without positives
        first_hit_rank=torch.where(hit, rank[:, 0], -1),
        last_hit_rank=torch.where(hit, last, -1),
        num_positives=count,
    )


def _remove(distances: Tensor, columns: Tensor, which: Tensor) -> None:
    """Push the marked gallery images to infinity, in place."""
    row, slot = which.nonzero(as_tuple=True)
    distances[row, columns[row, slot]] = torch.inf


def _first_places(distances: Tensor, depth: int) -> tuple[Tensor, Tensor]:
    """Return indices and distances `[C, depth]` of the nearest, filled up with -1 and inf."""
    num_gallery = distances.shape[1]
    kept = min(depth, num_gallery)
    # One place more than asked for shows whether a tie crosses the cut: only there topk's choice is
    # arbitrary.
    value, index = distances.topk(min(kept + 1, num_gallery), dim=1, largest=False)
    index = index[:, :kept].sort(dim=1).values
    order = distances.gather(1, index).argsort(dim=1, stable=True)
    index = index.gather(1, order)
    if kept < num_gallery:
        cut = ((value[:, kept - 1] == value[:, kept]) & value[:, kept].isfinite()).nonzero()[:, 0]
        index[cut] = distances[cut].argsort(dim=1, stable=True)[:, :kept]
    value = distances.gather(1, index)
    index = torch.where(value.isfinite(), index, -1)
    missing = (0, depth - kept)
    return (
        torch.nn.functional.pad(index, missing, value=-1),
        torch.nn.functional.pad(value, missing, value=torch.inf),
    )


def _others_before(distances: Tensor, value: Tensor, column: Tensor) -> Tensor:
    """Count `[C, P]` the other images ranked before each positive.

    A positive is given by its distance `value` and its gallery index `column`, both `[C, P]`.
    `distances` `[C, G]` holds inf for all that is not to be counted. Entries whose `value` is inf
    mean nothing.
    """
    ranked = _sorted_rows(distances)
    nearer = torch.searchsorted(ranked, value)
    equal = torch.searchsorted(ranked, value, right=True) - nearer
    row, place = ((equal > 0) & value.isfinite()).nonzero(as_tuple=True)
    count = _equal_before_by_loop if distances.device.type == "cpu" else _equal_before_in_parts
    nearer[row, place] += count(distances, row, column[row, place], value[row, place])
    return nearer


def _sorted_rows(values: Tensor) -> Tensor:
    """Return the values sorted along each row."""
    # NumPy sorts plain values with vector instructions; torch sorts indices along and takes ten
    # times as long on a CPU.
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def _equal_before_by_loop(distances: Tensor, row: Tensor, column: Tensor, value: Tensor) -> Tensor:
    """Count `[T]` the entries of `distances[row]` that equal `value` and stand before `column`."""
    table, values = distances.numpy(), value.numpy()
    places = zip(row.tolist(), column.tolist(), values, strict=True)
    return torch.tensor(
        [np.count_nonzero(table[r, :c] == v) for r, c, v in places], dtype=torch.int64
    )


def _equal_before_in_parts(distances: Tensor, row: Tensor, column: Tensor, value: Tensor) -> Tensor:
    """Count the same without a step per entry, in parts no larger than `distances`."""
    num_rows, num_gallery = distances.shape
    gallery = torch.arange(num_gallery, device=distances.device)
    counts = torch.zeros_like(row)
    for start in range(0, len(row), num_rows):
        part = slice(start, start + num_rows)
        equal = distances[row[part]] == value[part, None]
        counts[part] = (equal & (gallery < column[part, None])).sum(dim=1)
    return counts
