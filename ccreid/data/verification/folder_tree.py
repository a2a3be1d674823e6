"""Which folders a benchmark has on disk, or in its archive, and how many images they hold."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ccreid.data.benchmarks.base import is_foreign_folder, is_image_name
from ccreid.data.files import open_archive
from ccreid.data.verification.manifest import below

DEPTH = 3  # levels below the root that are shown
CROWD = 12  # more folders than this beside each other are people or tracklets: they are counted
_DEEPEST = 8  # links may lead in circles


@dataclass(frozen=True)
class Folder:
    """One folder of the tree.

    Attributes:
        name: its own name; of the root the whole path.
        images: in it and in all folders below.
        num_folders: directly in it.
        folders: those of them that are shown.
    """

    name: str
    images: int
    num_folders: int
    folders: tuple[Folder, ...] = ()


def folder_tree(root: Path) -> Folder:
    """Return the folders below a folder, or those inside a zip archive.

    Raises:
        DataError: a damaged archive.
    """
    return _tree(root, _archive_folders(root) if root.is_file() else _disk_folders(root))


def listed_tree(root: Path, paths: Iterable[str]) -> Folder:
    """Return the folders of listed images alone; a user's list may lie among a million others."""
    return _tree(root, ((PurePosixPath(below(root, path)).parts[:-1], 1) for path in paths))


def _tree(root: Path, folders: Iterable[tuple[tuple[str, ...], int]]) -> Folder:
    images: Counter[tuple[str, ...]] = Counter()
    for parts, count in folders:
        for level in range(len(parts) + 1):
            images[parts[:level]] += count
    return _folder((), str(root.absolute()), images)


def _folder(parts: tuple[str, ...], name: str, images: Counter[tuple[str, ...]]) -> Folder:
    level = len(parts) + 1
    inside = sorted(path for path in images if len(path) == level and path[:-1] == parts)
    shown = inside if level <= DEPTH and len(inside) <= CROWD else []
    folders = tuple(_folder(path, path[-1], images) for path in shown)
    return Folder(name, images[parts], len(inside), folders)


def _disk_folders(root: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    for folder, inside, files in os.walk(root, followlinks=True):
        parts = Path(folder).relative_to(root).parts
        own = [name for name in inside if not is_foreign_folder(name)]
        inside[:] = own if len(parts) < _DEEPEST else []
        yield parts, sum(map(is_image_name, files))


def _archive_folders(archive: Path) -> Iterator[tuple[tuple[str, ...], int]]:
    for member in open_archive(archive).namelist():
        path = PurePosixPath(member)
        yield path.parts if member.endswith("/") else path.parts[:-1], is_image_name(path.name)
