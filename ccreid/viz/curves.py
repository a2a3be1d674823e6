"""Rank-1 and mAP against a swept value, a panel per protocol, as Figures 4 and 5 of FIRe²."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ccreid.errors import DataError
from ccreid.viz.plots import COLOURS, GREY, INK, MARKERS, METRICS, dress, in_order, protocol_title
from ccreid.viz.swept import Notation, Scale, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points = Mapping[Value, Sequence[float]]
Curves = Mapping[str, Mapping[str, Points]]
"""Protocol → metric → swept value → the metric of every seed, as a fraction."""

_BAND = 0.18  # opacity


def draw_curves(curves: Curves, swept: Notation, title: str = "", caution: str = "") -> Figure:
    """Draw rank-1 and mAP in percent against a swept value.

    Protocols stand side by side, metrics one below the other, each with a range of its own. A line
    joins the means over seeds, its band is one standard deviation (of the sample) to both
    sides, rings are the single seeds. A dashed line stands at the released value if it was
    swept. Values that are no numbers stand side by side, with bars for the band.

    Args:
        curves: what came out.
        swept: how the setting is written, see `notation`.
        title: the first line; what the marks mean is added below it.
        caution: what must stand beside the numbers, see `caution` in `plots`.

    Returns:
        A figure that belongs to no window: `.savefig(<file>)`.

    Raises:
        DataError: there is no point to draw.
    """
    from matplotlib.figure import Figure

    panels = [each for by_metric in curves.values() for each in by_metric.values()]
    values = {value for points in panels for value in points}
    if not values:
        raise DataError("No job of the sweep is done, so there is no curve to draw.")
    protocols = in_order(list(curves))
    metrics = [name for name in METRICS if any(name in curves[p] for p in protocols)]
    scale = Scale([*values], swept.inverse)
    figure = Figure(
        figsize=(1.2 + 3.0 * max(len(protocols), 2), 1.3 + 2.1 * len(metrics)), layout="constrained"
    )
    grid = figure.subplots(len(metrics), len(protocols), squeeze=False, sharex=True)
    for row, metric in enumerate(metrics):
        for column, protocol in enumerate(protocols):
            axes: Axes = grid[row, column]
            scale.apply(axes)
            _draw_curve(axes, curves[protocol].get(metric, {}), scale, row)
            _mark_released(axes, scale.find(swept.released))
            dress(axes)
            if row == 0:
                axes.set_title(protocol_title(protocol), loc="left", fontsize=10, color=INK)
            if column == 0:
                axes.set_ylabel(f"{METRICS[metric]} (%)")
    figure.supxlabel(swept.axis, fontsize=10, color=INK)
    counts = sorted({len(seeds) for points in panels for seeds in points.values()})
    lines = [title, _seeds(counts, scale.joined), caution]
    figure.suptitle("\n".join(line for line in lines if line), x=0.01, ha="left", fontsize=10)
    return figure


def _draw_curve(axes: Axes, points: Points, scale: Scale, rank: int) -> None:
    shown = [value for value in scale.ordered if value in points]
    percent = [100 * np.asarray(points[value], dtype=float) for value in shown]
    x = np.array([scale.place(value) for value in shown])
    mean = np.array([each.mean() for each in percent])
    several = any(len(each) > 1 for each in percent)
    spread = np.array([each.std(ddof=1) if len(each) > 1 else 0.0 for each in percent])
    colour = COLOURS[rank % len(COLOURS)]
    axes.errorbar(
        x,
        mean,
        yerr=spread if several and not scale.joined else None,
        color=colour,
        marker=MARKERS[rank % len(MARKERS)],
        markersize=5,
        linestyle="-" if scale.joined else "none",
        linewidth=1.6,
        capsize=4,
        zorder=3,
    )
    if not several:
        return
    if scale.joined:
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=_BAND, linewidth=0)
    places = [place for place, each in zip(x, percent, strict=True) for _ in each]
    axes.scatter(
        places, np.concatenate(percent), s=12, facecolors="white", edgecolors=colour, zorder=4
    )


def _mark_released(axes: Axes, place: float | None) -> None:
    if place is None:
        return
    axes.axvline(place, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.annotate(
        "released",
        (place, 1),
        (3, -3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        va="top",
        color=GREY,
        fontsize=8,
    )


def _seeds(counts: Sequence[int], joined: bool) -> str:
    if counts[-1] == 1:
        return "one seed"
    many = str(counts[-1]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    what = "band" if joined else "bars"
    return f"mean of {many} seeds; {what}: ± one standard deviation; rings: single seeds"
