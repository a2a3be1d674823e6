"""What all plots of numbers share: colours, words and the dress of their axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which colour-blind readers can tell apart (https://jfly.uni-koeln.de/color/)
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
INK, GREY, LINE = "#202124", "#6e7278", "#dee0e4"

METRICS = {"rank1": "rank-1", "mAP": "mAP"}
"""The metrics that papers plot, by the name they are logged under."""

_CAUTIONS = {
    "virtual": "rendered people: says nothing about recordings, not comparable with LTCC or PRCC"
}


def protocol_title(name: str) -> str:
    """Return a protocol's name, with what the short ones stand for."""
    words = {"sc": "same clothes (sc)", "cc": "other clothes (cc)"}
    return words.get(name, name.replace("_", " "))


def caution(benchmark: str) -> str:
    """Return what must stand beside numbers of this benchmark; mostly nothing."""
    return _CAUTIONS.get(benchmark, "")


def in_order(protocols: Sequence[str]) -> list[str]:
    """Return protocols as tables list them: general, same clothes, changed clothes, others."""
    known = ("general", "sc", "cc")
    return sorted(protocols, key=lambda name: (known.index(name) if name in known else 3, name))


def dress(axes: Axes, values: str = "y") -> None:
    """Take everything off that is no help: frame, dark ticks; a faint grid along the values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=GREY, labelcolor=INK)
    axes.grid(axis="x" if values == "x" else "y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
