import numpy as np
import pytest

from ccreid.errors import DataError
from ccreid.retrieval.factors import factor_similarities
from ccreid.viz.factors import draw_factors

LEVELS = {
    "clothes": np.array([[0, 1], [3, 4], [6, 7]]),
    "camera": np.array([[0, 2], [3, 5], [6, 8]]),
}
OTHERS = np.array([[3, 6], [0, 6], [0, 3]])
CHANGES = ("clothes", "clothes+camera", "camera")


def similarities(seed, person=2.0):
    rng = np.random.default_rng(seed)
    own = person * np.repeat(np.eye(3), 3, axis=0)
    return factor_similarities(np.hstack([own, rng.standard_normal((9, 6))]), LEVELS, OTHERS)


def drawn(axes):
    """Checkpoint → (x, y, ends of the bars [rows, 2])."""
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container
        ends = [bar[:, 0] if len(bar) else (np.nan, np.nan) for bar in bars.get_segments()]
        found[container.get_label()] = (*line.get_data(orig=False), np.array(ends))
    return found


def test_means_and_intervals_stand_at_their_change():
    results = {"a": similarities(0), "b": similarities(1)}
    left, right = draw_factors(results).axes
    rows = [tick.get_text() for tick in left.get_yticklabels()]
    assert tuple(rows) == CHANGES
    for axes, measure in ((left, "kept"), (right, "ranked_right")):
        for name, (x, y, ends) in drawn(axes).items():
            expected = 100 * np.array([getattr(results[name], measure)(c) for c in CHANGES])
            assert np.isfinite(expected).all()
            np.testing.assert_allclose(x, expected[:, 0], atol=1e-9)
            np.testing.assert_allclose(ends, expected[:, 1:], atol=1e-9)
            assert np.rint(y).tolist() == [0, 1, 2]
    assert left.yaxis_inverted()


def test_words_say_what_is_shown():
    figure = draw_factors({"a": similarities(0), "b": similarities(1)}, "A title")
    left, right = figure.axes
    assert left.get_xlabel() == "similarity kept (%)"
    assert right.get_xlabel() == "ranked before other people (%)"
    assert {text.get_text() for text in left.texts} == {"as another person", "change not seen"}
    assert {text.get_text() for text in right.texts} == {"chance", "always"}
    assert figure.get_suptitle() == "A title"
    assert "3 rendered people" in figure.get_supxlabel()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_ends_of_the_scale_and_every_interval_are_in_view():
    for axes in draw_factors({"a": similarities(0, person=0.5)}).axes:
        low, high = axes.get_xlim()
        (_, _, ends) = drawn(axes)["a"]
        assert low < min(50, np.nanmin(ends))
        assert max(100, np.nanmax(ends)) < high


def test_what_is_undefined_is_left_out():
    alike = factor_similarities(np.ones((9, 2)), LEVELS, OTHERS)
    figure = draw_factors({"alike": alike, "b": similarities(1)})
    left, right = (drawn(axes)["alike"][0] for axes in figure.axes)
    assert np.isnan(left).all()
    np.testing.assert_allclose(right, 50)


def test_many_checkpoints_differ_in_colour_or_marker():
    left, _ = draw_factors({str(n): similarities(n) for n in range(9)}).axes
    looks = {(c[0].get_color(), c[0].get_marker()) for c in left.containers}
    assert len(looks) == 9
    places = np.concatenate([c[0].get_ydata(orig=False) for c in left.containers])
    assert len(set(places.round(6).tolist())) == 27
    assert np.diff(np.sort(places)).min() > 0.05


def test_nothing_to_draw_is_said():
    with pytest.raises(DataError, match="nothing to draw"):
        draw_factors({})
