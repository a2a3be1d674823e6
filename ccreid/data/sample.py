"""Sample and Batch: the nouns of the data layer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a benchmark, or one tracklet of a video benchmark.

    Attributes:
        path: the image file, `archive.zip!member` for a member of an archive; a tracklet's folder.
        pid: identity number as the benchmark writes it; train and test numbers may overlap.
        camid: camera number, from 0; -1 where the benchmark has no cameras.
        clothes_id: outfit number, unique over all people of the benchmark; -1 where unlabelled.
        tracklet_id: tracklet number; -1 where the benchmark has none.
        frames: the image files of a tracklet in the order they were filmed; empty for an image.
    """

    path: str
    pid: int
    camid: int = -1
    clothes_id: int = -1
    tracklet_id: int = -1
    frames: tuple[str, ...] = ()

    @property
    def image_paths(self) -> tuple[str, ...]:
        """The files to read: the image, or all frames."""
        return self.frames or (self.path,)

    @property
    def cover(self) -> str:
        """The image that stands for the sample in pictures: of a tracklet the middle frame."""
        return self.image_paths[len(self.image_paths) // 2]


class Batch(TypedDict):
    """What the training loader yields; every entry has the batch as its first dimension.

    `image` is RGB in [0, 1] (the backbone normalises), of video a clip of T frames; `pid` and
    `clothes_id` are contiguous train labels from 0 (`clothes_id` is -1 where unlabelled); `index`
    is the position in the datamodule's train list.
    `parsing` (canonical labels) and `caption` (text features, the biometric one first) are there
    when the method asks for them.
    """

    image: Tensor  # [B, 3, H, W] or [B, T, 3, H, W] float32
    pid: Tensor  # [B] int64
    camid: Tensor  # [B] int64
    clothes_id: Tensor  # [B] int64
    index: Tensor  # [B] int64
    parsing: NotRequired[Tensor]  # [B, H, W] uint8
    caption: NotRequired[Tensor]  # [B, 1+K, D] float32


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
    """Return one line per sample, base name, ids and number of frames: equal lists, equal lines."""
    return ["\t".join(map(str, (_base_name(s), *_numbers(s), len(s.frames)))) for s in samples]


def _base_name(sample: Sample) -> str:
    return sample.path.rsplit("/", 1)[-1]


def _numbers(sample: Sample) -> tuple[int, int, int, int]:
    return sample.pid, sample.camid, sample.clothes_id, sample.tracklet_id
