"""A sheet of images with what a network makes of them: activation, mask, learned attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from ccreid.data.parsing import CANONICAL_LABELS
from ccreid.errors import DataError, require
from ccreid.viz.attention import Maps, enlarged
from ccreid.viz.marks import GREY, INK, LINE, PALETTE, PAPER, fitted, font

Mask = NDArray[np.uint8]

_SHARE = 0.6  # of the colour in what is drawn over an image
# Of canonical labels 1 to 9; the background stays dark. Labels beyond the palette are two tints.
LABEL_COLOURS = np.array(
    [(32, 33, 36), *PALETTE[:7], (170, 170, 170), (140, 90, 40)], dtype=np.uint8
)


@dataclass(frozen=True)
class Layout:
    """Where things stand on the sheet, in pixels; every image is `width` wide and twice as high.

    `images` are shown in `columns` each, which make a block; some blocks stand side by side.
    """

    images: int
    columns: int
    width: int

    margin = 20
    head = 118
    gap = 4
    block_gap = 28
    caption = 30
    label = 26

    @property
    def blocks(self) -> int:
        """Images beside each other: as many as fit into 900 pixels of a sheet of default width."""
        return min(self.images, max(1, 9 * self.width // self.block_width))

    @property
    def block_width(self) -> int:
        """Width of an image's columns."""
        return self.columns * (self.width + self.gap) - self.gap

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        blocks = self.blocks * (self.block_width + self.block_gap) - self.block_gap
        rows = -(-self.images // self.blocks)
        legends = 720 if self.columns > 2 else 400  # need this much, however few images there are
        width = max(2 * self.margin + blocks, legends)
        return width, self.head + rows * (2 * self.width + self.caption) + self.label

    def image(self, number: int, column: int) -> tuple[int, int]:
        """Return the top left corner of a column of an image."""
        row, block = divmod(number, self.blocks)
        left = self.margin + block * (self.block_width + self.block_gap)
        top = self.head + row * (2 * self.width + self.caption)
        return left + column * (self.width + self.gap), top


def overlay(image: Image.Image, values: Tensor, low: float, high: float) -> Image.Image:
    """Return the grey image with a map [h, w] in colours over it, dark at `low`, bright at `high`.

    Values outside the range are drawn as its ends. Where `low` is `high` all is drawn as `high`.
    """
    over = enlarged(values, (image.height, image.width))
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    blended = (1 - _SHARE) * grey + _SHARE * _coloured(over, low, high)
    return Image.fromarray(blended.round().astype(np.uint8))


def _coloured(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    from matplotlib import colormaps

    share = np.clip((values - low) / (high - low), 0, 1) if high > low else np.ones_like(values)
    colours: NDArray[np.float32] = 255 * colormaps["inferno"](share)[..., :3].astype(np.float32)
    return colours


def draw_attention(
    images: Sequence[Image.Image],
    maps: Maps,
    masks: Sequence[Mask | None] | None = None,
    captions: Sequence[str] = (),
    title: str = "",
    width: int = 96,
) -> Image.Image:
    """Draw every image beside its activation, its mask and the attention predicted of it.

    Activations have one range of colours for the whole sheet, from the lowest to the highest of the
    images' cells, attention has the range from 0 to 1; both are written in the legend.

    Args:
        images: N pictures of any size, shown at one size of 1:2.
        maps: of the same N images.
        masks: parsing masks [H, W] of canonical labels, None for an image without one; None for no
            such column.
        captions: N lines, below the images.
        title: the first line of the sheet.
        width: of every image in pixels.

    Returns:
        An RGB image.

    Raises:
        ConfigError: a width below 1.
        DataError: there is no image, or the numbers of images, maps, masks and captions differ.
    """
    require(width >= 1, "width", width, "at least 1")
    lengths = {len(images), len(maps.activation), *map(len, maps.attention.values())}
    lengths |= {len(given) for given in (masks, captions or None) if given is not None}
    if len(lengths) > 1 or 0 in lengths:
        raise DataError(f"Images, maps, masks and captions of {sorted(lengths)} cannot be drawn.")
    low, high = (float(value) for value in torch.aminmax(maps.activation))
    headings = [("image", ""), ("activation", _cells(maps.activation))]
    headings += [("mask", "")] if masks is not None else []
    headings += [(f"attention {stage}", _cells(each)) for stage, each in maps.attention.items()]
    layout = Layout(len(images), len(headings), width)
    sheet = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(sheet, layout, title, headings)
    for number, image in enumerate(images):
        picture = image.convert("RGB").resize((width, 2 * width), Image.Resampling.LANCZOS)
        cells = [picture, overlay(picture, maps.activation[number], low, high)]
        if masks is not None:
            cells.append(_mask_picture(masks[number], width))
        cells += [overlay(picture, each[number], 0, 1) for each in maps.attention.values()]
        for column, cell in enumerate(cells):
            sheet.paste(cell, layout.image(number, column))
        if captions:
            x, y = layout.image(number, 0)
            text = fitted(draw, captions[number], 13, layout.block_width)
            draw.text((x, y + 2 * width + 4), text, fill=INK, font=font(13))
    _draw_scales(sheet, layout, (low, high), bool(maps.attention))
    if masks is not None:
        _draw_labels(sheet, layout, [mask for mask in masks if mask is not None])
    return sheet


def _cells(values: Tensor) -> str:
    return f"{values.shape[1]} by {values.shape[2]} cells"  # Pillow's font has no ×


def _mask_picture(mask: Mask | None, width: int) -> Image.Image:
    """Return the labels in their colours; of no mask an empty field that says so."""
    if mask is not None:
        picture = Image.fromarray(LABEL_COLOURS[mask])
        return picture.resize((width, 2 * width), Image.Resampling.NEAREST)
    picture = Image.new("RGB", (width, 2 * width), LINE)
    draw = ImageDraw.Draw(picture)
    draw.text((width / 2, width), "no mask", fill=GREY, font=font(13), anchor="mm")
    return picture


def _draw_head(
    sheet: Image.Image, layout: Layout, title: str, headings: Sequence[tuple[str, str]]
) -> None:
    draw = ImageDraw.Draw(sheet)
    room = layout.size[0] - 2 * layout.margin
    draw.text((layout.margin, 14), fitted(draw, title, 20, room), fill=INK, font=font(20))
    for block in range(layout.blocks):
        for column, (name, cells) in enumerate(headings):
            x, y = layout.image(block, column)
            for line, top, fill in ((name, y - 36, INK), (cells, y - 19, GREY)):
                text = fitted(draw, line, 13, layout.width)
                draw.text((x, top), text, fill=fill, font=font(13))


def _draw_scales(
    sheet: Image.Image, layout: Layout, activation: tuple[float, float], attention: bool
) -> None:
    """Draw what the colours of activation and attention mean."""
    draw = ImageDraw.Draw(sheet)
    scales = [("activation (1 = equal part)", *activation)]
    scales += [("attention", 0.0, 1.0)] if attention else []
    x, y = layout.margin, 48
    ramp = _coloured(np.linspace(0, 1, 90, dtype=np.float32)[None].repeat(14, 0), 0, 1)
    for name, low, high in scales:
        for piece in (name, f"{low:.2g}", None, f"{high:.2g}"):
            if piece is None:
                sheet.paste(Image.fromarray(ramp.round().astype(np.uint8)), (x, y))
                x += 98
                continue
            draw.text((x, y + 7), piece, fill=INK, font=font(13), anchor="lm")
            x += round(draw.textlength(piece, font(13))) + 8
        x += 20


def _draw_labels(sheet: Image.Image, layout: Layout, masks: Sequence[Mask]) -> None:
    """Write the names of the labels that occur, each in front of its colour."""
    draw = ImageDraw.Draw(sheet)
    x, y = layout.margin, layout.size[1] - layout.label
    for label in sorted(set().union(*(np.unique(mask).tolist() for mask in masks))):
        draw.rectangle((x, y, x + 13, y + 13), fill=tuple(LABEL_COLOURS[label].tolist()))
        name = CANONICAL_LABELS[label].replace("_", " ")
        draw.text((x + 18, y + 7), name, fill=INK, font=font(12), anchor="lm")
        x += 18 + round(draw.textlength(name, font(12))) + 12
