"""Which images make a batch: a pure function of seed, epoch and rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from ccreid.errors import ConfigError

Draw = tuple[int, int]
"""Index into the train list, and the seed of this draw's augmentation."""


class PKSampler(Sampler[list[Draw]]):
    """P identities with K images each, planned for all ranks at once.

    Per epoch the images of an identity are shuffled and cut into chunks of K, the remainder is left
    out; an identity with fewer than K images gives one chunk drawn with replacement. A batch takes
    one chunk from each of P distinct identities. FIRe² draws identities until fewer than P have
    chunks left, so that its epochs vary in length; here every epoch has the largest number of
    batches that distinct identities allow, and identities that would make a later batch impossible
    are drawn first.

    Args:
        pid: contiguous identity of every train image, [N].
        identities_per_batch: P, over all ranks.
        images_per_identity: K.
        seed: the run's seed.
        epoch: tells the epoch at the moment an iteration begins.
        rank, world_size: this process; it gets P / world_size of each batch's identities.

    Raises:
        ConfigError: P exceeds the identities there are, K all their images, or the ranks do not
            divide P.
    """

    def __init__(
        self,
        pid: NDArray[np.int64],
        identities_per_batch: int,
        images_per_identity: int,
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._images = [np.flatnonzero(pid == identity) for identity in np.unique(pid)]
        self.P, self.K = identities_per_batch, images_per_identity
        self.seed, self.epoch, self.rank, self.world_size = seed, epoch, rank, world_size
        if self.P < 1 or self.K < 1:
            raise ConfigError(
                f"data.identities_per_batch={self.P} and data.images_per_identity={self.K} "
                "must both be at least 1."
            )
        if len(pid) < self.K:
            raise ConfigError(
                f"data.images_per_identity={self.K} should be at most {len(pid)}, the images of "
                "the whole train split."
            )
        if len(self._images) < self.P:
            raise ConfigError(
                f"A batch should hold {self.P} identities, but the train split has only "
                f"{len(self._images)}. Set data.identities_per_batch={len(self._images)} or less."
            )
        if self.P % world_size:
            raise ConfigError(
                f"{world_size} devices cannot share the {self.P} identities of a batch evenly. "
                f"Set data.identities_per_batch to a multiple of {world_size}."
            )
        if self.P // world_size * self.K < 2:
            raise ConfigError(
                f"A batch of {self.P}×{self.K} images is one image per device, which batch norm "
                "cannot train on. Raise data.identities_per_batch or data.images_per_identity."
            )
        self._chunks = np.array([max(1, len(images) // self.K) for images in self._images])
        self._num_batches = _most_batches(self._chunks, self.P)

    @property
    def num_short_identities(self) -> int:
        """How many identities have fewer than K images and are drawn with replacement."""
        return sum(len(images) < self.K for images in self._images)

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[list[Draw]]:
        for indices, seeds in zip(*self.plan(self.epoch()), strict=True):
            mine = slice(self.rank, None, self.world_size)  # whole identities: [P, K] rows
            yield list(
                zip(indices[mine].ravel().tolist(), seeds[mine].ravel().tolist(), strict=True)
            )

    def plan(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return image indices and augmentation seeds of all ranks, each [batches, P, K]."""
        rng = np.random.default_rng([self.seed, epoch])
        chunks = [self._cut(images, rng) for images in self._images]
        left = self._chunks.copy()
        shape = (self._num_batches, self.P, self.K)
        indices = np.empty(shape, dtype=np.int64)
        for batch, batches_left in enumerate(range(self._num_batches, 0, -1)):
            for row, identity in enumerate(self._draw_identities(left, batches_left, rng)):
                left[identity] -= 1
                indices[batch, row] = chunks[identity][left[identity]]
        return indices, rng.integers(2**62, size=shape)

    def _cut(self, images: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        if len(images) < self.K:
            return rng.choice(images, size=(1, self.K))
        whole = len(images) // self.K * self.K
        return rng.permutation(images)[:whole].reshape(-1, self.K)

    def _draw_identities(
        self, left: NDArray[np.int64], batches_left: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        # An identity with a chunk for every batch left wastes one in each batch that passes it
        # over; no more may be wasted than there are chunks beyond those the batches left will use.
        surplus = np.minimum(left, batches_left).sum() - batches_left * self.P
        full = rng.permutation(np.flatnonzero(left >= batches_left))
        forced = full[: max(0, len(full) - surplus)]
        others = rng.permutation(np.setdiff1d(np.flatnonzero(left > 0), forced))
        return rng.permutation(np.concatenate([forced, others[: self.P - len(forced)]]))


def _most_batches(chunks: NDArray[np.int64], identities: int) -> int:
    """The largest m for which m batches of distinct identities exist: Σ min(chunks, m) ≥ m·P."""
    low, high = 0, int(chunks.sum()) // identities
    while low < high:
        middle = (low + high + 1) // 2
        if np.minimum(chunks, middle).sum() >= middle * identities:
            low = middle
        else:
            high = middle - 1
    return low
