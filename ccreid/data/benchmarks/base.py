"""What every benchmark is: lists of samples, protocols, published counts, licence, citation."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample, ids
from ccreid.errors import DataError

SPLITS = ("train", "query", "gallery")
_FOREIGN = ("Thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class SplitCount:
    """Published size of one split; `certain` counts are enforced, others only warned about."""

    identities: int
    images: int
    certain: bool = True


class Benchmark(ABC):
    """A benchmark on disk: `train`, `query` and `gallery` lists and the protocols to evaluate.

    Query and gallery are only ever evaluated. Listings are sorted, ids are int64, and
    `clothes_id` is unique over all people.

    Attributes:
        name: the name used in metric keys and on the command line.
        protocols: the ways this benchmark is evaluated.
        counts: published size per split.
        licence, url, citation: the terms, where to get it, what to cite.
        layout: the folder tree the loader expects, for people.
    """

    name: ClassVar[str]
    protocols: tuple[Protocol, ...]
    counts: ClassVar[Mapping[str, SplitCount]]
    licence: ClassVar[str]
    url: ClassVar[str]
    citation: ClassVar[str]
    layout: ClassVar[str]

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]

    @property
    def splits(self) -> dict[str, tuple[Sample, ...]]:
        """The three lists by name."""
        return {"train": self.train, "query": self.query, "gallery": self.gallery}

    def parsing_path(self, sample: Sample) -> str | None:
        """Return where the parsing mask that comes with the benchmark lies, or None."""
        return None

    def captions(self, sample: Sample) -> tuple[str, ...] | None:
        """Return the captions that come with the benchmark, in its own order, or None."""
        return None

    def expected_counts(self) -> Mapping[str, SplitCount]:
        """Return the counts that `verify` compares with; none for a user's own variant."""
        return self.counts

    def verify(self) -> list[str]:
        """Compare the lists with the published counts.

        Returns:
            One sentence per difference from a count that is not certain.

        Raises:
            DataError: a split is empty, or differs from a certain count.
        """
        warnings = []
        for split, samples in self.splits.items():
            if not samples:
                raise DataError(f"{self.name}: the {split} split has no image.\n{self.remedy()}")
            expected = self.expected_counts().get(split)
            if expected is None:
                continue
            found = SplitCount(len(set(ids(samples, "pid"))), len(samples))
            if (found.identities, found.images) == (expected.identities, expected.images):
                continue
            message = (
                f"{self.name} {split}: expected {expected.images} images of "
                f"{expected.identities} people, found {found.images} of {found.identities}."
            )
            if expected.certain:
                raise DataError(f"{message}\n{self.remedy()}")
            warnings.append(message)
        return warnings

    @abstractmethod
    def remedy(self) -> str:
        """Return where the loader looked, what it expected and how to get it."""


def find_root(
    benchmark: type[Benchmark], root: Path | str, folders: Sequence[str], inside: str
) -> Path:
    """Find a benchmark's folder at `root` or one level below it, under any of its usual names.

    Args:
        benchmark: the class, for its name and its remedy.
        root: where the user says the data is.
        folders: the names the benchmark's folder goes by.
        inside: what such a folder holds, by which it is known under any other name.

    Raises:
        DataError: none of them exists; the message says where it was looked for and how to get it.
    """
    base = Path(root).expanduser()
    candidates = [base / name for name in folders]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    if base.is_dir() and (base.name in folders or (base / inside).exists()):
        return base
    looked = "\n".join(f"  {path.absolute()}" for path in (*candidates, base))
    raise DataError(f"{benchmark.name} was not found. Looked in\n{looked}\n{how_to_get(benchmark)}")


def how_to_get(benchmark: type[Benchmark]) -> str:
    """Return what the loader expects and how to obtain it, as one screen of text."""
    variable = os.environ.get("CCREID_DATA")
    return (
        f"Expected this layout:\n{benchmark.layout}\n"
        f"Get it from {benchmark.url} ({benchmark.licence}), then either\n"
        "  say where it is:   data.root=/folder/that/holds/it\n"
        "  or once for all:   export CCREID_DATA=/folder/that/holds/it"
        f" (now {'unset' if variable is None else variable})\n"
        "Or start without any download: data=virtual"
    )


def list_images(
    folder: Path, extensions: tuple[str, ...] = (".jpg", ".jpeg", ".png")
) -> Iterator[Path]:
    """Yield the images of a folder in sorted order; hidden and foreign files are passed over."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in _FOREIGN:
            continue
        if path.suffix.lower() in extensions and path.is_file():
            yield path
