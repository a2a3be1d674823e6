"""Train people held out to choose settings and epochs on, so that the test people stay unseen."""

from __future__ import annotations

from typing import ClassVar

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.benchmarks.own import SplitRule, possible_protocols
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError, require


class HeldOut(Benchmark):
    """Some of a benchmark's train people, asked for among themselves.

    Evenly spaced people (by number) are held out; a person's queries are the first image of each
    camera and outfit, at most half of the images. Nothing is random.

    Args:
        benchmark: whose train people to divide.
        people: the share of them that is held out, above 0 and below 1.

    Attributes:
        train: the samples of the people who are still trained on.

    Raises:
        ConfigError: the share holds out nobody whom a gallery image could answer, or everybody.
    """

    counts: ClassVar = {}

    def __init__(self, benchmark: Benchmark, people: float) -> None:
        fits = isinstance(people, (int, float)) and 0 < people < 1
        require(fits, "data.validation_people", people, "above 0 and below 1")
        self.name = benchmark.name  # type: ignore[misc]
        self.root, self.clips = benchmark.root, benchmark.clips
        self._benchmark = benchmark
        splits = SplitRule(test_people=people).split(benchmark.train)
        self.train, self.query, self.gallery = (
            _sorted(splits[split]) for split in ("train", "query", "gallery")
        )
        candidates = possible_protocols(self.query + self.gallery) if self.query else ()
        self.protocols = tuple(p for p in candidates if self._answers(p))
        if not (self.train and self.protocols):
            raise ConfigError(
                f"data.validation_people={people} leaves nobody to train on, or no held-out query "
                f"with a match ({len(self.query)} queries). Choose another share."
            )

    def _answers(self, protocol: Protocol) -> bool:
        unanswerable, total = protocol.num_queries_without_match(self.query, self.gallery)
        return unanswerable < total

    def describe(self) -> str:
        """Return in one sentence who is held out."""
        people = len({sample.pid for sample in self.query})
        return (
            f"{people} train people are held out for validation ({len(self.query)} queries, "
            f"{len(self.gallery)} gallery images; "
            f"{', '.join(protocol.name for protocol in self.protocols)})"
        )

    def remedy(self) -> str:
        """Return that of the benchmark itself."""
        return self._benchmark.remedy()


def _sorted(samples: list[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: sample.path))
