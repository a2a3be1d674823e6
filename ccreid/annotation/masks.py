"""Runs a segmentation network over images and lays their masks down as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ccreid.data.files import read_image
from ccreid.data.parsing.folder import MaskFolder
from ccreid.data.sample import Sample
from ccreid.faults import loading_images, within_memory
from ccreid.models.parsers import SegmentationParser

Item = tuple[Tensor, tuple[int, int], int]
"""A preprocessed image [3, h, w], its own height and width, its position in the list."""


def make_masks(
    parser: SegmentationParser,
    masks: MaskFolder,
    samples: Sequence[Sample],
    *,
    batch_size: int,
    workers: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> None:
    """Segment some images and add their masks to the folder as they come.

    Args:
        parser: the network, on the device it is to compute on.
        masks: where the masks go.
        samples: what to segment.
        batch_size: images at a time.
        workers: processes that read and prepare images.
        done: told after each batch how many images were done.

    Raises:
        DataError: an image cannot be read.
        ConfigError: the device has too little memory for the batch, or a loader's process died.
    """
    device = next(parser.parameters()).device
    images = _Images(samples, parser.preprocess)
    loader: DataLoader[Item] = DataLoader(
        images, batch_size, num_workers=workers, collate_fn=_stack
    )
    less = f"Set batch_size to less than {batch_size}; the masks made so far stay."
    with (
        within_memory(f"parsing on {device}", less),
        loading_images("parsing", "workers", workers),
        torch.inference_mode(),
    ):
        for pixels, sizes, indices in loader:
            for index, labels in zip(indices, parser(pixels.to(device), sizes), strict=True):
                masks.add(samples[index], labels.cpu().numpy())
            done(len(indices))


class _Images(Dataset[Item]):
    def __init__(
        self, samples: Sequence[Sample], preprocess: Callable[[Image.Image], Tensor]
    ) -> None:
        self.samples, self.preprocess = samples, preprocess

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Item:
        image = read_image(self.samples[index].path)
        return self.preprocess(image), (image.height, image.width), index


def _stack(items: list[Item]) -> tuple[Tensor, list[tuple[int, int]], list[int]]:
    return (
        torch.stack([pixels for pixels, _, _ in items]),
        [size for _, size, _ in items],
        [index for _, _, index in items],
    )
