"""Where the masks of a benchmark's images lie in the layouts people publish them in."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.benchmarks.ondisk import OnDisk
from ccreid.data.files import SEPARATOR
from ccreid.data.sample import Sample
from ccreid.errors import DataError

_TRIED, _HITS = 50, 0.95  # `auto` takes a layout under which so many of so many images have masks

Rule = Callable[[Path, PurePosixPath], Iterator[Path]]
"""Root of the masks and an image's place below its benchmark's folder → places of its mask."""


def _pixel_sampling(folder: str) -> Rule:
    def rule(root: Path, image: PurePosixPath) -> Iterator[Path]:
        yield _inside(root, folder) / _without_rgb(image).with_suffix(".npy")

    return rule


def _scnet(root: Path, image: PurePosixPath) -> Iterator[Path]:
    mask = _without_split(image).with_suffix(".png")
    yield _inside(root, "processed") / mask
    yield root / "rgb" / "processed" / mask  # PRCC


def _sicl(root: Path, image: PurePosixPath) -> Iterator[Path]:
    yield _inside(root, "parsing") / _without_split(image).with_suffix(".png")


def _schp_flat(root: Path, image: PurePosixPath) -> Iterator[Path]:
    yield root / f"{image.stem}.png"
    yield root / f"{image.stem}.npy"


def _mirror(root: Path, image: PurePosixPath) -> Iterator[Path]:
    for place in dict.fromkeys((image, _without_rgb(image))):
        yield root / place.with_suffix(".png")
        yield root / place.with_suffix(".npy")


LAYOUTS: dict[str, Rule] = {
    "ps": _pixel_sampling("mask_6"),
    "ps_mask": _pixel_sampling("mask"),
    "scnet": _scnet,
    "sicl": _sicl,
    "schp_flat": _schp_flat,
    "mirror": _mirror,
}
"""All layouts by name, in the order in which `auto` tries them."""


def image_folder(benchmark: Benchmark) -> str:
    """Return the folder below which all images lie: the benchmark's own, or else the deepest."""
    if isinstance(benchmark, OnDisk):
        return str(benchmark.root)
    everything = (sample.path for samples in benchmark.splits.values() for sample in samples)
    return os.path.commonpath({os.path.dirname(path) for path in everything})


def image_place(sample: Sample, folder: str) -> PurePosixPath:
    """Return where an image lies below its benchmark's `image_folder`, or inside its archive.

    This is also where `python -m ccreid.parse` puts its mask, with another suffix.
    """
    _, _, member = sample.path.partition(SEPARATOR)
    if member and not os.path.exists(sample.path):
        return PurePosixPath(member)
    return PurePosixPath(Path(sample.path).relative_to(folder).as_posix())


def require_own_places(samples: Iterable[Sample], folder: str) -> None:
    """Raise a DataError if two images would share a mask: `a.jpg` and `a.png` in one folder."""
    images: dict[PurePosixPath, str] = {}
    for sample in samples:
        other = images.setdefault(image_place(sample, folder).with_suffix(""), sample.path)
        if other != sample.path:
            raise DataError(
                f"{other} and {sample.path} would have one mask: masks have their images' names "
                "with another suffix. Rename one of them."
            )


def find_mask(sample: Sample, place: PurePosixPath, layout: str, root: Path) -> Path | None:
    """Return the mask of an image in a layout, or None where there is none."""
    for path in LAYOUTS[layout](root, place):
        # A root that holds PNG images themselves must not make each its own mask.
        if path.is_file() and path.absolute() != Path(sample.path).absolute():
            return path
    return None


def choose_layout(benchmark: Benchmark, root: Path, layout: str = "auto") -> str:
    """Return the layout in which masks of the train split lie below `root`.

    Args:
        benchmark: whose masks.
        root: folder of the masks.
        layout: one of `LAYOUTS`, or `auto`: the first of them under which 95 % of 50 random train
            images (the same 50 every time) have a mask.

    Raises:
        DataError: under no layout are there enough masks, or a flat folder cannot be told apart.
    """
    if layout != "auto":
        if layout == "schp_flat" and (twice := _stem_of_two(benchmark.train)):
            raise DataError(
                f"data.parsing.layout=schp_flat puts all masks into one folder, but in "
                f"{benchmark.name} several images are called {twice}: their masks would be "
                "mistaken for each other. Run the extractor folder by folder, keep the images' "
                "folders for the masks, and say data.parsing.layout=mirror."
            )
        return layout
    train, folder = benchmark.train, image_folder(benchmark)
    chosen = [train[i] for i in np.random.default_rng(0).permutation(len(train))[:_TRIED]]
    hits = {}
    for name in LAYOUTS:
        if name == "schp_flat" and _stem_of_two(train):
            continue
        found = [find_mask(s, image_place(s, folder), name, root) is not None for s in chosen]
        hits[name] = sum(found)
        if hits[name] >= _HITS * len(chosen):
            return name
    said = ", ".join(f"{name} {found}" for name, found in hits.items())
    place = image_place(train[0], folder)
    places = "\n".join(f"  {name}: {next(rule(root, place))}" for name, rule in LAYOUTS.items())
    raise DataError(
        f"No parsing masks of {benchmark.name} in {root.absolute()}. Of {len(chosen)} random train "
        f"images have one, by layout: {said}. The mask of the first image should be\n{places}\n"
        "Say data.parsing.root=<folder of the masks> and data.parsing.layout=<one of these>, or "
        f"make masks: python -m ccreid.parse data={benchmark.name}"
    )


def _inside(root: Path, folder: str) -> Path:
    return root if root.name == folder else root / folder


def _without_rgb(image: PurePosixPath) -> PurePosixPath:
    """Leave PRCC's `rgb/` out: masks lie in a folder that takes its place."""
    return PurePosixPath(*image.parts[1:]) if image.parts[0] == "rgb" else image


def _without_split(image: PurePosixPath) -> PurePosixPath:
    """Leave the split's folder out, too: the authors' loaders read masks of train images only."""
    parts = _without_rgb(image).parts
    return PurePosixPath(*(parts[1:] or parts))


def _stem_of_two(samples: Sequence[Sample]) -> str:
    """Return a base name, without suffix, that two images share; empty if none do."""
    stems = Counter(Path(sample.path).stem for sample in samples)
    stem, count = max(stems.items(), key=lambda item: item[1], default=("", 0))
    return stem if count > 1 else ""
