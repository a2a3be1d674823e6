"""Finds a benchmark's folder where the user says the data is, or explains where else it lies."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ccreid.data.benchmarks.base import Benchmark, is_foreign_folder
from ccreid.errors import BenchmarkNotFound, DataError, nearest


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
        DataError: what it should hold lies deeper or higher, or a folder cannot be read.
    """
    try:
        return _find(benchmark, Path(root).expanduser(), folders, inside)
    except OSError as error:
        raise DataError(
            f"{benchmark.name} was looked for, but {error.filename} cannot be read: "
            f"{error.strerror}.\n{how_to_get(benchmark)}"
        ) from None


def _find(benchmark: type[Benchmark], base: Path, folders: Sequence[str], inside: str) -> Path:
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
    for above in base.absolute().parents[:3]:
        if _key(above.name) in keys and (above / inside).exists():
            raise DataError(
                f"{benchmark.name}: {base.absolute()} is a folder inside the benchmark's, which "
                f"is {above}. Say data.root={above}"
            )
    if named:
        return named[0]
    looked = "\n".join(f"  {path.absolute()}" for path in (*candidates, base))
    similar = nearest(folders[0], (path.name for path in beside), cutoff=0.6)
    raise BenchmarkNotFound(
        f"{benchmark.name} was not found.{similar} Looked in\n{looked}\n{how_to_get(benchmark)}"
    )


def _look_deeper(
    base: Path, named: Iterable[Path], folders: Sequence[str], inside: str
) -> Path | None:
    """Return the first folder below the expected place that holds what a benchmark holds."""
    below = [(folder, f"{levels}{inside}") for folder in named for levels in ("*/", "*/*/")]
    for folder, pattern in (*below, *((base, f"*/{name}/{inside}") for name in folders)):
        for path in sorted(folder.glob(pattern)):
            if not any(map(is_foreign_folder, path.relative_to(folder).parts)):
                return Path(str(path.absolute()).removesuffix(inside))
    return None


def _key(folder: str) -> str:
    """Reduce a folder's name to what no two spellings of it differ in."""
    return re.sub(r"[^a-z0-9+]", "", folder.lower())


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
