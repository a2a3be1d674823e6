"""Where a network looks: activation maps of any backbone, and attention that a method predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.files import read_image
from ccreid.data.parsing import ParsingStore
from ccreid.data.sample import Sample
from ccreid.data.transforms import TestTransform
from ccreid.features import evaluating
from ccreid.methods.base import Method
from ccreid.models.pooling import average_pool

_AT_A_TIME = 16  # images


@dataclass(frozen=True)
class Maps:
    """What a network shows of N images.

    Attributes:
        activation: `activation_map` of the last feature map, [N, h, w].
        attention: predicted attention in [0, 1] by stage, [N, h, w]; empty where the method
            predicts none.
    """

    activation: Tensor
    attention: dict[str, Tensor]


def activation_map(feature_map: Tensor) -> Tensor:
    """Return how much every position gives to the mean feature, 1 on average.

    With m the mean of F over positions, ‖m‖² is the mean of ⟨F(x), m⟩: the map is ⟨F(x), m⟩ / ‖m‖²,
    a position's part of the mean feature's length in units of an equal part. It belongs to no class
    and takes no gradient. It may be negative: such a position pulls the mean feature back.

    It says where the feature comes from, not what is recognised there, and not what a decision
    hangs on: background that all images share gives to every feature and tells no people apart.
    Maximum pooling, class tokens and what a method does after pooling are not in it, and positions
    of a deep network see far more of the image than their cell.

    Args:
        feature_map: F, [B, C, h, w].

    Returns:
        [B, h, w] float32; of a feature map whose mean is zero, ones.

    Source: the decomposition of the similarity of average-pooled features over positions, of
    Stylianou, Souvenir, Pless: "Visualizing Deep Similarity Networks", WACV 2019
    (arXiv 1901.00536), for an image with itself.
    """
    features = feature_map.float()
    mean = average_pool(features)
    length = mean.square().sum(dim=1)[:, None, None]
    parts = torch.einsum("bchw,bc->bhw", features, mean) / length
    return torch.where(length > 0, parts, torch.ones_like(parts))


def look(method: Method, samples: Sequence[Sample], transform: TestTransform) -> Maps:
    """Return the maps of some images; of a tracklet those of the frame that stands for it.

    Args:
        method: its backbone's last map is shown, and the attention that it predicts, if any.
        samples: at least one; few, for all their maps are kept.
        transform: the test transform.
    """
    activation: list[Tensor] = []
    attention: dict[str, list[Tensor]] = {}
    with torch.no_grad(), evaluating(method):
        for start in range(0, len(samples), _AT_A_TIME):
            some = samples[start : start + _AT_A_TIME]
            images = torch.stack([transform(read_image(sample.cover)) for sample in some])
            images = images.to(method.device)
            activation.append(activation_map(method.backbone(images)).cpu())
            for stage, maps in method.attention(images).items():
                attention.setdefault(stage, []).append(maps[:, 0].float().cpu())
    return Maps(torch.cat(activation), {stage: torch.cat(m) for stage, m in attention.items()})


def load_masks(
    benchmark: Benchmark, settings: Mapping[str, Any], samples: Sequence[Sample]
) -> list[NDArray[np.uint8] | None]:
    """Return the canonical parsing mask [H, W] of every image, None for those without one.

    Args:
        benchmark: of the samples.
        settings: `cfg.data.parsing`; its `on_missing` is for training and of no effect here.
        samples: images.

    Raises:
        DataError: none of them has a mask, a mask is unreadable, or the samples are tracklets.
    """
    store = ParsingStore(benchmark, **{**settings, "on_missing": "skip"})
    store.require(samples)
    found = {sample.path for sample in store.usable(samples)}
    return [store.get(sample) if sample.path in found else None for sample in samples]


def enlarged(values: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return a map [h, w] at another size (height, width), bilinear between the cells' centres."""
    larger = interpolate(values[None, None].float(), size, mode="bilinear", align_corners=False)
    array: NDArray[np.float32] = larger[0, 0].numpy()
    return array
