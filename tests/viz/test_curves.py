"""Sweep plots, by the lines, points and words that are in them."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from omegaconf import OmegaConf

from ccreid.config import compose
from ccreid.errors import DataError
from ccreid.viz.curves import draw_curves
from ccreid.viz.plots import caution
from ccreid.viz.swept import _NOTATION, Notation, Scale, notation

POINTS = {0.1: [0.2, 0.4], 0.2: [0.5, 0.5], 0.5: [0.6, 0.9]}
X = Notation("x")


def one(points, swept=X, **options):
    """The only panel of a sweep with one protocol and one metric."""
    (axes,) = draw_curves({"cc": {"mAP": points}}, swept, **options).axes
    return axes


def line(axes):
    return axes.containers[0][0]


def ticks(axes):
    return [tick.get_text() for tick in axes.get_xticklabels()]


def test_means_band_and_seeds_are_in_the_picture():
    axes = one(POINTS)
    mean, spread = np.array([30, 50, 75]), [np.std([20, 40], ddof=1), 0, np.std([60, 90], ddof=1)]
    np.testing.assert_allclose(line(axes).get_ydata(orig=False), mean)
    (band,) = [c for c in axes.collections if isinstance(c, PolyCollection)]
    corners = band.get_paths()[0].vertices
    for place, middle, half in zip((0, 1, 2), mean, spread, strict=True):
        heights = corners[np.isclose(corners[:, 0], place), 1]
        assert (heights.min(), heights.max()) == pytest.approx((middle - half, middle + half))
    (seeds,) = [c for c in axes.collections if isinstance(c, PathCollection)]
    where = [[0, 20], [0, 40], [1, 50], [1, 50], [2, 60], [2, 90]]
    np.testing.assert_allclose(seeds.get_offsets(), where)


def test_a_panel_for_every_protocol_and_metric_with_words_that_say_which():
    curves = {
        protocol: {
            metric: {1.0: [0.1 * k + 0.01 * m], 2.0: [0.3]}
            for m, metric in enumerate(("mAP", "rank1"))
        }
        for k, protocol in enumerate(("cc", "sc", "general"))
    }
    figure = draw_curves(curves, notation("method.parts", "FIRe2"), "A on B", "caution!")
    assert len(figure.axes) == 6
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["general", "same clothes (sc)", "other clothes (cc)", "", "", ""]
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ["rank-1 (%)", "mAP (%)"]
    first = [line(axes).get_ydata(orig=False)[0] for axes in figure.axes]
    np.testing.assert_allclose(first, [21, 11, 1, 20, 10, 0])
    assert figure.get_supxlabel() == "P  (stripes of the feature map)"
    assert figure.get_suptitle() == "A on B\none seed\ncaution!"
    looks = {(line(axes).get_color(), line(axes).get_marker()) for axes in figure.axes}
    assert len({colour for colour, _ in looks}) == len({marker for _, marker in looks}) == 2


def test_the_number_of_seeds_is_said():
    figure = draw_curves({"cc": {"mAP": {1.0: [0.1, 0.2], 2.0: [0.3]}}}, X)
    assert "1 to 2 seeds" in figure.get_suptitle()


def test_the_released_value_is_marked_where_it_was_swept():
    tau = notation("method.tau", "FIRe2")
    axes = one({0.125: [0.1], 0.0625: [0.2], 0.3: [0.1]}, tau)
    assert [text.get_text() for text in axes.texts] == ["released"]
    assert axes.texts[0].xy[0] == axes.get_xticks()[ticks(axes).index("16")]
    assert not one({0.125: [0.1], 0.3: [0.1]}, tau).texts
    assert not one(POINTS).texts


def test_released_values_are_those_of_the_config():
    for key, known in _NOTATION["FIRe2"].items():
        config = compose("train", ["method=fire2", "data=ltcc"])
        assert OmegaConf.select(config, key) == known.released


@pytest.mark.parametrize(
    ("key", "letter"),
    [
        ("method.epsilon", "ε"),
        ("method.tau", "τ"),
        ("method.recomposition_weight", "λ₄"),
        ("method.parts", "P"),
        ("method.recompositions", "K"),
        ("method.mining.eps", "eps"),
        ("method.margin", "margin"),
    ],
)
def test_the_notation_is_the_papers(key, letter):
    assert notation(key, "FIRe2").name == letter
    assert notation(key, "CAL").name == key.removeprefix("method.")  # its epsilon is another


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([0.125, 0.0625, 0.03125], "log"),
        ([0.0, 0.05, 0.1, 0.2], "symlog"),
        ([0.3, 0.4, 0.5, 0.6], "linear"),
        ([1.0, 2.0], "linear"),
        ([1.0, 2.0, 3.0, 6.0], "side by side"),
        ([0.0, 0.1, 0.3, 0.5, 1.0], "side by side"),
        ([-1.0, 1.0, 2.0, 4.0], "side by side"),
        (["max", "mean", 1.0], "words"),
    ],
)
def test_every_grid_is_drawn_in_even_steps(values, kind):
    assert Scale(values).kind == kind
    axes = one({value: [0.5] for value in values})
    places = axes.transData.transform([(place, 50) for place in axes.get_xticks()])[:, 0]
    np.testing.assert_allclose(np.diff(places), np.diff(places)[0], rtol=1e-6)
    assert len(places) == len(values)
    left, right = axes.transAxes.transform([(0, 0), (1, 0)])[:, 0]
    assert left < places.min() < places.max() < right


def test_one_over_the_temperature_rises_from_the_left():
    axes = one({0.125: [0.1], 0.0625: [0.2], 0.03125: [0.3]}, notation("method.tau", "FIRe2"))
    assert ticks(axes) == ["8", "16", "32"]
    np.testing.assert_allclose(line(axes).get_ydata(orig=False), [10, 20, 30])
    assert axes.get_xscale() == "log"


def test_words_on_the_axis_are_not_joined():
    axes = one({"fire2": [0.2, 0.4], "baseline": [0.1, 0.1]})
    assert ticks(axes) == ["baseline", "fire2"]
    assert line(axes).get_linestyle() == "None"
    np.testing.assert_allclose(line(axes).get_ydata(orig=False), [10, 30])
    bars = axes.containers[0][2][0].get_segments()
    assert bars[1][1, 1] - bars[1][0, 1] == pytest.approx(2 * np.std([20, 40], ddof=1))


def test_rendered_people_come_with_a_caution_and_others_without():
    assert "LTCC" in caution("virtual")
    assert caution("ltcc") == ""


def test_nothing_to_draw_is_said():
    with pytest.raises(DataError, match="no curve"):
        draw_curves({}, X)


def test_no_window_library_is_touched():
    code = (
        "import sys; from ccreid.viz.curves import draw_curves as d; "
        "from ccreid.viz.swept import notation as n; "
        "d({'cc': {'mAP': {1.0: [0.1], 2.0: [0.2]}}}, n('x')).savefig('/dev/null', format='png'); "
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
