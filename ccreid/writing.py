"""Files that are whole or not there at all, whatever ends the process while it writes."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ccreid.errors import CCReIDError, ConfigError

_PART = ".ccreid-part"
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextmanager
def whole_file(path: Path, shared: bool = False) -> Iterator[IO[bytes]]:
    """Give a file to write into, which becomes `path` when it is whole and on the disk.

    Until then, and after an exception, a crash or a full disk, `path` is what it was before.

    Args:
        path: what is to be written; its folder exists.
        shared: other processes may be writing the same file; each has a part of its own.
    """
    own = f".{uuid.uuid4().hex[:8]}" if shared else ""
    part = path.with_name(f"{path.name}{own}{_PART}")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def unwritable(path: Path, error: OSError, setting: str = "hydra.run.dir") -> ConfigError:
    """Return the error that names a file, why it is not written, and the setting that moves it."""
    return ConfigError(
        f"Cannot write {path.absolute()}: {error.strerror or error}. Make room there, or choose "
        f"another place ({setting}=<folder>). What stood under that name before is untouched."
    )


@contextmanager
def write_whole(
    path: Path, refuse: Callable[[Path, OSError], CCReIDError] = unwritable, shared: bool = False
) -> Iterator[IO[bytes]]:
    """Give a file as `whole_file` does; what the operating system refuses is a library error.

    Args:
        path: what is to be written; its folder exists.
        refuse: makes that error. The block should do nothing but write.
        shared: see `whole_file`.

    Raises:
        CCReIDError: the disk is full, the folder is only read, ...
    """
    try:
        with whole_file(path, shared) as file:
            yield file
    except (OSError, ValueError) as error:  # an archive that cannot be closed is a ValueError
        found = error if isinstance(error, OSError) else disk_error(error)
        if found is None:
            raise
        raise refuse(path, found) from None


def remove_parts(folder: Path, name: str = "*") -> None:
    """Remove what dead processes had begun to write, of files that nobody else writes now.

    Args:
        folder: where.
        name: of the files, as a pattern; those of shared ones have a further word behind it.
    """
    for part in folder.glob(f"{name}{_PART}"):
        part.unlink(missing_ok=True)


def disk_error(error: BaseException | None) -> OSError | None:
    """Return the full or failing disk behind an exception, if there is one.

    It may hide: a torch archive that is closed, or a logger, fails again after the first failure.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return error
        error = error.__cause__ or error.__context__
    return None


def _sync_folder(folder: Path) -> None:
    """Put the folder's new entry on the disk, too; some file systems cannot be asked to."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
