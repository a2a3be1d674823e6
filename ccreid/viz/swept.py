"""The swept settings of the papers: their letters, and where a value stands on an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Value = float | str


@dataclass(frozen=True)
class Notation:
    """How a paper writes a setting.

    Attributes:
        letter: in the paper.
        meaning: in a few words.
        released: the value of the authors' code; None where there is none.
        inverse: the paper writes one over the value.
    """

    letter: str
    meaning: str = ""
    released: float | None = None
    inverse: bool = False

    @property
    def name(self) -> str:
        """The letter of the setting itself, not of its inverse."""
        return self.letter.removeprefix("1/")

    @property
    def axis(self) -> str:
        """The words below the axis."""
        return f"{self.letter}  ({self.meaning})" if self.meaning else self.letter


# By the method's class. `eps` and `epsilon` are two things (arXiv 2308.10692, sections 3 and 4).
_NOTATION = {
    "FIRe2": {
        "method.epsilon": Notation("ε", "smoothing of the attribute target", 0.1),
        "method.tau": Notation(
            "1/τ", "sharpness of the attribute classifier", 1 / 16, inverse=True
        ),
        "method.recomposition_weight": Notation("λ₄", "weight of the recomposition loss", 0.3),
        "method.parts": Notation("P", "stripes of the feature map", 2),
        "method.recompositions": Notation("K", "recompositions of each feature map", 1),
        "method.mining.eps": Notation("eps", "DBSCAN radius in Jaccard distance", 0.4),
    }
}


def notation(key: str, method: str = "") -> Notation:
    """Return how the method's paper writes a key; what it does not write keeps its own name."""
    return _NOTATION.get(method, {}).get(key, Notation(key.removeprefix("method.")))


class Scale:
    """Where swept values stand on an axis, and what is written there.

    Values in equal steps stand so, those of a geometric series in equal steps of their logarithm (a
    zero one step below the smallest), and all others side by side, as words do.

    Args:
        values: that were swept, at least one.
        inverse: one over the value is drawn.

    Attributes:
        ordered: the values as they stand, from the left.
        joined: they are numbers, so that a line between them has a meaning.
        kind: linear, log, symlog, side by side (numbers) or words.
    """

    def __init__(self, values: Sequence[Value], inverse: bool = False) -> None:
        numbers = sorted({float(value) for value in values if not isinstance(value, str)})
        self.joined = len(numbers) == len(set(values))
        self._inverse = inverse and self.joined and numbers[0] > 0
        self.ordered: list[Value] = sorted(set(values), key=str)
        if self.joined:
            self.ordered = [*(reversed(numbers) if self._inverse else numbers)]
        self.kind = _kind([self._shown(n) for n in self.ordered]) if self.joined else "words"

    def place(self, value: Value) -> float:
        """Return where a value stands, in the axis's units."""
        if self.kind in ("side by side", "words"):
            return float(self.ordered.index(value))
        return self._shown(value)

    def find(self, value: float | None) -> float | None:
        """Return where a value stands if it was swept; as good as equal is equal."""
        for known in self.ordered:
            if value is not None and not isinstance(known, str) and math.isclose(known, value):
                return self.place(known)
        return None

    def apply(self, axes: Axes) -> None:
        """Scale an axis and put a tick at every value."""
        places = [self.place(value) for value in self.ordered]
        positive = [place for place in places if place > 0]
        if self.kind in ("log", "symlog"):
            step = positive[1] / positive[0]
            # symlog draws 0…linthresh as wide as linscale / 0.9 decades: here one step.
            zero = {"linthresh": positive[0], "linscale": 0.9 * math.log10(step)}
            axes.set_xscale(self.kind, **({} if self.kind == "log" else zero))
            room = step**0.3
            left = -positive[0] / 4 if self.kind == "symlog" else positive[0] / room
            axes.set_xlim(left, positive[-1] * room)
        else:
            room = (places[-1] - places[0]) / max(len(places) - 1, 1) / 3 or 1.0
            axes.set_xlim(places[0] - room, places[-1] + room)
        axes.set_xticks(places, [self._label(value) for value in self.ordered])
        axes.set_xticks([], minor=True)

    def _shown(self, value: Value) -> float:
        return 1 / float(value) if self._inverse else float(value)

    def _label(self, value: Value) -> str:
        return value if isinstance(value, str) else f"{self._shown(value):.4g}"


def _kind(numbers: Sequence[float]) -> str:
    """Return linear, log, symlog or side by side; as good as equal is equal, for typed numbers."""
    steps = [b - a for a, b in pairwise(numbers)]
    if len(numbers) < 3 or max(steps) < 1.01 * min(steps):
        return "linear"
    positive = [number for number in numbers if number > 0]
    ratios = [b / a for a, b in pairwise(positive)]
    geometric = len(ratios) >= 2 and max(ratios) < 1.1 * min(ratios)
    if not geometric or min(numbers) < 0:
        return "side by side"
    return "log" if len(positive) == len(numbers) else "symlog"
