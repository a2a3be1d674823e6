"""A cache of decoded, resized images, in memory or in files beside the benchmark.

A cached image has the size of the network's input, so that the transforms' resize leaves it alone,
and whatever follows is bit-identical to reading the image's own file. Every split has a cache of
its own: evaluating alone caches no train images, and finds what a training run left on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ccreid.data.benchmarks.base import SPLITS, Benchmark
from ccreid.data.cache_files import GIB, Pixels, Resizing, decode_all, fingerprint, open_or_build
from ccreid.data.files import Reader, read_image, user_cache
from ccreid.data.transforms import seeded
from ccreid.errors import ConfigError, DataError, require
from ccreid.runs.processes import process_rank

CACHES = ("none", "memory", "disk")
FOLDER = ".ccreid-cache"

Transform = Callable[[Image.Image], Any]
"""Makes a tensor, or a tuple that begins with one, of an image."""


def image_reader(
    benchmark: Benchmark,
    cache: str,
    resize: Resizing,
    transforms: Iterable[Transform],
    folder: Path | str | None = None,
    splits: Sequence[str] = SPLITS,
) -> Reader:
    """Return what reads a benchmark's images: `read_image`, or a cache, which is built if need be.

    Args:
        benchmark: whose images to read; of tracklets all frames.
        cache: `none`; `memory`, one array per process, which forked loader workers share; or
            `disk`, memory-mapped files, which all processes and later runs share.
        resize: what every transform begins with.
        transforms: what the images are given to.
        folder: where the cache files lie; None: `.ccreid-cache` in the benchmark's root, the
            user's cache for an archive.
        splits: which images are going to be read.

    Raises:
        ConfigError: no such kind of cache, or a transform that cached images cannot be given to.
        DataError: an image is missing or unreadable (the message names it), or there is no room.
    """
    require(cache in CACHES, "data.cache", cache, f"one of {', '.join(CACHES)}")
    if cache == "none":
        return read_image
    for transform in transforms:
        _require_resizing_first(transform, cache, resize)
    root = benchmark.root if benchmark.root.is_dir() else benchmark.root.parent
    # An archive may lie in the installed package, which is nobody's place to write.
    beside = root / FOLDER if benchmark.root.is_dir() else user_cache() / "images"
    place = Path(folder).expanduser() if folder is not None else beside
    parts = []
    for split in splits:
        samples = benchmark.splits[split]
        paths = list(dict.fromkeys(path for sample in samples for path in sample.image_paths))
        name = f"{benchmark.name}-{split}-{resize}"
        if cache == "memory":
            parts.append((paths, _in_memory(paths, resize, name)))
        else:
            file = place / f"{name}-{fingerprint(paths, root, resize)}.npy"
            parts.append((paths, open_or_build(paths, resize, file)))
    return CachedImages(parts)


class CachedImages:
    """Reads images that were decoded and resized before; a `Reader`.

    A path that is not cached is read from its file: the transforms resize it then, so that what is
    cached decides how fast a run is and never what it computes, nor whether it fails in the end.

    Args:
        parts: paths and their images.
    """

    def __init__(self, parts: Iterable[tuple[Sequence[str], Pixels]]) -> None:
        self._pixels: list[Pixels] = []
        self._places: dict[str, tuple[int, int]] = {}
        for part, (paths, pixels) in enumerate(parts):
            self._pixels.append(pixels)
            self._places.update((path, (part, row)) for row, path in enumerate(paths))

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, path: str) -> bool:
        return path in self._places

    def __call__(self, path: str) -> Image.Image:
        """Return the RGB image of a path, a copy of its own.

        Raises:
            DataError: it is not cached, and its file is unreadable.
        """
        place = self._places.get(path)
        if place is None:
            return read_image(path)
        part, row = place
        return Image.fromarray(self._pixels[part][row])

    def __getstate__(self) -> dict[str, Any]:
        """Replace memory-mapped arrays by their files' names: a spawned worker opens them anew."""
        pixels = [part.filename if isinstance(part, np.memmap) else part for part in self._pixels]
        return {"_places": self._places, "_pixels": pixels}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._places = state["_places"]
        self._pixels = [
            part if isinstance(part, np.ndarray) else np.lib.format.open_memmap(part, mode="r")
            for part in state["_pixels"]
        ]


def _require_resizing_first(transform: Transform, cache: str, resize: Resizing) -> None:
    """Raise a ConfigError if a transform makes something else of a cached image than of a file.

    It is tried on noise, so that no transform needs to say what it does; often enough to meet what
    is done to every second image only.
    """
    shape = (2 * resize.height + 1, 3 * resize.width + 1, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    image = Image.fromarray(noise)
    for seed in range(16):
        results = []
        for given in (image, resize(image)):
            with seeded(seed):
                result = transform(given)
            results.append(result[0] if isinstance(result, tuple) else result)
        if not torch.equal(*results):
            raise ConfigError(
                f"data.cache={cache} holds images of {resize} pixels, but "
                f"{type(transform).__name__} does not begin with resizing to that: its results "
                "would change. Set data.cache=none."
            )


def _in_memory(paths: Sequence[str], resize: Resizing, name: str) -> Pixels:
    shape = (len(paths), resize.height, resize.width, 3)
    needed = int(np.prod(shape))
    remedy = "Set data.cache=disk, or data.cache=none."
    # More than the machine has would not be refused but end in a kill without a word.
    if needed > (total := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise DataError(
            f"The images of {name} take {needed / GIB:.1f} GiB, and this machine has "
            f"{total / GIB:.1f} GiB of memory. {remedy}"
        )
    try:
        pixels = np.empty(shape, dtype=np.uint8)
    except MemoryError:
        raise DataError(f"There are no {needed / GIB:.1f} GiB for {name}. {remedy}") from None

    def store(start: int, block: Pixels) -> None:
        pixels[start : start + len(block)] = block

    decode_all(paths, resize, store, name, hidden=process_rank() != 0)
    return pixels
