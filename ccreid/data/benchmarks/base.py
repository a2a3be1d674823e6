"""What every benchmark is: lists of samples, protocols, published counts, licence, citation."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ccreid.data.clips import CAL_CLIPS, ClipRule
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample, ids
from ccreid.errors import DataError

SPLITS = ("train", "query", "gallery")
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png")
_FOREIGN = ("Thumbs.db", "desktop.ini")
_FOREIGN_FOLDERS = ("@eaDir", "__MACOSX")
_OUTFITS = 100_000  # more than any person owns

HOW_TO_GET = {
    "parsing": "Make them with python -m ccreid.parse data={name} and set data.parsing.root.",
    "captions": "Write them with python -m ccreid.caption data={name}, turn them into features "
    "with python -m ccreid.encode_text, and set data.captions.layout=ccreid.",
}
"""Side information that any benchmark can be given."""

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
        tolerance: share that a remembered number may be off before `ccreid.verify` calls it a
            fault. Loading warns whatever the difference: a memory must stop no training.
    """

    identities: int | None
    images: int | None
    certain: bool = True
    certain_identities: bool | None = None
    what: str = "images"
    tolerance: ClassVar[float] = 0.1

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> SplitCount:
        """Return the size of a list."""
        return cls(len(set(ids(samples, "pid"))), len(samples))

    @property
    def people_are_certain(self) -> bool:
        """Whether the number of people is verified."""
        return self.certain if self.certain_identities is None else self.certain_identities

    def contradicts(self, found: SplitCount) -> tuple[bool, bool]:
        """Return whether a number that is certain, and whether any number, differs from `found`."""
        errors = self._errors(found)
        return any(error and sure for error, _, sure in errors), any(e for e, _, _ in errors)

    def is_far_from(self, found: SplitCount) -> bool:
        """Return whether a remembered number is off by more than the tolerance."""
        return any(
            error > self.tolerance * own for error, own, sure in self._errors(found) if not sure
        )

    def _errors(self, found: SplitCount) -> list[tuple[int, int, bool]]:
        """Return of every known number how far it is off, itself, and whether it is certain."""
        numbers = (
            (self.identities, found.identities, self.people_are_certain),
            (self.images, found.images, self.certain),
        )
        return [(abs((n or 0) - own), own, sure) for own, n, sure in numbers if own is not None]

    def __str__(self) -> str:
        images = "an unknown number of" if self.images is None else self.images
        return f"{images} {self.what}" + (
            "" if self.identities is None else f" of {self.identities} people"
        )


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
        unlabelled: what no train image has, any of clothes, cameras, parsing, captions.
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
    unlabelled: ClassVar[frozenset[str]] = frozenset()

    train: tuple[Sample, ...]
    query: tuple[Sample, ...]
    gallery: tuple[Sample, ...]
    warnings: tuple[str, ...] = ()
    num_foreign_files: int = 0

    @classmethod
    def lacks(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return what the train images have in no case, and how to get it; reads no data.

        Args:
            settings: of the constructor (`cfg.data.benchmark`).
        """
        return {
            what: HOW_TO_GET.get(what, "").format(name=cls.name) for what in sorted(cls.unlabelled)
        }

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
        """Turn what the block cannot read into a fault: inside `collect_faults` it only ends it."""
        try:
            yield
        except DataError as error:
            self.fault(str(error).removesuffix(f"\n{self.remedy()}"))
        except OSError as error:
            self.fault(f"{error.filename} cannot be read: {error.strerror}.")

    def report_broken_links(
        self, paths: Iterable[Path], extensions: tuple[str, ...] = IMAGE_EXTENSIONS
    ) -> None:
        """Make a fault of every image among the paths that is a link to nothing."""
        for path in paths:
            if is_image_name(path.name, extensions) and path.is_symlink() and not path.exists():
                self.fault(f"{path} is a link to {os.readlink(path)}, which is not there.")

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
            One sentence per difference from a remembered count, and per part that is not there and
            not needed. Inside `collect_faults` a gross difference is a fault.

        Raises:
            DataError: a split is empty, or contradicts a count (`SplitCount.contradicts`).
        """
        for split, samples in self.splits.items():
            if not samples:
                self.fault(f"{self.name}: the {split} split has no image.")
        warnings = []
        found = self.found_counts()
        for part, expected in self.expected_counts().items():
            if part not in found:
                warnings.append(
                    f"{self.name} {part}: expected {expected}, but it is not there. Nothing is "
                    "trained or evaluated on it."
                )
                continue
            wrong, differs = expected.contradicts(found[part])
            message = f"{self.name} {part}: expected {expected}, found {found[part]}."
            if not (expected.certain and expected.people_are_certain):
                message += " The expected number is remembered, not verified."
            is_checked = _collected.get() is not None
            if wrong or (is_checked and expected.is_far_from(found[part])):
                self.fault(message)
            elif differs:
                warnings.append(message)
        return warnings

    def num_unanswerable(self, protocol: Protocol) -> tuple[int, int]:
        """Return how many queries of a protocol have no match, and how many queries it has."""
        queries = len(protocol.select_query(self.query))
        if not (queries and len(protocol.select_galleries(self.gallery)[0])):
            return queries, queries
        return protocol.num_queries_without_match(self.query, self.gallery)

    def why_unanswerable(self, protocol: Protocol) -> str:
        """Return one sentence on a protocol none of whose queries can be answered."""
        queries = protocol.select_query(self.query)
        (gallery, *_) = protocol.select_galleries(self.gallery)
        for images, kind in ((queries, "query"), (gallery, "gallery image")):
            if not len(images):
                return (
                    f"{self.name}: there is no {kind} under the cameras of protocol "
                    f"'{protocol.name}' ({protocol}). Get the whole benchmark: this copy "
                    "lacks them."
                )
        return (
            f"{self.name}: none of the {len(queries)} queries of protocol '{protocol.name}' has a "
            "match in the gallery."
        )

    @abstractmethod
    def remedy(self) -> str:
        """Return where the loader looked, what it expected and how to get it."""


def outfit_id(pid: int, outfit: int) -> int:
    """Return a clothes id that is unique over all people, from an outfit's number per person."""
    if outfit >= _OUTFITS:
        raise DataError(f"Outfit {outfit} of person {pid}: more than {_OUTFITS} were not expected.")
    return pid * _OUTFITS + outfit


def list_images(folder: Path, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> Iterator[Path]:
    """Yield the images of a folder in sorted order; hidden and foreign files are passed over."""
    for path in sorted(folder.iterdir()):
        if is_image_name(path.name, extensions) and path.is_file():
            yield path


def is_image_name(name: str, extensions: tuple[str, ...] = IMAGE_EXTENSIONS) -> bool:
    """Return whether a file of this name is an image, not one that a file manager left behind."""
    hidden = name.startswith(".") or name in _FOREIGN
    return not hidden and name.lower().endswith(extensions)


def is_foreign_folder(name: str) -> bool:
    """Return whether a folder of this name is hidden, or left behind by a file manager."""
    return name.startswith(".") or name in _FOREIGN_FOLDERS
