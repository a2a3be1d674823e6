"""What each change costs, as a picture: a row per change, a colour per checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ccreid.errors import DataError
from ccreid.retrieval.factors import FactorSimilarities, Interval
from ccreid.viz.plots import COLOURS, GREY, INK, LINE, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STEP = 0.22  # of a row, between two checkpoints where there is room for it


def draw_factors(results: Mapping[str, FactorSimilarities], title: str = "") -> Figure:
    """Draw the similarity kept and the share ranked right, in percent, with their intervals.

    Args:
        results: by checkpoint; NaN is left out.
        title: the first line.

    Returns:
        A figure that belongs to no window: `.savefig(<file>)`.

    Raises:
        DataError: there is nothing to draw.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not results:
        raise DataError("No checkpoint was diagnosed, so there is nothing to draw.")
    first = next(iter(results.values()))
    height = 1.6 + len(first.changes) * max(0.36, 0.13 * len(results))
    figure = Figure(figsize=(9.6, height), layout=ConstrainedLayoutEngine(wspace=0.08))
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, results, first.changes, FactorSimilarities.kept)
    _draw(right, results, first.changes, FactorSimilarities.ranked_right)
    _dress(left, "similarity kept (%)", {0: "as another person", 100: "change not seen"})
    _dress(right, "ranked before other people (%)", {50: "chance", 100: "always"})
    left.set_yticks(range(len(first.changes)), first.changes)
    left.set_ylim(len(first.changes) - 0.5, -0.5)
    people = f"{len(first.another)} rendered people; bars: 95 % bootstrap interval by person"
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=INK)
    figure.supxlabel(people, x=0.01, ha="left", color=GREY, fontsize=9)
    figure.legend(
        *left.get_legend_handles_labels(),
        frameon=False,
        loc="outside right upper",
        title="checkpoint",
        alignment="left",
    )
    return figure


def _draw(
    axes: Axes,
    results: Mapping[str, FactorSimilarities],
    changes: Sequence[str],
    measure: Callable[[FactorSimilarities, str], Interval],
) -> None:
    step = min(_STEP, 0.8 / len(results))
    for rank, (name, similarities) in enumerate(results.items()):
        percent = 100 * np.array([measure(similarities, change) for change in changes])
        mean, low, high = percent.T
        axes.errorbar(
            mean,
            np.arange(len(changes)) + step * (rank - (len(results) - 1) / 2),
            xerr=[mean - low, high - mean],
            label=name,
            color=COLOURS[rank % len(COLOURS)],
            # Another marker when the colours begin again.
            marker=MARKERS[(rank + rank // len(COLOURS)) % len(MARKERS)],
            markersize=5,
            linestyle="none",
            linewidth=1.6,
            zorder=3,
        )


def _dress(axes: Axes, label: str, lines: Mapping[int, str]) -> None:
    """Say above the rows what the ends of the scale mean, and always show both."""
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, *lines) - 4, max(high, *lines) + 4)
    for value, meaning in lines.items():
        axes.axvline(value, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.annotate(
            meaning,
            (value, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            color=GREY,
            fontsize=9,
        )
    axes.set_xlabel(label)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(colors=GREY, labelcolor=INK)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
