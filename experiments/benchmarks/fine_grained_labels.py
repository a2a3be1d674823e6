"""Time `fine_grained_labels` on a train set of 17,000 synthetic features, against a plain loop.

The loop applies the published rules image by image to FAISS neighbour lists; the table shows both
times and how many images get another cluster, because single precision orders near ties at random.
On lists without that freedom the labels must be equal, or the script fails.

    python experiments/benchmarks/fine_grained_labels.py --runs 5
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import DBSCAN

from ccreid.clustering import fine_grained_labels, nearest_neighbours

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Lists = Callable[[FloatArray, int], IntArray]


def synthetic_features(
    images: int, identities: int, dimension: int, seed: int
) -> tuple[FloatArray, IntArray, IntArray]:
    """Return features `[images, dimension]`, pids and clothes of people in 2-4 outfits.

    A feature is person + outfit + tracklet (about eight frames of one camera) + noise, all in 16
    latent directions: isotropic noise in 2048 directions would make all images equally far.
    """
    rng = np.random.default_rng(seed)
    pids = rng.permutation(np.arange(images) % identities).astype(np.int64)
    outfits = rng.integers(2, 5, identities)
    clothes = pids * 4 + rng.integers(0, outfits[pids])
    takes = max(1, images // identities // 24)  # tracklets of one outfit, three outfits on average
    tracklet = clothes * takes + rng.integers(0, takes, images)
    latent = rng.standard_normal((identities, 16))[pids]
    latent += 0.8 * rng.standard_normal((identities * 4, 16))[clothes]
    latent += 0.6 * rng.standard_normal((identities * 4 * takes, 16))[tracklet]
    latent += 0.2 * rng.standard_normal((images, 16))
    directions = rng.standard_normal((16, dimension))
    return (latent @ directions).astype(np.float32), pids, clothes


def faiss_lists(unit: FloatArray, depth: int) -> IntArray:
    """Return the neighbour lists as published: a flat index per identity, in single precision."""
    index = faiss.IndexFlatL2(unit.shape[1])
    index.add(unit)
    return np.asarray(index.search(unit, depth)[1])


def exact_lists(unit: FloatArray, depth: int) -> IntArray:
    """Return the lists in which near ties are decided in double precision."""
    return nearest_neighbours(torch.from_numpy(unit), depth).numpy()


def jaccard_by_loop(unit: FloatArray, neighbour_lists: Lists, k1: int, k2: int) -> FloatArray:
    """Return the Jaccard distances of one identity, one image and one neighbour at a time."""
    count = len(unit)
    k1, k2 = min(k1, count), min(k2, count)
    lists = neighbour_lists(unit, max(k1, k2))
    half = round(k1 / 2) + 1

    def reciprocal(image: int, length: int) -> IntArray:
        mine = lists[image, :length]
        back = (lists[mine, :length] == image).any(axis=1)
        return mine[back]

    weights = np.zeros((count, count), dtype=np.float32)
    for image in range(count):
        near = reciprocal(image, k1)
        expanded = near
        for neighbour in near:
            core = reciprocal(int(neighbour), half)
            if 3 * len(np.intersect1d(core, near)) > 2 * len(core):
                expanded = np.append(expanded, core)
        expanded = np.unique(expanded)
        score = np.exp(2 * (unit[expanded] @ unit[image]) - 2)
        weights[image, expanded] = score / score.sum()
    encoding = np.stack([weights[lists[image, :k2]].mean(axis=0) for image in range(count)])
    holders = [np.flatnonzero(encoding[:, column]) for column in range(count)]
    distances = np.empty_like(encoding)
    for image in range(count):
        shared = np.zeros(count, dtype=np.float32)
        for column in np.flatnonzero(encoding[image]):
            others = holders[column]
            shared[others] += np.minimum(encoding[image, column], encoding[others, column])
        distances[image] = np.maximum(1 - shared / (2 - shared), 0)
    np.fill_diagonal(distances, 0)
    return distances


def labels_by_loop(
    features: FloatArray, pids: IntArray, neighbour_lists: Lists, eps: float = 0.4
) -> IntArray:
    """Return the labels of the published procedure with k1 = 20, k2 = 6, min_samples = 1."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.empty(len(pids), dtype=np.int64)
    offset = 0
    for pid in np.unique(pids):
        members = np.flatnonzero(pids == pid)
        distances = jaccard_by_loop(unit[members], neighbour_lists, 20, 6)
        found = DBSCAN(eps=eps, min_samples=1, metric="precomputed").fit_predict(distances)
        labels[members] = found + offset
        offset += int(found.max()) + 1
    return labels


def images_apart(labels: IntArray, others: IntArray) -> int:
    """Return the number of images whose cluster has other members in the other labelling."""
    pairs = np.stack([labels, others])
    _, inverse, together = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    together = together[inverse.reshape(-1)]
    same = (np.bincount(labels)[labels] == together) & (np.bincount(others)[others] == together)
    return int((~same).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=17_000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--identities", type=int, nargs="+", default=[77, 150, 1000])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="where the features lie")
    parser.add_argument("--skip-loop", action="store_true", help="do not run the reference loop")
    arguments = parser.parse_args()

    try:
        faiss_version = version("faiss-cpu")
    except PackageNotFoundError:
        faiss_version = "of another package"
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, faiss {faiss_version}\n")
    print("| identities | clusters | ours, s: median (min-max) | loop, s | ratio | differing |")
    print("|---|---|---|---|---|---|")
    for identities in arguments.identities:
        features, pids, _ = synthetic_features(
            arguments.images, identities, arguments.dimension, seed=0
        )
        tensor = torch.from_numpy(features).to(arguments.device)
        fine_grained_labels(tensor, pids)  # the first call pays for loading libraries
        times = []
        for _ in range(arguments.runs):
            start = time.perf_counter()
            labels, _ = fine_grained_labels(tensor, pids)
            times.append(time.perf_counter() - start)
        median = statistics.median(times)
        loop, ratio, differing = "-", "-", "-"
        if not arguments.skip_loop:
            start = time.perf_counter()
            published = labels_by_loop(features, pids, faiss_lists)
            seconds = time.perf_counter() - start
            loop, ratio = f"{seconds:.2f}", f"{seconds / median:.0f}x"
            differing = str(images_apart(labels.numpy(), published))
            if not np.array_equal(labels.numpy(), labels_by_loop(features, pids, exact_lists)):
                raise SystemExit(f"{identities} identities: labels differ from the loop's.")
        spread = f"{median:.2f} ({min(times):.2f}-{max(times):.2f})"
        clusters = int(labels.max()) + 1
        print(
            f"| {identities} | {clusters} | {spread} | {loop} | {ratio} | {differing} |", flush=True
        )


if __name__ == "__main__":
    main()
