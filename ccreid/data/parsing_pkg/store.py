"""ParsingStore: human-parsing masks in the library's canonical labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.files import read_labels
from ccreid.data.sample import Sample
from ccreid.errors import DataError

CANONICAL_LABELS = (
    "background",
    "head",
    "upper",
    "lower",
    "onepiece",
    "arms",
    "legs",
    "shoes",
    "bag",
    "other_wear",
)
"""Names of labels 0 to 9; head includes hair, hats and glasses, shoes includes socks."""


class ParsingStore:
    """Reads the parsing masks that come with a benchmark.

    Args:
        benchmark: whose masks to read.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark

    def require(self, samples: Sequence[Sample]) -> None:
        """Raise a DataError with the first missing mask unless every sample has one."""
        for sample in samples:
            self._path(sample)

    def get(self, sample: Sample) -> NDArray[np.uint8]:
        """Return the mask of one sample, [H, W] uint8 of canonical labels.

        Raises:
            DataError: there is no mask, it is unreadable, or it holds a label beyond 9.
        """
        path = self._path(sample)
        labels = read_labels(path)
        if labels.max(initial=0) >= len(CANONICAL_LABELS):
            raise DataError(
                f"{path} holds label {labels.max()}, canonical labels end at "
                f"{len(CANONICAL_LABELS) - 1} ({CANONICAL_LABELS[-1]}). Convert the mask first."
            )
        return labels

    def _path(self, sample: Sample) -> str:
        path = self.benchmark.parsing_path(sample)
        if path is None:
            raise DataError(
                f"No parsing mask for {sample.path}: {self.benchmark.name} comes without one. "
                "Choose a method that needs no masks, or data=virtual, which has them."
            )
        return path
