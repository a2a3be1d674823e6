"""The cluster sheet, by the colours that stand where the clusters say."""

import numpy as np
import pytest
from PIL import Image

from ccreid.errors import ConfigError, DataError
from ccreid.viz.clusters import Layout, draw_clusters, most_clusters
from ccreid.viz.marks import PALETTE, colour_bar, letter

PAPER = (255, 255, 255)
#        image  0  1  2  3  4  5  6  7  8
LABELS = np.array([8, 5, 5, 8, 5, 7, 5, 5, 3])
OUTFITS = [0, 1, 0, 0, 1, 2, 1, 0, 2]
IN_ORDER = [[2, 7, 1, 4, 6], [0, 3], [5], [8]]  # clusters by size, images by outfit


def image(index):
    return Image.new("RGB", (60, 90), (20 * index, 50, 250 - 20 * index))


def draw(labels=LABELS, outfits=OUTFITS, **options):
    return np.asarray(draw_clusters(labels, image, outfits, **options))


def centre(pixels, layout, row, place):
    x, y = layout.image(row, place)
    return tuple(pixels[y + layout.width, x + layout.width // 2].tolist())


def bar(pixels, layout, row, place):
    x, y = layout.image(row, place)
    return tuple(pixels[y + 2 * layout.width + 4, x + 3].tolist())


def shown(pixels, layout, row):
    """The indices of the images of a row, read back from their colours."""
    found = []
    for place in range(layout.places):
        colour = centre(pixels, layout, row, place)
        if colour == PAPER:
            break
        assert colour[1:] == (50, 250 - colour[0])
        found.append(colour[0] // 20)
    return found


def test_every_image_stands_in_its_cluster_by_outfit():
    layout = Layout(rows=4, places=5, width=72, bars=True)
    pixels = draw()
    assert pixels.shape == (layout.size[1], layout.size[0], 3)
    assert [shown(pixels, layout, row) for row in range(4)] == IN_ORDER
    for row, members in enumerate(IN_ORDER):
        for place, index in enumerate(members):
            assert bar(pixels, layout, row, place) == PALETTE[OUTFITS[index]]


def test_a_large_cluster_keeps_the_shares_of_its_outfits():
    labels, outfits = np.zeros(40, dtype=int), [0] * 10 + [1] * 30
    pixels = np.asarray(draw_clusters(labels, lambda i: image(0), outfits, places=8))
    layout = Layout(rows=1, places=8, width=72, bars=True)
    bars = [bar(pixels, layout, 0, place) for place in range(8)]
    assert bars == [PALETTE[0]] * 2 + [PALETTE[1]] * 6
    x, y = layout.image(0, 8)
    rest = pixels[y : y + 144, x : x + layout.rest]
    assert (rest.min(axis=2) < 160).sum() > 20  # +32
    enough = np.asarray(draw_clusters(labels[:8], lambda i: image(0), outfits[:8], places=8))
    assert (enough[y : y + 144, x : x + layout.rest] == 255).all()


def test_the_largest_clusters_are_shown_and_the_others_counted():
    layout = Layout(rows=2, places=5, width=72, bars=True)
    pixels = draw(rows=2)
    assert pixels.shape[:2] == (layout.size[1], layout.size[0])
    assert [shown(pixels, layout, row) for row in range(2)] == IN_ORDER[:2]
    foot = slice(layout.size[1] - layout.foot + 4, None)
    assert (pixels[foot].min(axis=2) < 160).sum() > 100
    whole = draw(rows=4)
    assert (whole[-layout.foot + 4 :] == 255).all()


def test_without_labels_of_outfits_there_are_no_bars():
    layout = Layout(rows=4, places=5, width=72, bars=False)
    pixels = draw(outfits=None)
    assert pixels.shape[:2] == (layout.size[1], layout.size[0])
    assert [shown(pixels, layout, row) for row in range(4)] == [[1, 2, 4, 6, 7], *IN_ORDER[1:]]
    with_bars = draw()
    for colour in PALETTE[:3]:
        assert not (pixels == colour).all(axis=2).any()
        assert (with_bars == colour).all(axis=2).any()


def test_what_is_written_follows_the_clustering(monkeypatch):
    written = []
    monkeypatch.setattr(
        "ccreid.viz.clusters.fitted", lambda draw, text, *room: written.append(text) or text
    )
    draw(title="person 3")
    assert written[0] == "person 3"
    # The commonest outfits make 3 of 5, 2 of 2, 1 and 1: 7 of 9 images.
    assert written[1].startswith("9 images  ·  3 outfits  ·  4 clusters  ·  purity 78%")
    assert written[2:5] == ["cluster 1", "5 images", "A 2  B 3"]
    assert written[5:8] == ["cluster 2", "2 images", "A 2"]
    assert written[8:11] == ["cluster 3", "1 image", "C 1"]


def test_people_with_the_most_clusters_come_first():
    pids = np.array([4, 4, 4, 2, 2, 9, 9, 9, 1])
    labels = np.array([0, 0, 1, 2, 3, 4, 5, 6, 7])
    assert most_clusters(labels, pids, 3) == [9, 2, 4]
    assert most_clusters(labels, pids, 10) == [9, 2, 4, 1]


def test_colours_come_again_and_letters_do_not():
    bars = [np.asarray(colour_bar(40, number)) for number in range(16)]
    for number in range(8):
        assert (bars[number][0, 0] == bars[number + 8][0, 0]).all()
        assert (bars[number] != bars[number + 8]).any()
    assert [letter(n) for n in (0, 25, 26)] == ["A", "Z", "27"]


def test_impossible_wishes_are_named():
    for options in ({"rows": 0}, {"places": 0}, {"width": 0}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            draw(**options)
    with pytest.raises(DataError, match="lengths"):
        draw(outfits=OUTFITS[:-1])
    with pytest.raises(DataError, match="lengths"):
        draw(labels=LABELS[:0], outfits=[])
