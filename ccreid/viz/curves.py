"""mAP against a swept value: a curve per protocol, its spread over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ccreid.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Mapping[float | str, Sequence[float]]

# The paper's letters; `eps` and `epsilon` are two things (arXiv 2308.10692, sections 3 and 4).
_NOTATION = {
    "method.epsilon": ("ε", "smoothing of the attribute target"),
    "method.tau": ("τ", "temperature of the attribute classifier"),
    "method.recomposition_weight": ("λ₄", "weight of the recomposition loss"),
    "method.parts": ("P", "stripes of the feature map"),
    "method.recompositions": ("K", "recompositions of each feature map"),
    "method.mining.eps": ("eps", "DBSCAN radius in Jaccard distance"),
}
# Okabe and Ito's palette, which colour-blind readers can tell apart (https://jfly.uni-koeln.de/color/)
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_INK, _GREY, _LINE = "#202124", "#6e7278", "#dee0e4"


def notation(key: str, short: bool = False) -> str:
    """Return a key in the paper's notation with what it is; a key without one stays as typed."""
    if key not in _NOTATION:
        return key.rsplit(".", 1)[-1] if short else key
    letter, meaning = _NOTATION[key]
    return letter if short else f"{letter}  ({meaning})"


def draw_curves(curves: Mapping[str, Points], key: str, title: str = "") -> Figure:
    """Draw mAP in percent against a swept value.

    Every curve joins the means over seeds; error bars are one standard deviation (of the sample),
    small dots the single seeds. The axis is logarithmic where the values are a geometric series; a
    zero then stands one step below the smallest. Values that are no numbers stand side by side.

    Args:
        curves: by protocol and value, the mAP of every seed as a fraction.
        key: what is swept, for instance `method.epsilon`.
        title: the first line; the number of seeds is added below it.

    Returns:
        A figure that belongs to no window: `.savefig(<file>)`.

    Raises:
        DataError: there is no point to draw.
    """
    from matplotlib.figure import Figure

    values = {value for points in curves.values() for value in points}
    if not values:
        raise DataError("No job of the sweep is done, so there is no curve to draw.")
    numbers = sorted(value for value in values if isinstance(value, float | int))
    words = [] if len(numbers) == len(values) else sorted(values, key=str)
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for rank, (protocol, points) in enumerate(curves.items()):
        places = sorted(points, key=words.index) if words else sorted(points)
        where = [float(words.index(v)) if words else float(v) for v in places]
        _draw_curve(axes, protocol, where, [points[v] for v in places], rank, joined=not words)
    if words:
        axes.set_xticks(range(len(words)), [str(word) for word in words])
        axes.set_xlim(-0.5, len(words) - 0.5)
    else:
        _scale(axes, numbers, key)
    axes.set_xlabel(notation(key))
    axes.set_ylabel("mAP (%)")
    _dress(axes)
    axes.set_title(f"{title}\n" if title else "", loc="left", fontsize=12, color=_INK)
    counts = sorted({len(seeds) for points in curves.values() for seeds in points.values()})
    axes.text(0, 1.02, _seeds(counts), transform=axes.transAxes, color=_GREY, fontsize=9)
    axes.legend(
        frameon=False, title="protocol", alignment="left", loc="upper left", bbox_to_anchor=(1, 1)
    )
    return figure


def _draw_curve(
    axes: Axes,
    name: str,
    places: Sequence[float],
    seeds: Sequence[Sequence[float]],
    rank: int,
    joined: bool,
) -> None:
    from matplotlib.transforms import ScaledTranslation

    percent = [100 * np.asarray(each, dtype=float) for each in seeds]
    colour = _COLOURS[rank % len(_COLOURS)]
    several = any(len(each) > 1 for each in percent)
    axes.errorbar(
        places,
        [each.mean() for each in percent],
        yerr=[each.std(ddof=1) if len(each) > 1 else 0 for each in percent] if several else None,
        label=name,
        color=colour,
        marker=_MARKERS[rank % len(_MARKERS)],
        markersize=5,
        linestyle="-" if joined else "none",
        linewidth=1.6,
        capsize=4,
        zorder=3,
    )
    if not several:
        return
    x = [place for place, each in zip(places, percent, strict=True) for _ in each]
    y = np.concatenate(percent)
    beside = axes.transData + ScaledTranslation(0.1, 0, axes.figure.dpi_scale_trans)  # inches
    axes.scatter(x, y, s=8, color=colour, alpha=0.6, linewidths=0, transform=beside, zorder=4)


def _scale(axes: Axes, numbers: Sequence[float], key: str) -> None:
    """Choose the axis's scale and put a tick at every value."""
    positive = [number for number in numbers if number > 0]
    if _is_geometric(positive) and all(number >= 0 for number in numbers):
        step = math.log10(positive[1] / positive[0])
        if len(positive) == len(numbers):
            axes.set_xscale("log")
        else:
            # symlog draws 0…linthresh as wide as linscale / 0.9 decades: here one step.
            axes.set_xscale("symlog", linthresh=positive[0], linscale=0.9 * step)
            axes.set_xlim(left=-positive[0] / 2)
    axes.set_xticks(numbers, [_label(number, key) for number in numbers])
    axes.set_xticks([], minor=True)


def _is_geometric(numbers: Sequence[float]) -> bool:
    """Whether three or more rising numbers have equal ratios; as good as equal, for typed ones."""
    ratios = [b / a for a, b in pairwise(numbers)]
    return len(ratios) >= 2 and max(ratios) / min(ratios) < 1.1


def _label(number: float, key: str) -> str:
    inverse = round(1 / number) if number else 0
    if key == "method.tau" and inverse > 1 and math.isclose(number * inverse, 1, rel_tol=1e-3):
        return f"1/{inverse}"  # as papers write a temperature
    return f"{number:g}"


def _seeds(counts: Sequence[int]) -> str:
    if counts[-1] == 1:
        return "one seed"
    many = str(counts[-1]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"mean ± standard deviation of {many} seeds; small dots: single seeds"


def _dress(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GREY)
    axes.tick_params(colors=_GREY, labelcolor=_INK)
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    axes.set_axisbelow(True)
