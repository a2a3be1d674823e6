"""A quick look at every image file before a run: is it there, an image, and not cut short?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.files import SEPARATOR, read_bytes, read_image
from ccreid.data.sample import Sample
from ccreid.errors import DataError, some

Advance = Callable[[int, int], None]
"""Told how many files were looked at now, and how many there are."""

_AT_ONCE = 1024
_LISTED = 20  # damaged files that a note names
_TAIL = 64  # bytes; some cameras write a few after an image's end
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89P": b"IEND"}
"""How a JPEG and a PNG begin, and what stands at their end."""


def require_whole_files(
    samples: Iterable[Sample], advance: Advance = lambda done, total: None
) -> None:
    """Look at the first and last bytes of all image files; what looks odd is decoded.

    Damage inside a file stays unseen: that needs `python -m ccreid.verify`.

    Args:
        samples: whose images or frames to look at.
        advance: told of the progress.

    Raises:
        DataError: files are missing, empty, no images or cut short; the message names the first and
            counts the others.
    """
    first, *others = (*damaged_files(samples, advance).values(), "")
    if first:
        more = f"\n{len(others) - 1} more files are damaged." if len(others) > 1 else ""
        raise DataError(
            f"{first}{more}\npython -m ccreid.verify lists everything. Damaged train images, not "
            "those of query and gallery, can be left out: data.on_damaged=leave_out"
        )


def leave_out_damaged(benchmark: Benchmark) -> tuple[Benchmark, str]:
    """Return a benchmark without its damaged train images, and a note that counts and names them.

    Of a tracklet the damaged frames are left out. Query and gallery stay as they are, and so does
    the benchmark that was given. Without damage the note is empty.

    Raises:
        DataError: a person has no image left.
    """
    damaged = damaged_files(benchmark.train)
    if not damaged:
        return benchmark, ""
    kept = tuple(whole for each in benchmark.train if (whole := _without(each, damaged)))
    people = {sample.pid for sample in benchmark.train}
    if lost := sorted(people - {sample.pid for sample in kept}):
        raise DataError(
            f"data.on_damaged=leave_out leaves no train image of {len(lost)} people "
            f"({some([str(pid) for pid in lost])}). {next(iter(damaged.values()))}"
        )
    total = sum(len(sample.image_paths) for sample in benchmark.train)
    note = (
        f"{len(damaged):,} of {total:,} train images are damaged and left out "
        f"(data.on_damaged=leave_out):\n  {some(list(damaged), _LISTED, separator=chr(10) + '  ')}"
    )
    sound = copy(benchmark)
    sound.train = kept
    return sound, note


def _without(sample: Sample, damaged: Iterable[str]) -> Sample | None:
    """Return what is left of a sample, or None."""
    if not sample.frames:
        return None if sample.path in damaged else sample
    frames = tuple(path for path in sample.frames if path not in damaged)
    return replace(sample, frames=frames) if frames else None


def damaged_files(
    samples: Iterable[Sample], advance: Advance = lambda done, total: None
) -> dict[str, str]:
    """Return what is wrong with image files that are missing, empty, no images or cut short.

    Args:
        samples: whose images or frames to look at.
        advance: told of the progress.
    """
    paths = list(dict.fromkeys(path for sample in samples for path in sample.image_paths))
    damaged: dict[str, str] = {}
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), _AT_ONCE):
            block = paths[start : start + _AT_ONCE]
            problems = zip(block, pool.map(_problem, block), strict=True)
            damaged |= {path: problem for path, problem in problems if problem}
            advance(len(block), len(paths))
    return damaged


def _problem(path: str) -> str:
    """Return what is wrong with a file, or nothing."""
    try:
        first, last = _ends(path)
        if (end := _ENDS.get(first)) is None or end not in last:
            read_image(path)
    except (OSError, DataError) as error:
        return str(error) if isinstance(error, DataError) else f"Cannot read {path}: {error}."
    return ""


def _ends(path: str) -> tuple[bytes, bytes]:
    """Return the first two and the last bytes of a file or of an archive's member."""
    if SEPARATOR in path and not os.path.exists(path):
        content = read_bytes(path)
        return content[:2], content[-_TAIL:]
    with open(path, "rb") as file:
        first = file.read(2)
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        return first, file.read()
