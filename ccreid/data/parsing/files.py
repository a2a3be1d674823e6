"""Reads one parsing mask of any published kind and writes one of ours."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ccreid.data.files import read_bytes, read_labels
from ccreid.errors import DataError
from ccreid.writing import unwritable, write_whole

RECORD = "parsing.json"
"""Lies beside masks that `python -m ccreid.parse` made."""


class SourceMask(NamedTuple):
    """A mask as somebody's network left it.

    Attributes:
        labels: source labels, [H, W].
        num_labels: channels, where the file holds probabilities or logits; else None.
    """

    labels: NDArray[np.uint8]
    num_labels: int | None


def read_source(path: str) -> SourceMask:
    """Read a label image, or an array of labels or probabilities.

    PNGs are never converted: of a palette image the indices are the labels, not its colours. Of
    probabilities or logits the largest is the label (it is the same for both); how sure the network
    was is not kept.

    Raises:
        DataError: unreadable, pickled, or neither labels nor probabilities.
    """
    if path.endswith(".npy"):
        return _from_array(_read_array(path), path)
    return SourceMask(read_labels(path), None)


def _read_array(path: str) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = np.lib.format.read_array(
            io.BytesIO(read_bytes(path)), allow_pickle=False
        )
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise DataError(
            f"{path} is not a whole .npy array of numbers ({error}). Pickled objects are not "
            "loaded: they could run code. Get the file again, or remove it."
        ) from None
    return array


def _from_array(array: NDArray[np.generic], path: str) -> SourceMask:
    if array.ndim == 3 and 1 in (array.shape[0], array.shape[2]):
        array = array.squeeze(0 if array.shape[0] == 1 else 2)  # labels with an idle axis
    is_number = np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_
    if not is_number or array.size == 0 or not np.isfinite(array).all():
        raise DataError(f"{path} should hold finite numbers ({array.dtype}, {array.shape}).")
    if array.ndim == 3:
        axis = _channel_axis(array.shape, path)
        return SourceMask(array.argmax(axis).astype(np.uint8), array.shape[axis])
    labels = array.astype(np.uint8)
    if array.ndim != 2 or (labels != array).any():
        raise DataError(
            f"{path} should hold labels [H, W] from 0 to 255, or probabilities [H, W, C] or "
            f"[C, H, W]; it holds {array.dtype} of shape {array.shape}."
        )
    return SourceMask(labels, None)


def _channel_axis(shape: tuple[int, ...], path: str) -> int:
    """The channels are the smallest axis, first or last."""
    axis = 0 if shape[0] < shape[2] else 2
    if shape[axis] >= min(shape[1], shape[2 - axis]):
        raise DataError(
            f"{path} has shape {shape}: which axis holds the classes cannot be told. Store "
            "probabilities as [H, W, C] or [C, H, W] with fewer classes than pixels a side."
        )
    return axis


def resize_labels(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize a mask to `size` = (width, height) by taking the nearest pixel."""
    return np.array(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST))


def write_labels(
    path: Path, labels: NDArray[np.uint8], notes: Mapping[str, str] | None = None
) -> None:
    """Write an 8-bit PNG whole or not at all; what died before leaves no half mask.

    Args:
        path: of the mask; its folder is made.
        labels: [H, W].
        notes: text to keep inside the file, see `read_notes`.

    Raises:
        ConfigError: it cannot be written.
    """
    info = PngInfo()
    for key, value in (notes or {}).items():
        info.add_text(key, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path, partial(unwritable, setting="folder"), shared=True) as file:
        Image.fromarray(labels).save(file, format="PNG", pnginfo=info)


def read_notes(path: Path) -> dict[str, str]:
    """Return the texts inside a PNG without decoding its pixels.

    Raises:
        DataError: no PNG.
    """
    try:
        with Image.open(path) as image:
            return {str(key): str(value) for key, value in image.info.items()}
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} is not a whole PNG ({error}). Remove it.") from None


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write, beside masks, who made them; whole or not at all."""
    with write_whole(folder / RECORD, partial(unwritable, setting="folder"), shared=True) as file:
        file.write(f"{json.dumps(record, indent=2)}\n".encode())


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return what `python -m ccreid.parse` wrote beside its masks; None for masks of others.

    Raises:
        DataError: a damaged file.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        if record["schema"] != "canonical":
            raise KeyError("schema")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not what ccreid.parse writes ({error!r}). Remove it and say "
            "data.parsing.schema=<name>."
        ) from None
    return record
