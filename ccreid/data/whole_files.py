"""A quick look at every image file before a run: is it there, an image, and not cut short?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from ccreid.data.files import SEPARATOR, open_archive, read_image
from ccreid.data.sample import Sample
from ccreid.errors import DataError

_AT_ONCE = 1024
_TAIL = 64  # bytes; some cameras write a few after an image's end
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
"""How a JPEG and a PNG begin, and what stands at their end."""


def require_whole_files(
    samples: Iterable[Sample], advance: Callable[[int, int], None] = lambda done, total: None
) -> None:
    """Look at the first and last bytes of all image files; what looks odd is decoded.

    Damage inside a file stays unseen: that needs `python -m ccreid.verify`.

    Args:
        samples: whose images or frames to look at.
        advance: told how many files were looked at now, and how many there are.

    Raises:
        DataError: files are missing, empty, no images or cut short; the message names the first and
            counts the others.
    """
    paths = list(dict.fromkeys(path for sample in samples for path in sample.image_paths))
    damaged: list[str] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _AT_ONCE):
            block = paths[start : start + _AT_ONCE]
            damaged += [problem for problem in pool.map(_problem, block) if problem]
            advance(len(block), len(paths))
    if damaged:
        more = f"\n{len(damaged) - 1} more files are damaged." if len(damaged) > 1 else ""
        raise DataError(f"{damaged[0]}{more}\npython -m ccreid.verify lists everything.")


def _problem(path: str) -> str:
    """Return what is wrong with a file, or nothing."""
    try:
        first, last = _ends(path)
        if (end := _ENDS.get(first)) is None or end not in last:
            read_image(path)
    except (OSError, KeyError, DataError) as error:
        return str(error) if isinstance(error, DataError) else f"Cannot read {path}: {error}."
    return ""


def _ends(path: str) -> tuple[bytes, bytes]:
    """Return the first two and the last bytes of a file or of an archive's member."""
    archive, separator, member = path.partition(SEPARATOR)
    if separator and not os.path.exists(path):
        content = open_archive(archive).read(member)
        return content[:2], content[-_TAIL:]
    with open(path, "rb") as file:
        first = file.read(2)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        return first, file.read()
