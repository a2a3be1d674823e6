"""The ranked-list sheet, by the colours that stand at the places the ranking says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from ccreid.errors import ConfigError, DataError
from ccreid.retrieval import RetrievalResults, rank_distances
from ccreid.viz import draw_ranked_lists
from ccreid.viz.marks import RIGHT, WRONG
from ccreid.viz.ranked_lists import Layout

PAPER = (255, 255, 255)


def ranking(**changes: Any) -> RetrievalResults:
    """Query 0 finds its person last, 1 nobody, 2 first, 3 in between, with one image junk."""
    distances = np.array(
        [
            [0.9, 0.1, 0.2, 0.3, 0.4, 0.5],
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            [0.2, 0.1, 0.3, 0.4, 0.5, 0.6],
            [0.5, 0.4, 0.3, 0.2, 0.1, 0.0],
        ]
    )
    given: dict[str, Any] = {
        "query_pid": [0, 9, 1, 2],
        "gallery_pid": [0, 1, 2, 3, 3, 2],
        "query_camid": [0, 0, 0, 0],
        "gallery_camid": [1, 1, 1, 1, 1, 0],
        "depth": 6,
    }
    return rank_distances(distances, **(given | changes))


def query_image(index: int) -> Image.Image:
    return Image.new("RGB", (50, 70), (10 + index, 200, 100))


def gallery_image(index: int) -> Image.Image:
    return Image.new("RGB", (128, 256), (100, 10 + index, 200))


def draw(results: RetrievalResults, **options: Any) -> tuple[Image.Image, Any]:
    sheet = draw_ranked_lists(results, query_image, gallery_image, **options)
    return sheet, np.asarray(sheet)


def centre(pixels: Any, layout: Layout, row: int, place: int) -> tuple[int, ...]:
    x, y = layout.image(row, place)
    return tuple(int(v) for v in pixels[y + layout.width, x + layout.width // 2])


def frame(pixels: Any, layout: Layout, row: int, place: int) -> set[tuple[int, ...]]:
    """The colours of all four sides of a frame, one pixel inside its outer edge."""
    x, y = layout.image(row, place)
    left, right = x - layout.frame + 1, x + layout.width + layout.frame - 2
    top, bottom = y - layout.frame + 1, y + 2 * layout.width + layout.frame - 2
    sides = [pixels[top, left:right], pixels[bottom, left:right]]
    sides += [pixels[top:bottom, left], pixels[top:bottom, right]]
    return {tuple(int(v) for v in pixel) for side in sides for pixel in side}


@pytest.mark.parametrize(
    ("order", "expected"), [("worst", [0, 3, 2]), ("best", [2, 3, 0]), ("first", [0, 2, 3])]
)
def test_every_image_stands_in_its_place_and_frame(order: Any, expected: list[int]) -> None:
    results = ranking()
    sheet, pixels = draw(results, order=order, depth=9)
    layout = Layout(rows=3, places=6, width=96, captions=False)
    assert sheet.mode == "RGB"
    assert sheet.size == layout.size
    for row, query in enumerate(expected):
        assert centre(pixels, layout, row, -1) == (10 + query, 200, 100)
        for place, index in enumerate(results.indices[query]):
            if index < 0:
                assert centre(pixels, layout, row, place) == PAPER
                assert frame(pixels, layout, row, place) == {PAPER}
                continue
            right = results.matches[query, place]
            assert centre(pixels, layout, row, place) == (100, 10 + index, 200)
            assert frame(pixels, layout, row, place) == {RIGHT if right else WRONG}
    # Junk left query 3 with one place less.
    assert results.indices[3, 5] == -1


def test_right_and_wrong_differ_by_symbol_too() -> None:
    _, pixels = draw(ranking(), order="first")
    layout = Layout(rows=3, places=6, width=96, captions=False)
    marks = []
    for place, colour in ((0, WRONG), (5, RIGHT)):  # query 0 finds its person last
        x, y = layout.image(0, place)
        mark = pixels[y : y + 19, x + 96 - 19 : x + 96].astype(int)
        assert (mark[0, 0] == colour).all()
        marks.append(np.abs(mark - 255).sum(2) < 60)
    wrong, right = marks
    assert right.sum() > 15
    assert wrong.sum() > 15
    # A cross is its own mirror image, a check is not.
    assert (wrong != wrong[:, ::-1]).mean() < 0.05 < (right != right[:, ::-1]).mean()


def test_rows_and_places_are_cut_and_the_size_follows() -> None:
    sheet, pixels = draw(ranking(), num_queries=1, depth=2, width=200, order="worst")
    layout = Layout(rows=1, places=2, width=200, captions=False)
    assert sheet.size == layout.size
    assert centre(pixels, layout, 0, -1) == (10, 200, 100)
    assert centre(pixels, layout, 0, 1) == (100, 12, 200)
    with_text, _ = draw(ranking(), num_queries=1, depth=2, width=200, gallery_captions=str)
    assert with_text.size == (sheet.size[0], sheet.size[1] + layout.text)


def test_the_clothes_tag_stands_only_where_it_belongs() -> None:
    _, plain = draw(ranking(), order="first")
    _, tagged = draw(ranking(), order="first", same_clothes=lambda i, j: (i, j) == (2, 0))
    layout = Layout(rows=3, places=6, width=96, captions=False)
    changed = (plain != tagged).any(axis=2)
    changed[: layout.head - layout.frame] = False  # the legend
    rows, columns = changed.nonzero()
    x, y = layout.image(1, 1)  # query 2 is the second row, gallery image 0 its second place
    assert x <= columns.min() <= columns.max() < x + 96
    assert y + 150 < rows.min() <= rows.max() < y + 192


def test_title_figures_and_captions_are_written() -> None:
    def ink(box: tuple[int, int, int, int], **options: Any) -> int:
        sheet, _ = draw(ranking(), num_queries=1, **options)
        return int((np.asarray(sheet.crop(box).convert("L")) < 160).sum())

    layout = Layout(rows=3, places=6, width=96, captions=True)
    title = (0, 0, 500, 42)
    assert ink(title) == 0 < ink(title, title="Ranked lists")
    for place in (-1, 0):
        x, y = layout.image(0, place)
        first = (x, y + 192 + layout.frame, x + 96, y + 192 + layout.frame + layout.text)
        second = (x, first[3], x + 96, first[3] + layout.text)
        assert ink(first) > 20  # the average precision, or rank and distance
        captions = {
            "query_captions": lambda i: f"query {i}",
            "gallery_captions": lambda j: f"g {j}",
        }
        assert ink(second, gallery_captions=lambda j: "") == 0 < ink(second, **captions)


def test_long_captions_stay_below_their_image() -> None:
    sheet, _ = draw(ranking(), gallery_captions=lambda j: "a very long caption " * 5)
    layout = Layout(rows=3, places=6, width=96, captions=True)
    x, y = layout.image(0, 0)
    beside = (x - layout.frame - layout.gap, y + 220, x - layout.frame - 1, y + 230)
    assert np.asarray(sheet.crop(beside)).min() == 255


def test_without_a_valid_query_there_is_nothing_to_draw() -> None:
    with pytest.raises(DataError, match="No query has a match under the rule 'standard'"):
        draw(ranking(query_pid=[9, 9, 9, 9]))


@pytest.mark.parametrize("options", [{"order": "random"}, {"depth": 0}, {"num_queries": 0}])
def test_impossible_wishes_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        draw(ranking(), **options)
