"""Images of one person by cluster, as Figure 1c of FIRe² (arXiv 2308.10692) shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ccreid.clustering import cluster_statistics
from ccreid.errors import require
from ccreid.viz.marks import GREY, INK, LINE, PAPER, colour_bar, fitted, font, letter

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Layout:
    """Where things stand on the sheet, in pixels; every image is `width` wide and twice as high.

    `rows` and `places` count the clusters and the images of each; with `bars` every image has the
    bar of its outfit below it.
    """

    rows: int
    places: int
    width: int
    bars: bool

    margin = 20
    head = 96
    label = 132
    bar = 14
    gap = 6
    rest = 40
    foot = 28

    @property
    def row_height(self) -> int:
        """Height of a row: image, bar, and the space below."""
        return 2 * self.width + (self.bar + 2) * self.bars + 18

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the sheet."""
        images = self.places * (self.width + self.gap)
        width = 2 * self.margin + self.label + images + self.rest
        # The legend needs this much, however few images a row has.
        return max(width, 560), self.head + self.rows * self.row_height + self.foot

    def image(self, row: int, place: int) -> tuple[int, int]:
        """Return the top left corner of an image."""
        left = self.margin + self.label + place * (self.width + self.gap)
        return left, self.head + row * self.row_height


def most_clusters(labels: Labels, pids: Labels, number: int) -> list[int]:
    """Return the pids with the most clusters, the lowest first of equal ones.

    Args:
        labels: cluster of every image, [N], unique over people.
        pids: person of every image, [N].
        number: how many people, or as many as there are.
    """
    found = np.unique(np.stack([pids, labels]), axis=1)[0]
    people, counts = np.unique(found, return_counts=True)
    return [int(pid) for pid in people[np.argsort(-counts, kind="stable")][:number]]


def draw_clusters(
    labels: Labels,
    load: Callable[[int], Image.Image],
    outfits: Sequence[int] | None = None,
    title: str = "",
    rows: int = 8,
    places: int = 10,
    width: int = 72,
) -> Image.Image:
    """Draw the images of one person, a cluster a row, the largest cluster first.

    Images of a row stand in the order of their outfits. Of a cluster with more than fits, images
    spread evenly over that order are shown, so that the share of every outfit is about kept; how
    many are left out is written at the end of the row, and below the last row how many clusters.

    Args:
        labels: cluster of every image, [N], N >= 1; any numbers.
        load: gives an image; any size, shown at one size of 1:2.
        outfits: outfit of every image, [N], from 0; None where the benchmark has no labels. They
            are marked below the images, and the purity of the clusters is written.
        title: the first line of the sheet.
        rows: clusters at most.
        places: images of a cluster at most.
        width: of every image in pixels.

    Returns:
        An RGB image.

    Raises:
        ConfigError: a number of rows, images or pixels below 1.
        DataError: as many labels as images were not given, or none.
    """
    for name, value in (("rows", rows), ("places", places), ("width", width)):
        require(value >= 1, name, value, "at least 1")
    statistics = cluster_statistics(labels, np.zeros(len(labels), dtype=np.int64), _array(outfits))
    clusters = _by_size(labels, outfits)
    layout = Layout(
        min(rows, len(clusters)),
        min(places, max(map(len, clusters))),
        width,
        bars=outfits is not None,
    )
    sheet = Image.new("RGB", layout.size, PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(sheet, layout, title, _summary(len(labels), outfits, statistics), outfits)
    for row, members in enumerate(clusters[:rows]):
        if row:
            y = layout.image(row, 0)[1] - 9
            draw.line((layout.margin, y, layout.size[0] - layout.margin, y), fill=LINE)
        shown = _spread(members, layout.places)
        for place, index in enumerate(shown):
            x, y = layout.image(row, place)
            picture = load(index).convert("RGB")
            picture = picture.resize((width, 2 * width), Image.Resampling.LANCZOS)
            sheet.paste(picture, (x, y))
            if outfits is not None:
                sheet.paste(colour_bar(width, outfits[index], layout.bar), (x, y + 2 * width + 2))
        _write_row(draw, layout, row, members, len(shown), outfits)
    if rest := clusters[rows:]:
        images = _count(sum(map(len, rest)), "image")
        text = f"and {_count(len(rest), 'further cluster')} with {images}"
        y = layout.size[1] - layout.foot + 8
        draw.text((layout.margin, y), text, fill=GREY, font=font(13))
    return sheet


def _array(outfits: Sequence[int] | None) -> Labels | None:
    return None if outfits is None else np.asarray(outfits, dtype=np.int64)


def _by_size(labels: Labels, outfits: Sequence[int] | None) -> list[list[int]]:
    """Return the images of every cluster by outfit; the largest first, then the one met first."""
    clusters: dict[int, list[int]] = {}
    for index, label in enumerate(labels.tolist()):
        clusters.setdefault(label, []).append(index)
    ordered = sorted(clusters.values(), key=len, reverse=True)
    if outfits is None:
        return ordered
    return [sorted(members, key=lambda index: outfits[index]) for members in ordered]


def _spread(members: Sequence[int], number: int) -> list[int]:
    places = np.linspace(0, len(members) - 1, min(number, len(members)))
    return [members[place] for place in places.round().astype(int)]


def _summary(images: int, outfits: Sequence[int] | None, statistics: dict[str, float]) -> str:
    parts = [f"{images} images"]
    if outfits is not None:
        parts.append(_count(len(set(outfits)), "outfit"))
    parts.append(_count(int(statistics["num_clusters"]), "cluster"))
    if "purity" in statistics:
        purity = f"purity {statistics['purity']:.0%}"
        parts.append(f"{purity} (images in the commonest outfit of their cluster)")
    return "  ·  ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _draw_head(
    sheet: Image.Image, layout: Layout, title: str, summary: str, outfits: Sequence[int] | None
) -> None:
    draw = ImageDraw.Draw(sheet)
    room = layout.size[0] - 2 * layout.margin
    draw.text((layout.margin, 14), fitted(draw, title, 20, room), fill=INK, font=font(20))
    draw.text((layout.margin, 44), fitted(draw, summary, 13, room), fill=INK, font=font(13))
    if outfits is None:
        text = "outfits are not labelled in this benchmark"
        draw.text((layout.margin, 68), text, fill=GREY, font=font(13))
        return
    x = layout.margin
    for outfit in sorted(set(outfits))[:8]:
        sheet.paste(colour_bar(28, outfit), (x, 68))
        x += 32
    draw.text((x + 4, 67), "outfit (not used to cluster)", fill=GREY, font=font(13))


def _write_row(
    draw: ImageDraw.ImageDraw,
    layout: Layout,
    row: int,
    members: Sequence[int],
    shown: int,
    outfits: Sequence[int] | None,
) -> None:
    """Write size and outfits before the images, and after them how many are not shown."""
    x, y = layout.margin, layout.image(row, 0)[1]
    lines = [f"cluster {row + 1}", _count(len(members), "image")]
    if outfits is not None:
        counts = sorted(Counter(outfits[index] for index in members).items())
        lines.append("  ".join(f"{letter(outfit)} {count}" for outfit, count in counts))
    for number, line in enumerate(lines):
        text = fitted(draw, line, 15 if number == 0 else 13, layout.label - 8)
        position = (x, y + 2 + 22 * number)
        fill, size = (INK, 15) if number == 0 else (GREY, 13)
        draw.text(position, text, fill=fill, font=font(size))
    if left_out := len(members) - shown:
        x, y = layout.image(row, layout.places)
        draw.text((x + 2, y + layout.width), f"+{left_out}", fill=GREY, font=font(15), anchor="lm")
