"""Reads files that lie in a folder or inside a zip archive (`archive.zip!member`)."""

from __future__ import annotations

import hashlib
import io
import os
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ccreid.data.archives import require_safe_members
from ccreid.errors import DataError

SEPARATOR = "!"

Reader = Callable[[str], Image.Image]
"""Gives the RGB image of a path: `read_image`, or a cache of what it gave before."""


def member_path(archive: Path | str, member: str) -> str:
    """Name a member of an archive the way `Sample.path` does."""
    return f"{archive}{SEPARATOR}{member}"


@lru_cache(maxsize=16)
def _open_archive(archive: str, process: int) -> ZipFile:
    # `process` is part of the key: a forked worker must not share its parent's file position.
    opened = ZipFile(archive)
    require_safe_members(opened, archive)
    return opened


def open_archive(archive: Path | str) -> ZipFile:
    """Open an archive once per process.

    Raises:
        DataError: no such file, not a whole zip archive, or one with members that none should have.
    """
    try:
        return _open_archive(str(archive), os.getpid())
    except FileNotFoundError:
        raise DataError(f"No archive at {archive}. Check the path given.") from None
    except (BadZipFile, OSError) as error:
        raise DataError(
            f"{archive} is not a readable zip archive ({error}). Get it again."
        ) from None


def read_bytes(path: str) -> bytes:
    """Return the content of a file or of an archive's member.

    Raises:
        DataError: the file or member is missing or damaged.
    """
    archive, separator, member = path.partition(SEPARATOR)
    try:
        if separator and not os.path.exists(path):
            return open_archive(archive).read(member)
        return Path(path).read_bytes()
    except (OSError, KeyError, BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"Cannot read {path}: {error}. Was the benchmark moved or cut short while training?"
        ) from None


def read_image(path: str) -> Image.Image:
    """Decode an image as RGB.

    Raises:
        DataError: the file is missing, truncated or no image; the message names it.
    """
    return _decode(path, mode="RGB")


def read_labels(path: str) -> NDArray[np.uint8]:
    """Decode an 8-bit single-channel label image (a parsing mask), [H, W] uint8.

    Raises:
        DataError: the file is unreadable or not 8-bit single-channel.
    """
    image = _decode(path)
    if image.mode not in ("L", "P"):
        raise DataError(
            f"{path} should be an 8-bit label image but has mode {image.mode}. "
            "Store one label per pixel in a greyscale or palette PNG."
        )
    return np.array(image, dtype=np.uint8)


def _decode(path: str, mode: str | None = None) -> Image.Image:
    content = io.BytesIO(read_bytes(path))
    try:
        image: Image.Image = Image.open(content)
        image.load()
        image = image if mode is None else image.convert(mode)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        OSError,
        SyntaxError,
        ValueError,
    ) as error:
        raise DataError(
            f"{path} is not a whole image ({error}). "
            "Replace the file from the benchmark's own archive, or remove it."
        ) from None
    return image


def user_cache() -> Path:
    """Return the library's folder in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ccreid"


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
