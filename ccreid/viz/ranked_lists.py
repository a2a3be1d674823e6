"""Ranked lists as a picture: each query beside the gallery images found for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from ccreid.errors import ConfigError, DataError
from ccreid.retrieval import RetrievalResults
from ccreid.viz.marks import (
    GREY,
    INK,
    LINE,
    PAPER,
    RIGHT,
    TAG_SIZE,
    WRONG,
    draw_mark,
    fitted,
    font,
    tag_strip,
)

Order = Literal["worst", "best", "spread", "first"]
Loader = Callable[[int], Image.Image]
Caption = Callable[[int], str]


@dataclass(frozen=True)
class Layout:
    """Where things stand on the sheet, in pixels; every image is `width` wide and twice as high.

    `rows` and `places` count the queries and the ranked images of each.
    """

    rows: int
    places: int
    width: int
    captions: bool

    frame = 4
    margin = 20
    head = 82
    text = 18
    gap = 8
    query_gap = 28

    @property
    def cell(self) -> int:
        """Width of an image with its frame."""
        return self.width + 2 * self.frame

    @property
    def row_height(self) -> int:
        """Height of a row: image, frame, one or two lines of text, and the space below."""
        lines = 2 if self.captions else 1
        return 2 * self.width + 2 * self.frame + lines * self.text + 16

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        ranked = self.places * (self.cell + self.gap) - self.gap
        width = 2 * self.margin + self.cell + self.query_gap + ranked
        # The legend needs this much, however few places are shown.
        return max(width, 520), self.head + self.rows * self.row_height + self.margin - 8

    def image(self, row: int, place: int) -> tuple[int, int]:
        """Return the top left corner of an image without its frame; place -1 is the query."""
        left = self.margin + self.frame
        if place >= 0:
            left += self.cell + self.query_gap + place * (self.cell + self.gap)
        return left, self.head + row * self.row_height + self.frame


def draw_ranked_lists(
    results: RetrievalResults,
    load_query: Loader,
    load_gallery: Loader,
    title: str = "",
    num_queries: int = 8,
    depth: int = 10,
    order: Order = "worst",
    query_captions: Caption | None = None,
    gallery_captions: Caption | None = None,
    same_clothes: Callable[[int, int], bool] | None = None,
    width: int = 96,
) -> Image.Image:
    """Draw queries with the first images ranked for them.

    A blue frame and a check mark the query's person, an orange frame and a cross another one.
    Queries without a match under the rule are never drawn; of fewer valid ones or fewer ranked
    images, all are drawn.

    Args:
        results: the ranking.
        load_query: gives the image of a query index; any size, shown at one size of 1:2.
        load_gallery: likewise for a gallery index.
        title: the first line of the sheet.
        num_queries: the number of rows.
        depth: the number of ranked images in a row, at most `results.depth`.
        order: the queries with the lowest average precision (`worst`), the highest (`best`), evenly
            spread from the lowest to the highest (`spread`), or the lowest index (`first`); equal
            ones by index.
        query_captions: a short text for a query index, below the image.
        gallery_captions: likewise for a gallery index.
        same_clothes: whether query i and gallery image j wear the same clothes; such images get a
            small tag.
        width: width of every image in pixels.

    Returns:
        An RGB image.

    Raises:
        ConfigError: unknown order, or a number of rows, ranked images or pixels below 1.
        DataError: no query is valid.
    """
    if min(num_queries, depth, width) < 1:
        raise ConfigError(
            f"num_queries, depth and width must be at least 1, got {num_queries}, {depth}, {width}."
        )
    queries = _choose(results, order, num_queries)
    layout = Layout(
        len(queries),
        min(depth, results.depth),
        width,
        query_captions is not None or gallery_captions is not None,
    )
    sheet = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(sheet, layout, title, tagged=same_clothes is not None)
    for row, query in enumerate(queries):
        if row:
            y = layout.image(row, -1)[1] - layout.frame - 8
            draw.line((layout.margin, y, layout.size[0] - layout.margin, y), fill=LINE)
        corner = layout.image(row, -1)
        sheet.paste(_scaled(load_query(query), width), corner)
        draw.rectangle(_box(corner, width, 1), outline=GREY)
        _write(
            draw,
            layout,
            corner,
            [f"AP {results.average_precision[query]:.1%}", _caption(query_captions, query)],
        )
        for place in range(layout.places):
            index = int(results.indices[query, place])
            if index < 0:
                break
            corner = layout.image(row, place)
            right = bool(results.matches[query, place])
            draw.rectangle(_box(corner, width, layout.frame), fill=RIGHT if right else WRONG)
            sheet.paste(_scaled(load_gallery(index), width), corner)
            draw_mark(sheet, (corner[0] + width - 1, corner[1]), max(14, width // 5), right)
            if same_clothes is not None and same_clothes(query, index):
                tag = tag_strip(width - 6)
                sheet.paste(tag, (corner[0] + 3, corner[1] + 2 * width - tag.height - 3), tag)
            _write(
                draw,
                layout,
                corner,
                [
                    f"{place + 1}  ·  {results.distances[query, place]:.3f}",
                    _caption(gallery_captions, index),
                ],
            )
    return sheet


def _choose(results: RetrievalResults, order: Order, number: int) -> list[int]:
    valid = np.flatnonzero(results.valid)
    if not len(valid):
        raise DataError(
            f"No query has a match under the rule '{results.rule}', so nothing can be drawn; "
            "check the cameras and clothes ids of query and gallery, or choose another rule."
        )
    precision = results.average_precision[valid]
    keys = {"worst": precision, "best": -precision, "spread": precision, "first": valid}
    if order not in keys:
        raise ConfigError(f"Unknown order {order!r}; choose from {', '.join(keys)}.")
    ordered = valid[np.argsort(keys[order], kind="stable")]
    number = min(number, len(ordered))
    places = np.linspace(0, len(ordered) - 1, number) if order == "spread" else np.arange(number)
    return [int(query) for query in ordered[places.round().astype(int)]]


def _scaled(image: Image.Image, width: int) -> Image.Image:
    return image.convert("RGB").resize((width, 2 * width), Image.Resampling.LANCZOS)


def _box(corner: tuple[int, int], width: int, frame: int) -> tuple[int, int, int, int]:
    """Return the inclusive rectangle around an image and a frame of so many pixels."""
    x, y = corner
    return x - frame, y - frame, x + width + frame - 1, y + 2 * width + frame - 1


def _caption(captions: Caption | None, index: int) -> str:
    return "" if captions is None else captions(index)


def _write(
    draw: ImageDraw.ImageDraw, layout: Layout, corner: tuple[int, int], lines: list[str]
) -> None:
    """Write lines centred below an image: the first in ink, the second in grey."""
    middle = corner[0] + layout.width / 2
    top = corner[1] + 2 * layout.width + layout.frame + 4
    for number, line in enumerate(lines):
        text = fitted(draw, line, 13 - number, layout.cell)
        position = (middle, top + number * layout.text)
        draw.text(position, text, fill=GREY if number else INK, font=font(13 - number), anchor="ma")


def _draw_head(sheet: Image.Image, layout: Layout, title: str, tagged: bool) -> None:
    draw = ImageDraw.Draw(sheet)
    room = layout.size[0] - 2 * layout.margin
    draw.text((layout.margin, 16), fitted(draw, title, 20, room), fill=INK, font=font(20))
    x, y = layout.margin, 45
    for right, text in ((True, "same person"), (False, "another person")):
        draw_mark(sheet, (x + 17, y), 18, right)
        draw.text((x + 25, y + 9), text, fill=INK, font=font(13), anchor="lm")
        x += 25 + round(draw.textlength(text, font(13))) + 20
    if tagged:
        tag = tag_strip(TAG_SIZE[0])
        sheet.paste(tag, (x, y + 2), tag)
        explained = (x + TAG_SIZE[0] + 8, y + 9)
        draw.text(explained, "as in the query", fill=INK, font=font(13), anchor="lm")
