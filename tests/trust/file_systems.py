"""A file system that lists what is in a folder in another order every time."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from zipfile import ZipFile

import pytest


class _Shuffled:
    """What `os.scandir` returns, in another order."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> "_Shuffled":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries = iter(())


@contextmanager
def shuffled_listings(seed: int) -> Iterator[list[str]]:
    """Shuffle every listing of a folder or an archive; yields which functions were asked."""
    rng, asked = random.Random(seed), []

    def shuffled(name: str, function: Callable[..., Any], kind: type) -> Callable[..., Any]:
        def listing(*arguments: Any, **more: Any) -> Any:
            entries = list(function(*arguments, **more))
            rng.shuffle(entries)
            asked.append(name)
            return kind(entries)

        return listing

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", shuffled("scandir", os.scandir, _Shuffled))
        patch.setattr(os, "listdir", shuffled("listdir", os.listdir, list))
        patch.setattr(ZipFile, "namelist", shuffled("namelist", ZipFile.namelist, list))
        yield asked
