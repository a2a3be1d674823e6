"""Networks that make human-parsing masks: semantic segmentation through transformers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from ccreid.errors import ConfigError
from ccreid.models.weights import offline_if_unreachable


class Preprocessing:
    """An RGB image as a network wants it, [3, h, w]; apart from the network, for loader processes.

    Args:
        processor: an image processor of transformers.
    """

    def __init__(self, processor: Any) -> None:
        self._processor = processor

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the image resized and normalised; h and w are the processor's."""
        pixels: Tensor = self._processor(images=[image], return_tensors="pt")["pixel_values"]
        return pixels[0]


class SegmentationParser(nn.Module):
    """A segmentation network of transformers with its own image processor.

    No code from the hub is run (`trust_remote_code` stays off).

    Args:
        model: hub id, or a local folder that `save_pretrained` wrote (network and processor).
        schema: the name of the schema its labels are in.

    Attributes:
        preprocess: makes of an image what `forward` takes.
        num_labels: how many labels it tells apart.

    Raises:
        ConfigError: transformers is not installed, or the model cannot be had or is not whole.
    """

    def __init__(self, model: str, schema: str) -> None:
        super().__init__()
        self.model, self.schema = model, schema
        network, processor = _load(model)
        self.network: nn.Module = network
        self.preprocess = Preprocessing(processor)
        self.num_labels = int(network.config.num_labels)

    def forward(self, pixels: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Return the label of every pixel of the images as they were.

        Args:
            pixels: preprocessed images, [B, 3, h, w].
            sizes: (height, width) of every image.

        Returns:
            Per image [H, W] uint8; the logits are enlarged bilinearly before the largest is taken.
        """
        logits = self.network(pixel_values=pixels).logits
        return [_labels(one, size) for one, size in zip(logits, sizes, strict=True)]


def _labels(logits: Tensor, size: tuple[int, int]) -> Tensor:
    whole = F.interpolate(logits[None].float(), size, mode="bilinear", align_corners=False)
    return whole[0].argmax(dim=0).to(torch.uint8)


def _load(model: str) -> tuple[Any, Any]:
    transformers = _transformers()
    folder = Path(model).expanduser()
    is_local = folder.is_dir()
    if not is_local and (model.count("/") > 1 or model.startswith((".", "/", "~"))):
        raise ConfigError(f"parser.model={model}: there is no folder {folder.absolute()}.")
    source = str(folder) if is_local else model
    try:
        with offline_if_unreachable():
            network, loaded = transformers.AutoModelForSemanticSegmentation.from_pretrained(
                source, local_files_only=is_local, output_loading_info=True
            )
            processor = transformers.AutoImageProcessor.from_pretrained(
                source, local_files_only=is_local
            )
    except Exception as error:  # transformers, the hub client and safetensors raise their own
        raise ConfigError(
            f"parser.model={model} could not be loaded ({type(error).__name__}: "
            f"{str(error)[:300]}). Without a network set parser.model to a local folder that holds "
            "the model's config.json, preprocessor_config.json and model.safetensors."
        ) from error
    if absent := sorted({*loaded["missing_keys"], *loaded["mismatched_keys"]}, key=str):
        raise ConfigError(
            f"parser.model={model} lacks {len(absent)} tensors of a segmentation network (the "
            f"first is {absent[0]}): they would be random. Is it only an encoder?"
        )
    return network.eval(), processor


def _transformers() -> Any:
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError as error:
        raise ConfigError(
            f'Making masks needs transformers ({error}): pip install "ccreid[parse]"'
        ) from error
    transformers.utils.logging.disable_progress_bar()  # the verb has one of its own
    return transformers
