"""Sample and Batch: the nouns of the data layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a benchmark.

    Attributes:
        path: the image file; `archive.zip!member` names a member of an archive.
        pid: identity number as the benchmark writes it; train and test numbers may overlap.
        camid: camera number, from 0; -1 where the benchmark has no cameras.
        clothes_id: outfit number, unique over all people of the benchmark; -1 where unlabelled.
        tracklet_id: tracklet number; -1 where the benchmark has none.
    """

    path: str
    pid: int
    camid: int = -1
    clothes_id: int = -1
    tracklet_id: int = -1


class Batch(TypedDict):
    """What the training loader yields; every entry has the batch as its first dimension.

    `image` is RGB in [0, 1] (the backbone normalises); `pid` and `clothes_id` are contiguous train
    labels from 0 (`clothes_id` is -1 where unlabelled); `index` is the position in the train list.
    `parsing` (canonical labels) is there when the method's `requires` names it.
    """

    image: Tensor  # [B, 3, H, W] float32
    pid: Tensor  # [B] int64
    camid: Tensor  # [B] int64
    clothes_id: Tensor  # [B] int64
    index: Tensor  # [B] int64
    parsing: NotRequired[Tensor]  # [B, H, W] uint8


def ids(samples: Iterable[Sample], field: str) -> NDArray[np.int64]:
    """Return one id field (`pid`, `camid`, ...) of all samples, [N] int64."""
    return np.array([getattr(sample, field) for sample in samples], dtype=np.int64)


def contiguous_labels(values: NDArray[np.int64]) -> Tensor:
    """Renumber ids to 0..M-1 in ascending order, [N] int64; -1 (unlabelled) stays -1."""
    labelled = values >= 0
    labels = np.full_like(values, -1)
    labels[labelled] = np.unique(values[labelled], return_inverse=True)[1]
    return torch.from_numpy(labels)


def manifest(samples: Iterable[Sample]) -> list[str]:
    """Return one line per sample, base name and ids in order: equal listings have equal lines."""
    return ["\t".join([s.path.rsplit("/", 1)[-1], *map(str, astuple(s)[1:])]) for s in samples]
