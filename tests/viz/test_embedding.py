"""The embedding map: projections with known answers, and every point in its colour."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb

from ccreid.errors import ConfigError, DataError
from ccreid.viz.embedding import draw_embedding, project
from ccreid.viz.marks import GREY, PALETTE


def islands(count=12, dimension=16):
    """Features of three people, each near a direction of its own."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.eye(dimension)[:3].repeat_interleave(count, 0)
    return centres + 0.05 * torch.randn(3 * count, dimension, generator=generator)


def test_pca_of_features_in_a_plane_keeps_their_distances():
    angles = torch.linspace(0, 1.5, 9)
    features = torch.zeros(9, 6)
    features[:, 1], features[:, 4] = angles.cos(), angles.sin()
    lengths = torch.linspace(0.2, 30, 9)[:, None]  # of no effect: features are normalised
    points, how = project(lengths * features, "pca")
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    torch.testing.assert_close(torch.from_numpy(gaps), torch.cdist(*(features.double(),) * 2))
    first, second = (int(part) for part in how.replace("%", "").split() if part.isdigit())
    assert first + second == 100


def test_tsne_keeps_people_together_and_is_the_same_again():
    points, how = project(islands(), "tsne", seed=3)
    assert points.shape == (36, 2)
    assert "perplexity 11.7, seed 3" in how  # (36 - 1) / 3
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    np.testing.assert_array_equal(gaps.argmin(1) // 12, np.arange(36) // 12)
    np.testing.assert_array_equal(project(islands(), "tsne", seed=3)[0], points)


def test_what_makes_no_map_is_said():
    for features in (torch.randn(2, 4), torch.ones(5, 4) * torch.arange(1, 6)[:, None]):
        with pytest.raises(DataError, match="make no map"):
            project(features)
    with pytest.raises(ConfigError, match=r"embedding\.projection=umap"):
        project(islands(), "umap")


def scatters(axes):
    """(points, colour, marker's shape) of every scatter."""
    found = []
    for collection in axes.collections:
        (colour,) = collection.get_facecolors()
        (path,) = collection.get_paths()
        found.append((collection.get_offsets().data, to_hex(colour), path.vertices.tobytes()))
    return found


POINTS = np.arange(16, dtype=float).reshape(8, 2)
PIDS = np.array([7, 3, 7, 3, 9, 9, 7, 3])
OUTFITS = [0, 0, 1, 1, 0, 1, 0, 2]


def test_points_have_the_colour_of_their_person_and_beside_it_of_their_outfit():
    left, right = draw_embedding(POINTS, PIDS, OUTFITS, "features", "t-SNE").axes
    people = scatters(left)
    assert [colour for _, colour, _ in people] == [
        to_hex(np.array(rgb) / 255) for rgb in PALETTE[:3]
    ]
    for pid, (points, _, _) in zip((3, 7, 9), people, strict=True):
        np.testing.assert_array_equal(points, POINTS[pid == PIDS])
    shape = {pid: marker for pid, (_, _, marker) in zip((3, 7, 9), people, strict=True)}
    assert len(set(shape.values())) == 3
    colours, seen = {}, 0
    for points, colour, marker in scatters(right):
        for point in points:
            (index,) = np.flatnonzero((point == POINTS).all(1))
            assert colours.setdefault(OUTFITS[index], colour) == colour
            assert marker == shape[PIDS[index]]
            seen += 1
    assert seen == 8
    assert len(set(colours.values())) == 3
    legends = [[text.get_text() for text in axes.get_legend().texts] for axes in (left, right)]
    assert legends == [["person 3", "person 7", "person 9"], ["outfit 1", "outfit 2", "outfit 3"]]


def test_the_legend_shows_the_colours_of_the_points():
    left, right = draw_embedding(POINTS, PIDS, OUTFITS).axes
    shades = [to_hex(handle.get_color()) for handle in right.get_legend().legend_handles]
    assert set(shades) == {colour for _, colour, _ in scatters(right)}
    faces = [to_hex(h.get_facecolor()[0]) for h in left.get_legend().legend_handles]
    assert faces == [colour for _, colour, _ in scatters(left)]


def test_title_and_note_are_written_and_nothing_leaves_the_picture():
    pids = np.repeat(np.arange(30), 2)
    points = np.random.default_rng(0).normal(size=(60, 2))
    figure = draw_embedding(points, pids, [0, 1] * 30, "features of x", "PCA")
    assert [text.get_text() for text in figure.texts] == ["features of x", "PCA"]
    figure.canvas.draw()
    width, height = figure.bbox.width, figure.bbox.height
    for part in (*figure.texts, *(axes.get_legend() for axes in figure.axes)):
        box = part.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height
    left, right = (axes.get_legend().get_window_extent() for axes in figure.axes)
    assert left.x1 < right.x0


def test_64_people_look_different():
    figure = draw_embedding(np.random.default_rng(0).normal(size=(64, 2)), np.arange(64))
    (axes,) = figure.axes
    assert len({(colour, marker) for _, colour, marker in scatters(axes)}) == 64


def test_many_outfits_share_a_grey():
    points = np.arange(18, dtype=float).reshape(9, 2)
    _, right = draw_embedding(points, np.zeros(9, dtype=int), list(range(9))).axes
    colours = {colour: len(shown) for shown, colour, _ in scatters(right)}
    grey = to_hex(np.array(GREY) / 255)
    assert colours.pop(grey) == 3
    assert list(colours.values()) == [1] * 6
    assert all(to_rgb(colour) != to_rgb(grey) for colour in colours)
    assert right.get_legend().texts[-1].get_text() == "further outfits"


def test_unequal_numbers_are_refused():
    for wrong in ((POINTS, PIDS[1:]), (POINTS, PIDS, OUTFITS[1:]), (POINTS[:0], PIDS[:0])):
        with pytest.raises(DataError, match="cannot be drawn"):
            draw_embedding(*wrong)
