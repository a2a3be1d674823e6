"""What benchmarks in folders share: the root is found, names are matched, counts are compared."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import ClassVar

from ccreid.data.benchmarks.base import (
    SPLITS,
    Benchmark,
    SplitCount,
    is_foreign_folder,
    is_image_name,
)
from ccreid.data.benchmarks.root import find_root, how_to_get
from ccreid.data.sample import Sample
from ccreid.errors import DataError, some


class OnDisk(Benchmark):
    """A benchmark that a user downloaded.

    Args:
        root: the folder that holds the benchmark's folder, or that folder itself.

    Attributes:
        folders: the names its folder goes by.
        inside: what that folder holds, by which it is known under any other name.
        cameras: the benchmark's own name of every `camid`; empty where it has no cameras.
        camera_numbers_are_published: whether another camera is a fault; else only how many there
            are was published, their numbers are our guess, and it is warned about.
        one_numbering: whether a number is the same person in train and in test. None where this
            was published nowhere: such a number is then warned about, and counted as two people.
        val_parts: the keys of `counts` that are neither trained nor evaluated on, only counted.
        total_without_val: the total of a copy that lacks them.
        val: their samples, as far as they are there.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    unlabelled = frozenset({"captions"})  # masks may lie in its folder
    folders: ClassVar[tuple[str, ...]]
    inside: ClassVar[str]
    cameras: ClassVar[Mapping[int, str]] = {}
    camera_numbers_are_published: ClassVar[bool] = True
    one_numbering: ClassVar[bool | None] = True
    val_parts: ClassVar[tuple[str, ...]] = ()
    total_without_val: ClassVar[SplitCount] = SplitCount(None, None)

    def __init__(self, root: Path | str = "data") -> None:
        self.root = find_root(type(self), root, self.folders, self.inside)
        self.train, self.query, self.gallery = (self._list(split) for split in SPLITS)
        self.val: dict[str, tuple[Sample, ...]] = {}
        for part in self.val_parts:
            with self.going_on():
                if self.has_val(part):
                    self.val[part] = self._list(part)
        self.warnings = tuple(self.verify())

    @abstractmethod
    def list_split(self, split: str) -> Iterator[Sample]:
        """Yield the samples of a split, or of a part of `val_parts`, in sorted order."""

    def has_val(self, part: str) -> bool:
        """Return whether a part of `val_parts` is on disk."""
        return False

    def _list(self, split: str) -> tuple[Sample, ...]:
        with self.going_on():
            return tuple(self.list_split(split))
        return ()

    def expected_counts(self) -> Mapping[str, SplitCount]:
        """Return the published counts; the total is without validation where that is not there."""
        if any(part in self.counts and part not in self.val for part in self.val_parts):
            return {**self.counts, "total": self.total_without_val}
        return self.counts

    def found_counts(self) -> dict[str, SplitCount]:
        """Return the size of every split and of the whole, under the keys of `counts`."""
        parts = {part: SplitCount.of(samples) for part, samples in self.val.items()}
        whole = len(parts) == len(self.val_parts)
        val = list(chain(*self.val.values())) if whole else []
        groups = (self.train, (*self.query, *self.gallery), val)
        people = [{sample.pid for sample in group} for group in groups]
        number = len(set().union(*people)) if self.one_numbering else sum(map(len, people))
        total = SplitCount(number, sum(map(len, groups)))
        splits = {split: SplitCount.of(samples) for split, samples in self.splits.items()}
        return {**splits, **parts, "total": total}

    def verify(self) -> list[str]:
        """Compare the lists with the published counts, cameras and division of the people."""
        return [*self._strange_cameras(), *super().verify(), *self._in_train_and_test()]

    def _strange_cameras(self) -> Iterator[str]:
        strange: dict[int, list[str]] = {}
        for sample in (*self.train, *self.query, *self.gallery, *chain(*self.val.values())):
            if self.cameras and sample.camid not in self.cameras:
                strange.setdefault(sample.camid, []).append(sample.path)
        names = list(self.cameras.values())
        for _, paths in sorted(strange.items()):
            message = (
                f"{some(paths, 1)}: {self.name} has no such camera, its cameras are {names[0]} to "
                f"{names[-1]}."
            )
            if self.camera_numbers_are_published:
                self.fault(message)
            else:
                yield f"{message} These numbers are a guess: how many there are was published."

    def _in_train_and_test(self) -> Iterator[str]:
        people = {sample.pid for sample in self.train}
        shared = sorted(people & {sample.pid for sample in (*self.query, *self.gallery)})
        if not shared or self.one_numbering is False:
            return
        numbers = some([str(pid) for pid in shared])
        message = f"{self.name}: {len(shared)} people are in train and in test: {numbers}."
        if self.one_numbering:
            self.fault(message)
        else:
            yield f"{message} Whether the numbers start again in test was not published."

    def remedy(self) -> str:
        """Return where the loader looked, what it expected and how to get it."""
        return f"Looked in {self.root.absolute()}.\n{how_to_get(type(self))}"

    def folder(self, *parts: str) -> Path:
        """Return a folder below the root; a DataError says what is there instead."""
        folder = self.root.joinpath(*parts)
        if folder.is_dir():
            return folder
        names = sorted(path.name for path in self.root.iterdir() if path.name[0] != ".")
        raise DataError(
            f"{folder} does not exist; {self.root} holds {', '.join(names[:12]) or 'nothing'}.\n"
            f"{self.remedy()}"
        )

    def entries(self, folder: Path) -> list[Path]:
        """Return what a folder holds, sorted; one that cannot be read is a fault."""
        with self.going_on():
            return sorted(folder.iterdir())
        return []

    def image_files(self, entries: Sequence[Path]) -> list[Path]:
        """Return the images among a folder's entries; one that links to nothing is a fault."""
        named = [path for path in entries if is_image_name(path.name)]
        images = [path for path in named if path.is_file()]
        if len(images) < len(named):
            self.report_broken_links(named)
        return images

    def people(self, folder: Path) -> list[Path]:
        """Return the folders of the people in `folder`; their names are numbers."""
        entries = self.entries(folder)
        inner = [path for path in entries if path.is_dir() and not is_foreign_folder(path.name)]
        strays = [path.name for path in self.image_files(entries)]
        self.num_foreign_files += len(entries) - len(inner) - len(strays)
        if strays:
            self.fault(
                f"{folder} holds {len(strays)} images beside the people's folders, the first is "
                f"{strays[0]}."
            )
        for path in inner:
            if not _is_number(path.name):
                self.fault(f"{path} should be a person's number.")
        return [path for path in inner if _is_number(path.name)]

    def images(self, folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
        """Yield path and parsed base name of a folder's images; another name is a fault."""
        yield from self.matched(self.entries(folder), pattern)

    def matched(
        self, entries: Sequence[Path], pattern: re.Pattern[str]
    ) -> Iterator[tuple[str, re.Match[str]]]:
        """Yield path and parsed base name of the images among a folder's entries."""
        images = self.image_files(entries)
        self.num_foreign_files += len(entries) - len(images)
        for image in images:
            match = pattern.match(image.name)
            if match is None or not all(map(_is_number, _numbers(match))):
                self.fault(f"Unexpected name {image}.")
            else:
                yield str(image), match

    def lines(self, path: Path) -> Iterator[tuple[int, str]]:
        """Yield number and text of a list's lines that are not empty; no UTF-8 is a fault."""
        content = b""
        with self.going_on():
            content = path.read_bytes()
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            number = content.count(b"\n", 0, error.start) + 1
            self.fault(f"{path}, line {number}: this is not UTF-8 text. Save the list as UTF-8.")
            return
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield number, line


def numbered_cameras(count: int) -> dict[int, str]:
    """Return the cameras of a benchmark whose files count them from 1, by `camid`, from 0."""
    return {camid: str(camid + 1) for camid in range(count)}


def _numbers(name: re.Match[str]) -> list[str]:
    """Return the parts of a name that become ids."""
    parts = name.groupdict()
    return [parts[key] for key in ("pid", "camera") if parts.get(key, "").isdecimal()]


def _is_number(name: str) -> bool:
    """Return whether a name is an identity number, from which outfits are numbered in int64."""
    return name.isdecimal() and len(name) <= 12


class FlatFolders(OnDisk):
    """A benchmark whose splits are folders of images, told apart by their names alone.

    Attributes:
        split_folders: the folder of every split.
        pattern: the anchored pattern of a base name.
    """

    inside = "train"
    split_folders: ClassVar[Mapping[str, str]]
    pattern: ClassVar[re.Pattern[str]]

    @abstractmethod
    def sample(self, path: str, name: re.Match[str], split: str) -> Sample:
        """Return the sample that a file's name describes."""

    def list_split(self, split: str) -> Iterator[Sample]:
        """Yield the samples of a split in sorted order."""
        folder = self.folder(self.split_folders[split])
        entries = self.entries(folder)
        is_empty = True
        for path, name in self.matched(entries, self.pattern):
            is_empty = False
            yield self.sample(path, name, split)
        if not is_empty:
            return
        inner = [path.name for path in entries if path.is_dir()]
        if inner := [name for name in inner if not is_foreign_folder(name)]:
            self.fault(
                f"{folder} holds folders ({', '.join(inner[:3])}, ...) and no image: the images "
                "should lie in it directly."
            )
