"""Cache files: named after what they were made from, built once, whole or not there at all.

The name is a hash of the listed files (path below the benchmark's root, modification time, size; of
an archive's members checksum and size), the input's size, and the versions of what decodes. Change
any of them, and another file is made. None is ever removed: a cache takes height × width × 3 bytes
an image, 96 KiB at 256×128, and may be deleted at any time that no run uses it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image, features
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from ccreid.data.files import SEPARATOR, open_archive, read_image
from ccreid.errors import DataError
from ccreid.writing import remove_parts, write_whole

Pixels = NDArray[np.uint8]
"""Images [N, H, W, 3] in the order of their list."""

GIB = 2**30
_LAYOUT = 1  # goes up when a cache file's content or name comes to mean something else
_BLOCK = 256  # images decoded at a time: what a build holds in memory

log = logging.getLogger(__name__)


class Resizing(NamedTuple):
    """The resize that the transforms begin with: `v2.Resize` asks Pillow, too.

    Attributes:
        height, width: of the result in pixels.
        interpolation: `bilinear` or `bicubic`.
    """

    height: int
    width: int
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the resized image."""
        resampling = Image.Resampling[self.interpolation.upper()]
        return image.resize((self.width, self.height), resampling)

    def __str__(self) -> str:
        how = "" if self.interpolation == "bilinear" else f"-{self.interpolation}"
        return f"{self.height}x{self.width}{how}"


def fingerprint(paths: Iterable[str], root: Path, resize: Resizing) -> str:
    """Return sixteen characters that differ where any cached pixel might.

    Raises:
        DataError: a file is missing.
    """
    # Another version of these may round a JPEG's colours otherwise.
    versions = f"{_LAYOUT} {PIL.__version__} {features.version('jpg')}"
    digest = hashlib.sha256(f"{versions} {resize}".encode())
    above = f"{root}{os.sep}"
    for path in paths:
        digest.update(b"\0" + os.fsencode(path.removeprefix(above)) + b"\0" + _stamp(path).encode())
    return digest.hexdigest()[:16]


def _stamp(path: str) -> str:
    """Return what changes when an image does, without reading it."""
    archive, separator, member = path.partition(SEPARATOR)
    try:
        if separator and not os.path.exists(path):
            info = open_archive(archive).getinfo(member)
            return f"{info.CRC} {info.file_size}"
        status = os.stat(path)
        return f"{status.st_mtime_ns} {status.st_size}"
    except (OSError, KeyError) as error:
        raise DataError(f"Cannot read {path}: {error}. Was the benchmark moved?") from None


def open_or_build(paths: Sequence[str], resize: Resizing, file: Path) -> Pixels:
    """Return the images of a cache file, memory-mapped; it is built if it is not there.

    Of several processes that want it at once, one builds and the others wait.

    Raises:
        DataError: an image is unreadable (the message names it), or the folder cannot be written or
            has no room for the file.
    """
    shape = (len(paths), resize.height, resize.width, 3)
    if not file.exists():
        _require_writable(file.parent)
        with _alone(file) as locked:
            if not file.exists():
                _build(paths, resize, shape, file, locked)
    try:
        pixels: Pixels = np.lib.format.open_memmap(file, mode="r")  # no pickles, no archives
    except (OSError, ValueError) as error:
        raise DataError(f"{file} is not a whole cache file ({error}). Remove it.") from None
    if pixels.shape != shape or pixels.dtype != np.uint8:
        raise DataError(f"{file} was not made by this cache. Remove it.")
    return pixels


def _build(
    paths: Sequence[str],
    resize: Resizing,
    shape: tuple[int, int, int, int],
    file: Path,
    locked: bool,
) -> None:
    """Write a cache file; it has its name when, and only when, it is whole."""
    if locked:  # then whoever left these is dead
        remove_parts(file.parent, f"{file.name}.*")
    needed, free = int(np.prod(shape)), shutil.disk_usage(file.parent).free
    if needed > free:
        raise DataError(
            f"{file} will take {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free there. "
            "Make room, or choose another place (data.cache_folder=<folder>) or data.cache=none."
        )
    with write_whole(file, _unwritable, shared=True) as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        decode_all(paths, resize, lambda _, block: stream.write(block.data), file.stem)


def decode_all(
    paths: Sequence[str],
    resize: Resizing,
    store: Callable[[int, Pixels], object],
    name: str,
    hidden: bool = False,
) -> None:
    """Decode and resize images, with a progress bar on stderr.

    Args:
        paths: the images.
        resize: to what.
        store: takes a block of images and the position of its first in the list, in their order.
        name: what the bar says.
        hidden: shows no bar.

    Raises:
        DataError: an image is unreadable; the message names it.
    """

    def decode(path: str) -> Pixels:
        return np.asarray(resize(read_image(path)))

    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    console = Console(stderr=True)
    with (
        Progress(*columns, console=console, transient=True, disable=hidden) as progress,
        ThreadPoolExecutor() as pool,  # Pillow decodes and resizes without Python's lock
    ):
        task = progress.add_task(f"cache {name}", total=len(paths))
        for start in range(0, len(paths), _BLOCK):
            block = list(pool.map(decode, paths[start : start + _BLOCK]))
            store(start, np.stack(block))
            progress.advance(task, len(block))


@contextmanager
def _alone(file: Path) -> Iterator[bool]:
    """Let the others wait that would build the same file; False where there are no locks.

    The lock ends with the process, however that ends.
    """
    lock = FileLock(f"{file}.lock")
    try:
        try:
            lock.acquire(timeout=1)
        except Timeout:
            log.info("%s is being built by another process, which is waited for", file)
            lock.acquire()
        locked = True
    except (NotImplementedError, OSError):
        locked = False  # each builds a file of its own then, and the last one stays
    try:
        yield locked
    finally:
        lock.release()


def _require_writable(folder: Path) -> None:
    probe = folder / f".{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise _unwritable(probe, error) from None


def _unwritable(file: Path, error: OSError) -> DataError:
    return DataError(
        f"Cannot write a cache into {file.parent.absolute()}: {error}. "
        "Choose another folder (data.cache_folder=<folder>), or data.cache=memory or none."
    )
