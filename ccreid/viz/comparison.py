"""Settings side by side: their metrics with every seed, and what each differs from the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ccreid.errors import DataError
from ccreid.viz.plots import COLOURS, GREY, INK, MARKERS, METRICS, dress, in_order, protocol_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_APART = 0.26  # of a row, between the metrics
_HEIGHT = 0.52  # inches of a row


@dataclass(frozen=True)
class Gap:
    """A difference in points with the ends of its interval, from so many seeds."""

    mean: float
    low: float
    high: float
    seeds: int = 1

    def __str__(self) -> str:
        """Return it as tables show it."""
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


Seeds = Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]]
"""Setting → protocol → metric → the metric of every seed, as a fraction."""
Gaps = Mapping[str, Mapping[str, Mapping[str, Gap]]]
"""Setting → protocol → metric → its difference to the first setting, in points."""


def draw_comparison(seeds: Seeds, gaps: Gaps, title: str = "", caution: str = "") -> Figure:
    """Draw rank-1 and mAP in percent, a row per setting and a column per protocol.

    Above, rings are single seeds, the filled marker between them is their mean. Below, the
    differences to the first setting with their intervals, and a line at no difference; without any
    difference that part is left out.

    Args:
        seeds: in the order they are drawn, from the top.
        gaps: of the settings that can be compared with the first.
        title: the first line.
        caution: what must stand beside the numbers, see `caution` in `plots`.

    Returns:
        A figure that belongs to no window: `.savefig(<file>)`.

    Raises:
        DataError: there is no setting to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not seeds:
        raise DataError("No setting was run, so there is nothing to compare.")
    first, *_ = settings = list(seeds)
    others = [name for name in settings if name in gaps]
    protocols = in_order(list({protocol: 0 for each in seeds.values() for protocol in each}))
    rows = [len(settings), *([len(others)] if others else [])]
    engine = ConstrainedLayoutEngine(wspace=0.06, hspace=0.06)
    figure = Figure(figsize=(9.6, 2.0 + _HEIGHT * sum(rows)), layout=engine)
    grid = figure.subplots(
        len(rows), len(protocols), squeeze=False, sharey="row", height_ratios=[n + 1 for n in rows]
    )
    for column, protocol in enumerate(protocols):
        above: Axes = grid[0, column]
        above.set_title(protocol_title(protocol), loc="left", fontsize=11, color=INK)
        _draw_seeds(above, [seeds[name].get(protocol, {}) for name in settings])
        _dress(above, settings, "percent")
        if others:
            below: Axes = grid[1, column]
            _draw_gaps(below, [gaps[name].get(protocol, {}) for name in others])
            _dress(below, others, f"points more than {first}")
    lines = [title, "rings: single seeds; filled: their mean"]
    lines[1] += "; bars: 95 % bootstrap interval over test people" if others else ""
    figure.suptitle("\n".join(filter(None, [*lines, caution])), x=0.01, ha="left", fontsize=10)
    shown: dict[str, Any] = {}
    for axes in grid[0]:
        handles, names = axes.get_legend_handles_labels()
        shown |= dict(zip(names, handles, strict=True))
    known = [name for name in METRICS.values() if name in shown]
    handles = [shown[name] for name in known]
    figure.legend(handles, known, frameon=False, loc="upper right", ncols=2)
    return figure


def _draw_seeds(axes: Axes, settings: Sequence[Mapping[str, Sequence[float]]]) -> None:
    for row, by_metric in enumerate(settings):
        for rank, metric in enumerate(METRICS):
            if metric not in by_metric:
                continue
            percent = 100 * np.asarray(by_metric[metric], dtype=float)
            place, colour = _place(row, rank), COLOURS[rank]
            axes.plot(
                [percent.mean()], [place], MARKERS[rank], ms=7, color=colour, label=METRICS[metric]
            )
            axes.scatter(
                percent,
                np.full(len(percent), place),
                s=16,
                facecolors="white",
                edgecolors=colour,
                zorder=4,
            )


def _draw_gaps(axes: Axes, settings: Sequence[Mapping[str, Gap]]) -> None:
    axes.axvline(0, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    for row, by_metric in enumerate(settings):
        for rank, metric in enumerate(METRICS):
            if metric not in by_metric:
                continue
            gap = by_metric[metric]
            axes.errorbar(
                [gap.mean],
                [_place(row, rank)],
                xerr=[[gap.mean - gap.low], [gap.high - gap.mean]],
                color=COLOURS[rank],
                marker=MARKERS[rank],
                markersize=6,
                linewidth=1.6,
                capsize=3,
            )


def _place(row: int, rank: int) -> float:
    return row + _APART * (rank - (len(METRICS) - 1) / 2)


def _dress(axes: Axes, names: Sequence[str], label: str) -> None:
    dress(axes, values="x")
    axes.set_yticks(range(len(names)), list(names))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(label, fontsize=9, color=GREY)
