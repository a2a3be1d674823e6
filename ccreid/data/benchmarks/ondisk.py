"""What benchmarks in folders share: the root is found, names are matched, counts are compared."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from ccreid.data.benchmarks.base import SPLITS, Benchmark, find_root, how_to_get, list_images
from ccreid.data.sample import Sample
from ccreid.errors import DataError


class OnDisk(Benchmark):
    """A benchmark that a user downloaded.

    Args:
        root: the folder that holds the benchmark's folder, or that folder itself.

    Attributes:
        folders: the names its folder goes by.
        inside: what that folder holds, by which it is known under any other name.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    folders: ClassVar[tuple[str, ...]]
    inside: ClassVar[str]

    def __init__(self, root: Path | str = "data") -> None:
        self.root = find_root(type(self), root, self.folders, self.inside)
        self.train, self.query, self.gallery = (self._list(split) for split in SPLITS)
        self.warnings = tuple(self.verify())

    @abstractmethod
    def list_split(self, split: str) -> Iterator[Sample]:
        """Yield the samples of a split in sorted order."""

    def _list(self, split: str) -> tuple[Sample, ...]:
        with self.going_on():
            return tuple(self.list_split(split))
        return ()

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

    def people(self, folder: Path) -> list[Path]:
        """Return the folders of the people in `folder`; their names are numbers."""
        people = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
        for person in people:
            if not _is_number(person.name):
                self.fault(f"{person} should be a person's number.")
        return [person for person in people if _is_number(person.name)]

    def images(self, folder: Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, re.Match[str]]]:
        """Yield path and parsed base name of a folder's images; another name is a fault."""
        images = list(list_images(folder))
        self.num_foreign_files += sum(1 for _ in folder.iterdir()) - len(images)
        for image in images:
            match = pattern.match(image.name)
            if match is None or not _is_number(match.groupdict().get("pid", "0")):
                self.fault(f"Unexpected name {image}.")
            else:
                yield str(image), match


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
        is_empty = True
        for path, name in self.images(folder, self.pattern):
            is_empty = False
            yield self.sample(path, name, split)
        if is_empty and (
            inner := [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
        ):
            self.fault(
                f"{folder} holds folders ({', '.join(inner[:3])}, ...) and no image: the images "
                "should lie in it directly."
            )
