"""What the change of one factor costs a feature, measured by what another person costs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ccreid.retrieval.numerics import normalised

Floats = NDArray[np.float64]
People = NDArray[np.int64]

_DRAWS = 10_000
_ALIKE = 1e-6  # cosines of float32 features closer than this are equal


class Interval(NamedTuple):
    """A mean over people with its 95 % interval.

    The interval is the percentile bootstrap over people, always with the same draws; a person's
    comparisons with others are drawn along with the person. Of a dozen people such an interval is
    somewhat too narrow.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class FactorSimilarities:
    """Cosines between images of P people that differ in one factor, and with other people.

    For each person let a be the first image; x_k the images in which one factor was changed; n_j
    other people as a shows this one (same camera, side and pose; clothes of their own); u_l the
    first image again, seen by other cameras. A change is a factor (`clothes`: a is compared with
    x_k), or a factor beyond cameras (`clothes+camera`: u_l is compared with x_k). With the means
    over a person's images

        s = cos(a, x_k)      o = cos(a, n_j)      b = 1              or beyond cameras
        s = cos(u_l, x_k)    o = cos(u_l, n_j)    b = cos(u_l, a)

    the measures of a change are

    - *cosine*: s. Features differ in their spread: cosines of two networks do not compare.
    - *kept*: mean(s - o) / mean(b - o), means over people: the part that is left of the lead over
      other people. 1: the feature does not see the change; 0: the change costs as much as being
      somebody else. Rescaled distances (cos → 1 - r (1 - cos)) give the same number.
    - *ranked right*: the share of all (l, k, j) with cos(·, x_k) > cos(·, n_j), ties a half; the
      mean over people. Only the order counts; 1/2 is chance.

    Let a feature be the person, the outfit, the camera and the spot in front of it side by side,
    of squared lengths p, c, v, w. It keeps (p + w) / (p + c + w) under a change of clothes:
    free of v, which a and n_j share, but not of w, for x_k stands where a stood. Beyond cameras it
    keeps p / (p + c): **`clothes+camera` says whether the feature sees the person**. A feature of
    clothes alone keeps 0 there, and 1 under a change of camera, yaw or pose.

    Attributes:
        between: by factor, cosines between a person's images at all levels, float64 [P, L, L].
        seen: by factor, cosines of a (first row) and u_l with the images at all levels, [P, U, L].
        another: cosines of a (first row) and u_l with other people, [P, U, O].
    """

    between: Mapping[str, Floats]
    seen: Mapping[str, Floats]
    another: Floats

    @property
    def changes(self) -> tuple[str, ...]:
        """The factors, each followed by itself beyond cameras."""
        pairs = ((factor, f"{factor}+camera") for factor in self.seen)
        return tuple(name for pair in pairs for name in pair if name != "camera+camera")

    def cosines(self, change: str) -> Floats:
        """Return each person's s, float64 [P]."""
        same, _ = self._images(change)
        return np.asarray(same[:, :, 1:].mean(axis=(1, 2)))

    def others(self, change: str) -> Floats:
        """Return each person's o, float64 [P]."""
        return np.asarray(self._images(change)[1].mean(axis=(1, 2)))

    def unchanged(self, change: str) -> Floats:
        """Return each person's b, float64 [P]."""
        return np.asarray(self._images(change)[0][:, :, 0].mean(axis=1))

    def right(self, change: str) -> Floats:
        """Return each person's share of triplets ranked right, float64 [P]."""
        same, others = self._images(change)
        gap = same[:, :, 1:, None] - others[:, :, None, :]
        return np.asarray(((gap > _ALIKE) + 0.5 * (abs(gap) <= _ALIKE)).mean(axis=(1, 2, 3)))

    def cosine(self, change: str) -> Interval:
        """Return the mean cosine under a change."""
        return _mean_interval(self.cosines(change))

    def another_person(self, change: str) -> Interval:
        """Return the mean cosine with other people, which is the zero of `kept`."""
        return _mean_interval(self.others(change))

    def ranked_right(self, change: str) -> Interval:
        """Return the share of triplets ranked right."""
        return _mean_interval(self.right(change))

    def kept(self, change: str) -> Interval:
        """Return the similarity kept.

        NaN where there is no lead to keep a part of: where other people are, with more than one
        chance in 200 by the bootstrap, as near as the person is without the change.
        """
        lead, left = (
            values - self.others(change)
            for values in (self.unchanged(change), self.cosines(change))
        )
        if np.quantile(_over_draws(_mean(lead), len(lead)), 0.005) <= _ALIKE:
            return Interval(np.nan, np.nan, np.nan)
        scale = _mean(lead)
        return _interval(lambda people: _mean(left)(people) / scale(people), len(lead))

    def pairs(self, factor: str) -> dict[tuple[int, int], float]:
        """Return the mean cosine between every two levels of a factor."""
        matrix = self.between[factor].mean(axis=0)
        rows, columns = np.triu_indices(len(matrix), 1)
        return {(int(k), int(m)): float(matrix[k, m]) for k, m in zip(rows, columns, strict=True)}

    def _images(self, change: str) -> tuple[Floats, Floats]:
        """Return the cosines [P, U, L] with the person's and [P, U, O] with others' images."""
        factor, beyond, _ = change.partition("+")
        rows = slice(1, None) if beyond else slice(1)
        return self.seen[factor][:, rows], self.another[:, rows]


def factor_similarities(
    features: Tensor | NDArray[Any],
    levels: Mapping[str, NDArray[np.int64]],
    others: NDArray[np.int64],
) -> FactorSimilarities:
    """Compare features of images in which one factor at a time is changed.

    Args:
        features: [N, D], of any length.
        levels: by factor, `camera` among them, the rows that show each person at each level,
            [P, L]; the first column is the unchanged image, the same for all factors.
        others: the rows that show other people as the unchanged image shows this one, [P, O].

    Raises:
        DataError: a feature is not finite.
    """
    unit = normalised(features, "controlled", len(features)).double().cpu().numpy()

    def cosines(left: NDArray[np.int64], right: NDArray[np.int64]) -> Floats:
        return np.asarray(np.einsum("pud,pld->pul", unit[left], unit[right]))

    cameras = levels["camera"]
    return FactorSimilarities(
        between={factor: cosines(rows, rows) for factor, rows in levels.items()},
        seen={factor: cosines(cameras, rows) for factor, rows in levels.items()},
        another=cosines(cameras, others),
    )


def _mean(values: Floats) -> Callable[[People], Floats]:
    return lambda people: np.asarray(values[people].mean(axis=-1))


def _mean_interval(values: Floats) -> Interval:
    return _interval(_mean(values), len(values))


def _interval(statistic: Callable[[People], Floats], num_people: int) -> Interval:
    low, high = np.quantile(_over_draws(statistic, num_people), [0.025, 0.975])
    return Interval(float(statistic(np.arange(num_people))), float(low), float(high))


def _over_draws(statistic: Callable[[People], Floats], num_people: int) -> Floats:
    """Return the statistic of draws of as many people as there are, with replacement."""
    return statistic(np.random.default_rng(0).integers(num_people, size=(_DRAWS, num_people)))
