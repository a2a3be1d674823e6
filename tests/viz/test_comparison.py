"""The comparison figure, by the points, bars and words that are in it."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from ccreid.errors import DataError
from ccreid.viz.comparison import Gap, draw_comparison
from ccreid.viz.plots import COLOURS

SEEDS = {
    "baseline": {"cc": {"rank1": [0.1, 0.2, 0.3], "mAP": [0.05, 0.15]}, "general": {"mAP": [0.5]}},
    "fire2": {"cc": {"rank1": [0.4, 0.2], "mAP": [0.3, 0.1]}, "general": {"mAP": [0.7]}},
}
GAPS = {"fire2": {"cc": {"rank1": Gap(10.0, -4.0, 21.0, 2), "mAP": Gap(8.0, 1.0, 9.0, 2)}}}


def names(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def by_colour(axes, kind):
    """The points of each metric: rank-1 in the first colour, mAP in the second."""
    found = {colour: [] for colour in COLOURS[:2]}
    if kind == "rings":
        from matplotlib.colors import to_hex

        for cloud in (c for c in axes.collections if isinstance(c, PathCollection)):
            found[to_hex(cloud.get_edgecolor()[0]).upper()] += cloud.get_offsets().tolist()
    else:
        for line in axes.lines:
            if line.get_color() in found and len(line.get_xdata()) == 1:
                found[line.get_color()].append([line.get_xdata()[0], line.get_ydata()[0]])
    return [np.array(points) for points in found.values()]


def test_every_seed_and_every_mean_is_there():
    general, cc, *_ = draw_comparison(SEEDS, GAPS).axes
    assert [a.get_title(loc="left") for a in (general, cc)] == ["general", "other clothes (cc)"]
    assert names(general) == ["baseline", "fire2"]
    rank1, mean_ap = by_colour(cc, "rings")
    np.testing.assert_allclose(rank1[:, 0], [10, 20, 30, 40, 20])
    np.testing.assert_allclose(mean_ap[:, 0], [5, 15, 30, 10])
    assert rank1[:, 1].round().tolist() == [0, 0, 0, 1, 1]
    rank1, mean_ap = by_colour(cc, "means")
    np.testing.assert_allclose(rank1[:, 0], [20, 30])
    np.testing.assert_allclose(mean_ap[:, 0], [10, 20])
    assert (rank1[:, 1] < mean_ap[:, 1]).all()  # one above the other, so that both are seen
    assert len(by_colour(general, "rings")[0]) == 0


def test_differences_have_their_intervals_and_a_line_at_none():
    figure = draw_comparison(SEEDS, GAPS)
    beside, below = figure.axes[2:]
    assert names(beside) == ["fire2"]
    assert below.get_xlabel() == "points more than baseline"
    for container, gap in zip(below.containers, GAPS["fire2"]["cc"].values(), strict=True):
        assert container[0].get_xdata()[0] == gap.mean
        ((start, end),) = container[2][0].get_segments()
        assert (start[0], end[0]) == (gap.low, gap.high)
    (zero,) = [line for line in below.lines if list(line.get_xdata()) == [0, 0]]
    assert zero.get_linestyle() != "-"


def test_words_say_what_is_shown():
    figure = draw_comparison(SEEDS, GAPS, "A, seeds 0, 1", "caution!")
    title, marks, caution = figure.get_suptitle().split("\n")
    assert (title, caution) == ("A, seeds 0, 1", "caution!")
    assert "bootstrap interval over test people" in marks
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["rank-1", "mAP"]
    assert str(Gap(1.25, -0.5, 3.0)) == "+1.2 [-0.5, +3.0]"


def test_without_differences_there_is_no_second_row():
    figure = draw_comparison({"alone": SEEDS["baseline"]}, {})
    assert len(figure.axes) == 2
    assert "bootstrap" not in figure.get_suptitle()


def test_nothing_to_compare_is_said():
    with pytest.raises(DataError, match="No setting"):
        draw_comparison({}, {})
