"""Time exact ranking at the sizes of LTCC, PRCC, Market-1501 and a large gallery, on random data.

    python experiments/benchmarks/ranking.py

Prints a Markdown table: median and range of the runs, and the peak memory of a process that does
    nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import time
from typing import Any, NamedTuple

import numpy as np
import torch

from ccreid.retrieval import rank_features


class Size(NamedTuple):
    """A benchmark's numbers of query and gallery images, people, cameras and outfits a person."""

    num_query: int
    num_gallery: int
    num_people: int
    num_cameras: int
    num_outfits: int


SIZES = {
    "LTCC": Size(493, 7050, 75, 12, 5),
    "PRCC": Size(3543, 3384, 71, 3, 2),
    "Market-1501": Size(3368, 15913, 751, 6, 1),
    "large gallery": Size(1000, 200_000, 2000, 12, 3),
}


def peak_mib() -> float:
    """Return the largest resident memory of this process so far in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS, KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure(
    size: Size, dimension: int, repeats: int, device: str, threads: int
) -> tuple[list[float], float, float]:
    """Return the seconds of every repeat, and peak memory in MiB before and after them."""
    torch.set_num_threads(threads)
    generator = np.random.default_rng(0)
    features: dict[str, torch.Tensor] = {}
    ids: dict[str, Any] = {}
    for role, count in (("query", size.num_query), ("gallery", size.num_gallery)):
        pid = generator.integers(size.num_people, size=count)
        ids[f"{role}_pid"] = pid
        ids[f"{role}_camid"] = generator.integers(size.num_cameras, size=count)
        ids[f"{role}_clothes_id"] = pid * size.num_outfits + generator.integers(
            size.num_outfits, size=count
        )
        # A weak identity signal, so that positives spread over the ranking as they do in practice.
        values = generator.standard_normal((count, dimension), dtype=np.float32)
        values[np.arange(count), pid % dimension] += 3
        features[role] = torch.from_numpy(values).to(device)
    before, seconds = peak_mib(), []
    for _ in range(repeats):
        start = time.perf_counter()
        rank_features(features["query"], features["gallery"], **ids, rule="standard")
        seconds.append(time.perf_counter() - start)
    return seconds, before, peak_mib()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()

    print(
        f"torch {torch.__version__}, {args.device}, {args.threads} threads, {args.dimension}-d, "
        f"{args.repeats} runs\n"
    )
    print("| size | query x gallery | median (min-max), s | peak memory before / after, MiB |")
    print("|---|---|---|---|")
    for name in args.sizes:
        size = SIZES[name]
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, before, after = pool.apply(
                measure, (size, args.dimension, args.repeats, args.device, args.threads)
            )
        times = f"{statistics.median(seconds):.2f} ({min(seconds):.2f}-{max(seconds):.2f})"
        memory = f"{before:.0f} / {after:.0f}"
        print(
            f"| {name} | {size.num_query} x {size.num_gallery} | {times} | {memory} |", flush=True
        )


if __name__ == "__main__":
    main()
