"""Time the training loader with and without the cache of decoded, resized images.

    OMP_WAIT_POLICY=passive python experiments/benchmarks/reading.py

Prints two Markdown tables: images/s over whole epochs (train transform, batches of 32, no
    network), and what the cache costs. The pictures of the two larger sources are those of
    `virtual`, resized and with a little noise: their sizes and formats are assumed, not measured on
    the real benchmarks.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import PIL
import torch
from PIL import Image

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.cache import CACHES, image_reader
from ccreid.data.cache_files import Resizing
from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.files import Reader, read_image
from ccreid.data.sample import Sample
from ccreid.data.transforms import RandomErasing, TestTransform, TrainTransform


class Source(NamedTuple):
    """Where images come from: their (height, width) and format, and the network's input."""

    size: tuple[int, int] | None
    format: str
    input: tuple[int, int]


SOURCES = {
    "virtual": Source(None, "JPEG 256x128 in a zip", (192, 96)),
    "PRCC-like": Source((400, 160), "jpg", (384, 192)),
    "LTCC-like": Source((320, 120), "png", (384, 192)),
}


def enlarged(samples: tuple[Sample, ...], source: Source, folder: Path) -> Iterator[Sample]:
    """Write the samples' images in another size and format and yield the samples that name them."""
    assert source.size is not None
    height, width = source.size
    rng = np.random.default_rng(0)
    for number, sample in enumerate(samples):
        pixels = np.asarray(read_image(sample.path).resize((width, height)), dtype=np.float32)
        noisy = (pixels + rng.normal(0, 3, pixels.shape)).clip(0, 255).astype(np.uint8)
        path = folder / f"{number:05d}.{source.format}"
        Image.fromarray(noisy).save(path, quality=90)
        yield replace(sample, path=str(path))


def benchmark_of(name: str, folder: Path) -> Virtual:
    """Return `virtual`, or its people in pictures that are like another benchmark's."""
    benchmark = Virtual()
    if SOURCES[name].size is not None:
        benchmark.train = tuple(enlarged(benchmark.train, SOURCES[name], folder))
        benchmark.root = folder
    return benchmark


def train_transform(size: tuple[int, int]) -> TrainTransform:
    return TrainTransform(*size, erasing=RandomErasing())


def make_reader(
    benchmark: Virtual, cache: str, size: tuple[int, int], folder: str
) -> tuple[Reader, float]:
    """Return a reader of the train images, and the seconds it took to make it."""
    start = time.perf_counter()
    transforms = (train_transform(size),)
    read = image_reader(benchmark, cache, Resizing(*size), transforms, folder, ("train",))
    return read, time.perf_counter() - start


def loading(benchmark: Virtual, read: Reader, size: tuple[int, int], workers: int) -> float:
    """Return the images/s of one epoch, the start of the workers included."""
    data = ReIDDataModule(
        benchmark,
        train_transform(size),
        TestTransform(*size),
        identities_per_batch=4,
        images_per_identity=8,
        workers=workers,
        read=read,
    )
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, current_epoch=0)
    loader = data.train_dataloader()
    start = time.perf_counter()
    images = sum(len(batch["index"]) for batch in loader)
    return images / (time.perf_counter() - start)


def described(name: str) -> str:
    size, kind, (height, width) = SOURCES[name]
    stored = kind if size is None else f"{kind} {size[0]}x{size[1]}"
    return f"{name} ({stored} to {height}x{width})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    print(f"torch {torch.__version__}, Pillow {PIL.__version__}, {args.repeats} epochs each\n")
    print("| source | workers | cache | images/s: median (min-max) | times none |")
    print("|---|---|---|---|---|")
    costs = []
    for name in args.sources:
        size = SOURCES[name].input
        with tempfile.TemporaryDirectory() as folder:
            benchmark = benchmark_of(name, Path(folder))
            readers, seconds = {}, {}
            for cache in CACHES:
                readers[cache], seconds[cache] = make_reader(benchmark, cache, size, folder)
            again = make_reader(benchmark, "disk", size, folder)[1]
            mib = len(benchmark.train) * size[0] * size[1] * 3 / 2**20
            costs.append(
                f"| {described(name)} | {len(benchmark.train)} | {mib:.0f} | "
                f"{seconds['memory']:.1f} | {seconds['disk']:.1f} | {again:.2f} |"
            )
            for workers in args.workers:
                speeds: dict[str, list[float]] = {cache: [] for cache in CACHES}
                for _ in range(args.repeats):  # in turns, so that other work meets all alike
                    for cache, read in readers.items():
                        speeds[cache].append(loading(benchmark, read, size, workers))
                without = statistics.median(speeds["none"])
                for cache, values in speeds.items():
                    median = statistics.median(values)
                    spread = f"{median:.0f} ({min(values):.0f}-{max(values):.0f})"
                    ratio = f"{median / without:.1f}"
                    print(
                        f"| {described(name)} | {workers} | {cache} | {spread} | {ratio} |",
                        flush=True,
                    )
    print("\n| source | images | cache, MiB | built in memory, s | on disk, s | found again, s |")
    print("|---|---|---|---|---|---|")
    print("\n".join(costs))


if __name__ == "__main__":
    main()
