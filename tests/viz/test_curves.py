import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from ccreid.errors import DataError
from ccreid.viz.curves import draw_curves, notation


def lines(axes):
    """Protocol → (x, y, half bars) of every curve."""
    found = {}
    for container in axes.containers:
        line, _, bars = container
        half = [(b[1, 1] - b[0, 1]) / 2 for b in bars[0].get_segments()] if bars else []
        found[container.get_label()] = (
            line.get_xdata(orig=False),
            line.get_ydata(orig=False),
            half,
        )
    return found


def test_means_spread_and_seeds_are_in_the_picture():
    points = {0.1: [0.2, 0.4], 0.2: [0.5, 0.5], 0.5: [0.6, 0.9]}
    (axes,) = draw_curves(
        {"cc": points, "sc": {0.1: [0.7], 0.5: [0.9, 0.9]}}, "method.epsilon"
    ).axes
    x, y, half = lines(axes)["cc"]
    assert list(x) == [0.1, 0.2, 0.5]
    np.testing.assert_allclose(y, [30, 50, 75])
    np.testing.assert_allclose(half, [np.std([20, 40], ddof=1), 0, np.std([60, 90], ddof=1)])
    np.testing.assert_allclose(lines(axes)["sc"][1], [70, 90])
    clouds = [c.get_offsets() for c in axes.collections if isinstance(c, PathCollection)]
    seeds = [[0.1, 20], [0.1, 40], [0.2, 50], [0.2, 50], [0.5, 60], [0.5, 90]]
    np.testing.assert_allclose(clouds[0], seeds)


def test_words_say_what_is_shown():
    (axes,) = draw_curves({"cc": {1.0: [0.1, 0.2], 2.0: [0.3]}}, "method.parts", "A on B").axes
    assert axes.get_ylabel() == "mAP (%)"
    assert axes.get_xlabel().startswith("P ")
    assert axes.get_title(loc="left").strip() == "A on B"
    assert "1 to 2 seeds" in axes.texts[0].get_text()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["cc"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2"]


@pytest.mark.parametrize(
    ("key", "letter"),
    [
        ("method.epsilon", "ε"),
        ("method.tau", "τ"),
        ("method.parts", "P"),
        ("method.recompositions", "K"),
        ("method.mining.eps", "eps"),
        ("method.margin", "margin"),
    ],
)
def test_the_notation_is_the_papers(key, letter):
    assert notation(key, short=True) == letter


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([0.125, 0.0625, 0.03125], "log"),
        ([0.0, 0.05, 0.1, 0.2], "symlog"),
        ([1.0, 2.0, 3.0, 6.0], "linear"),
        ([0.3, 0.4, 0.5, 0.6], "linear"),
        ([1.0, 2.0], "linear"),
        ([-1.0, 1.0, 2.0, 4.0], "linear"),
    ],
)
def test_a_geometric_grid_is_drawn_evenly(values, scale):
    (axes,) = draw_curves({"cc": {value: [0.5] for value in values}}, "x").axes
    assert axes.get_xscale() == scale
    places = axes.transData.transform([(value, 50) for value in sorted(values)])[:, 0]
    if scale != "linear":
        np.testing.assert_allclose(np.diff(places), np.diff(places)[0], rtol=1e-6)
    assert len(axes.get_xticks()) == len(values)


def test_temperatures_are_fractions():
    (axes,) = draw_curves({"cc": {0.125: [0.1], 0.0625: [0.2], 0.3: [0.1]}}, "method.tau").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1/16", "1/8", "0.3"]


def test_words_on_the_axis_are_not_joined():
    (axes,) = draw_curves({"cc": {"fire2": [0.2], "baseline": [0.1]}}, "method").axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["baseline", "fire2"]
    assert axes.containers[0][0].get_linestyle() == "None"
    np.testing.assert_allclose(axes.containers[0][0].get_ydata(orig=False), [10, 20])


def test_curves_differ_in_colour_and_marker():
    (axes,) = draw_curves({name: {1.0: [0.1], 2.0: [0.2]} for name in "abc"}, "x").axes
    looks = {(c[0].get_color(), c[0].get_marker()) for c in axes.containers}
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 3


def test_nothing_to_draw_is_said():
    with pytest.raises(DataError, match="no curve"):
        draw_curves({}, "x")


def test_no_window_library_is_touched():
    code = (
        "import sys; from ccreid.viz.curves import draw_curves as d; "
        "d({'cc': {1.0: [0.1], 2.0: [0.2]}}, 'x').savefig('/dev/null', format='png'); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
