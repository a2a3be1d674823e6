"""How far two labellings of the same images agree, one identity at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ccreid.errors import DataError

Labels = Tensor | NDArray[np.integer]


def rand_agreement(labels: Labels, others: Labels, pids: Labels) -> float:
    """Return the adjusted Rand index of two labellings inside each identity, averaged over them.

    1 where both divide every identity's images alike, 0 on average where they do so by chance. An
    identity counts as 1 where both have it in one piece, or both in single images. Over all images
    at once the index would mostly say that clusters keep to their identity, which they always do.

    Args:
        labels: `[N]`, N >= 1; any numbers.
        others: `[N]`.
        pids: identity of each image, `[N]`.

    Raises:
        DataError: lengths differ or nothing is given.

    Source: Hubert and Arabie: "Comparing Partitions", Journal of Classification 2, 1985.
    """
    first, second, identity = (np.asarray(each).reshape(-1) for each in (labels, others, pids))
    lengths = {len(first), len(second), len(identity)}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(f"Labels of {sorted(lengths)} images cannot be compared.")
    _, person = np.unique(identity, return_inverse=True)
    together = _pairs(person, first, second)
    one, other, all_of_them = _pairs(person, first), _pairs(person, second), _pairs(person)
    expected = one * other / np.maximum(all_of_them, 1)
    possible = (one + other) / 2 - expected
    gained = np.divide(
        together - expected, possible, out=np.ones_like(possible), where=possible > 0
    )
    return float(gained.mean())


def _pairs(person: NDArray[np.intp], *labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """Count each person's pairs of images that share all these labels, `[people]`."""
    cells, sizes = np.unique(np.stack([person, *labels]), axis=1, return_counts=True)
    return np.bincount(cells[0], weights=sizes * (sizes - 1) / 2).astype(np.float64)
