"""CaptionStore: what is said of an image, one text per perspective."""

from __future__ import annotations

from collections.abc import Sequence

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.sample import Sample
from ccreid.errors import DataError


class CaptionStore:
    """Reads the captions that come with a benchmark.

    Args:
        benchmark: whose captions to read.
    """

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark

    def require(self, samples: Sequence[Sample]) -> None:
        """Raise a DataError with the first missing caption unless every sample has some."""
        for sample in samples:
            self.get(sample)

    def get(self, sample: Sample) -> tuple[str, ...]:
        """Return the texts of one sample in the benchmark's order of perspectives.

        Raises:
            DataError: the benchmark has no caption for this sample.
        """
        texts = self.benchmark.captions(sample)
        if texts is None:
            raise DataError(
                f"No caption for {sample.path}: {self.benchmark.name} comes without one. "
                "Choose a method that needs no captions, or data=virtual, which has them."
            )
        return texts
