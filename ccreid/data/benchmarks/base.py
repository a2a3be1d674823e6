"""What every benchmark is: lists of samples, protocols, published counts, licence, citation."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ccreid.data.clips import CAL_CLIPS, ClipRule
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample, ids
from ccreid.errors import DataError, nearest

SPLITS = ("train", "query", "gallery")
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png")
_FOREIGN = ("Thumbs.db", "desktop.ini")
_OUTFITS = 100_000  # more than any person owns

_collected: ContextVar[list[str] | None] = ContextVar("faults", default=None)


@contextmanager
def collect_faults() -> Iterator[list[str]]:
    """Let benchmarks that are opened inside note their faults in the list, and go on."""
    faults: list[str] = []
    token = _collected.set(faults)
    try:
        yield faults
    finally:
        _collected.reset(token)


@dataclass(frozen=True)
class SplitCount:
    """Published size of one split; what is certain is enforced, the rest only warned about.

    Attributes:
        identities, images: the numbers; None where none is known.
        certain: whether the numbers are verified, not remembered.
        certain_identities: the same for `identities` alone; None means like `certain`.
        what: what is counted beside people.
    """

    identities: int | None
    images: int | None
    certain: bool = True
    certain_identities: bool | None = None
    what: str = "images"

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> SplitCount:
        """Return the size of a list."""
        return cls(len(set(ids(samples, "pid"))), len(samples))

    def contradicts(self, found: SplitCount) -> tuple[bool, bool]:
        """Return whether a number that is certain, and whether any number, differs from `found`."""
        identities = self.identities not in (None, found.identities)
        images = self.images not in (None, found.images)
        sure = self.certain if self.certain_identities is None else self.certain_identities
        return (identities and sure) or (images and self.certain), identities or images

    def __str__(self) -> str:
        images = "an unknown number of" if self.images is None else self.images
        return f"{images} {self.what}" + (
            "" if self.identities is None else f" of {self.identities} people"
        )


class BenchmarkNotFound(DataError):
    """There is no folder of the benchmark where the user says the data is."""


class Benchmark(ABC):
    """A benchmark on disk: `train`, `query` and `gallery` lists and the protocols to evaluate.

    Query and gallery are only ever evaluated. Listings are sorted, ids are int64, and
    `clothes_id` is unique over all people.

    Attributes:
        name: the name used in metric keys and on the command line.
        protocols: the ways this benchmark is evaluated.
        counts: published size per split, and of the whole (`total`) where that is known better.
        licence, url, citation: the terms, where to get it, what to cite.
        layout: the folder tree the loader expects, for people.
        root: the folder, or the archive, that holds it.
        clips: which frames of a tracklet make a clip; of no effect on images.
        hide_faces: whether the licence wants faces hidden in every figure.
        warnings: what `verify` found when the benchmark was opened, one sentence each.
        num_foreign_files: entries beside the images that were passed over.
    """

    name: ClassVar[str]
    protocols: tuple[Protocol, ...]
    counts: ClassVar[Mapping[str, SplitCount]]
    licence: ClassVar[str]
    url: ClassVar[str]
    citation: ClassVar[str]
    layout: ClassVar[str]
    root: Path
    clips: ClipRule = CAL_CLIPS
    hide_faces: ClassVar[bool] = False

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()
    num_foreign_files: int = 0

    @property
    def splits(self) -> dict[str, tuple[Sample, ...]]:
        """The three lists by name."""
        return {"train": self.train, "query": self.query, "gallery": self.gallery}

    def fault(self, message: str) -> None:
        """Raise a DataError with the remedy; inside `collect_faults` note the message instead.

        What follows a call must therefore be able to go on without the faulty item.
        """
        faults = _collected.get()
        if faults is None:
            raise DataError(f"{message}\n{self.remedy()}")
        faults.append(message)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Turn a DataError of the block into a fault: inside `collect_faults` it only ends it."""
        try:
            yield
        except DataError as error:
            self.fault(str(error).removesuffix(f"\n{self.remedy()}"))

    def parsing_path(self, sample: Sample) -> str | None:
        """Return where the parsing mask that comes with the benchmark lies, or None."""
        return None

    def captions(self, sample: Sample) -> tuple[str, ...] | None:
        """Return the captions that come with the benchmark, in its own order, or None."""
        return None

    def expected_counts(self) -> Mapping[str, SplitCount]:
        """Return the counts that `verify` compares with; none for a user's own variant."""
        return self.counts

    def found_counts(self) -> dict[str, SplitCount]:
        """Return the size of every split and of the whole, under the keys of `counts`.

        Test people are other people than train people, whatever their numbers.
        """
        found = {split: SplitCount.of(samples) for split, samples in self.splits.items()}
        people = [len(set(ids(part, "pid"))) for part in (self.train, self.query + self.gallery)]
        images = sum(len(samples) for samples in self.splits.values())
        return {**found, "total": SplitCount(sum(people), images)}

    def verify(self) -> list[str]:
        """Compare the lists with the published counts.

        Returns:
            One sentence per difference from a count that is not certain.

        Raises:
            DataError: a split is empty, or differs from a certain count.
        """
        for split, samples in self.splits.items():
            if not samples:
                self.fault(f"{self.name}: the {split} split has no image.")
        warnings = []
        found = self.found_counts()
        for part, expected in self.expected_counts().items():
            wrong, differs = expected.contradicts(found[part])
            message = f"{self.name} {part}: expected {expected}, found {found[part]}."
            if wrong:
                self.fault(message)
            elif differs:
                warnings.append(f"{message} The expected number is remembered, not verified.")
        return warnings

    @abstractmethod
    def remedy(self) -> str:
        """Return where the loader looked, what it expected and how to get it."""


def find_root(
    benchmark: type[Benchmark], root: Path | str, folders: Sequence[str], inside: str
) -> Path:
    """Find a benchmark's folder at `root` or one level below it, under any of its usual names.

    Spellings that differ in case, hyphens and underscores are the same name.

    Args:
        benchmark: the class, for its name and its remedy.
        root: where the user says the data is.
        folders: the names the benchmark's folder goes by.
        inside: what such a folder holds, by which it is known under any other name.

    Raises:
        BenchmarkNotFound: none of them exists; the message says where it was looked for, and how
            to get it.
        DataError: what it should hold lies deeper.
    """
    base = Path(root).expanduser()
    keys = {_key(name) for name in folders}
    beside = [path for path in sorted(base.iterdir()) if path.is_dir()] if base.is_dir() else []
    candidates = [base / name for name in folders]
    alike = [path for path in (*beside, base) if path.is_dir() and _key(path.name) in keys]
    named = [path for path in candidates if path.is_dir()] + alike
    for folder in (*named, base):
        if (folder / inside).exists():
            return folder
    if nested := _look_deeper(base, named, folders, inside):
        raise DataError(
            f"{benchmark.name} is nested too deep: neither {base.absolute()} nor the benchmark's "
            f"folder in it holds {inside}, but {nested} does. Say data.root={nested}"
        )
    if named:
        return named[0]
    looked = "\n".join(f"  {path.absolute()}" for path in (*candidates, base))
    similar = nearest(folders[0], (path.name for path in beside), cutoff=0.6)
    raise BenchmarkNotFound(
        f"{benchmark.name} was not found.{similar} Looked in\n{looked}\n{how_to_get(benchmark)}"
    )


def _look_deeper(
    base: Path, named: Sequence[Path], folders: Sequence[str], inside: str
) -> Path | None:
    """Return the first folder below the expected place that holds what a benchmark holds."""
    below = [(folder, f"{levels}{inside}") for folder in named for levels in ("*/", "*/*/")]
    for folder, pattern in (*below, *((base, f"*/{name}/{inside}") for name in folders)):
        for path in sorted(folder.glob(pattern)):
            return Path(str(path.absolute()).removesuffix(inside))
    return None


def _key(folder: str) -> str:
    """Reduce a folder's name to what no two spellings of it differ in."""
    return re.sub(r"[^a-z0-9+]", "", folder.lower())


def outfit_id(pid: int, outfit: int) -> int:
    """Return a clothes id that is unique over all people, from an outfit's number per person."""
    if outfit >= _OUTFITS:
        raise DataError(f"Outfit {outfit} of person {pid}: more than {_OUTFITS} were not expected.")
    return pid * _OUTFITS + outfit


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


def list_images(folder: Path, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> Iterator[Path]:
    """Yield the images of a folder in sorted order; hidden and foreign files are passed over."""
    for path in sorted(folder.iterdir()):
        if is_image_name(path.name, extensions) and path.is_file():
            yield path


def is_image_name(name: str, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> bool:
    """Return whether a file of this name is an image, not one that a file manager left behind."""
    hidden = name.startswith(".") or name in _FOREIGN
    return not hidden and name.lower().endswith(extensions)
