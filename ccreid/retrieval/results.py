"""What a ranking yields: one immutable object from which metrics, reports and pictures derive."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccreid.retrieval.junk import RULES, Rule


@dataclass(frozen=True, eq=False)
class RetrievalResults:
    """The ranked gallery of Q queries: its first D places, and exact figures of the whole ranking.

    Junk is removed before places are counted. The places of `indices`, `distances` and `matches`
    that are left over when a query has fewer than D gallery images hold -1, inf and False. Average
    precision and ranks do not depend on D. A query without any positive is not *valid*: it counts
    in no metric.

    Attributes:
        indices: int64 `[Q, D]`, gallery indices by rising distance; equal distances by rising
            gallery index.
        distances: float32 or float64 `[Q, D]`, the distances of `indices`.
        matches: bool `[Q, D]`, whether the gallery image shows the query's person.
        average_precision: float64 `[Q]`, the mean of k / rank_k over the positives k = 1..n (not
            interpolated); NaN without positives.
        first_hit_rank: int64 `[Q]`, rank of the nearest positive, counted from 1; -1 without
            positives.
        last_hit_rank: int64 `[Q]`, rank of the farthest positive, counted from 1; -1 without
            positives.
        num_positives: int64 `[Q]`.
        rule: the junk rule that was applied.
        num_gallery: the number of gallery images before junk was removed.

    Raises:
        ValueError: the arrays contradict each other (a fault of the code that made them).
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.floating[Any]]
    matches: NDArray[np.bool_]
    average_precision: NDArray[np.float64]
    first_hit_rank: NDArray[np.int64]
    last_hit_rank: NDArray[np.int64]
    num_positives: NDArray[np.int64]
    rule: Rule
    num_gallery: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.copy()
                value.setflags(write=False)
                object.__setattr__(self, field.name, value)
        for problem, found in self._problems().items():
            if found:
                raise ValueError(f"Retrieval results contradict themselves: {problem}.")

    def _problems(self) -> dict[str, bool]:
        if self.indices.ndim != 2 or not self.indices.size:
            return {f"`indices` must be [Q, D] with Q, D > 0, got {self.indices.shape}": True}
        per_query = (
            self.average_precision,
            self.first_hit_rank,
            self.last_hit_rank,
            self.num_positives,
        )
        if any(a.shape != self.indices.shape for a in (self.distances, self.matches)) or any(
            a.shape != self.indices.shape[:1] for a in per_query
        ):
            return {"the arrays are of different numbers of queries or depths": True}
        whole = (self.indices, self.first_hit_rank, self.last_hit_rank, self.num_positives)
        if any(a.dtype != np.int64 for a in whole) or self.matches.dtype != np.bool_:
            return {"indices, ranks and counts must be int64, matches bool": True}

        filled, valid, depth = self.indices >= 0, self.valid, self.depth
        first, last, count = self.first_hit_rank, self.last_hit_rank, self.num_positives
        precision = self.average_precision[valid]
        # `matches` and the first-hit rank are computed on different ways; here they must meet.
        seen_first = np.where(self.matches.any(1), self.matches.argmax(1) + 1, -1)
        return {
            f"the rule is {self.rule!r}": self.rule not in RULES,
            "a gallery index is out of range": bool(
                ((self.indices < -1) | (self.indices >= self.num_gallery)).any()
            ),
            "a place follows an empty one": bool((filled[:, 1:] > filled[:, :-1]).any()),
            "an empty place must hold inf, a filled one a finite distance": bool(
                (np.isfinite(self.distances) != filled).any()
            ),
            "distances fall along a ranking": bool(
                (self.distances[:, 1:] < self.distances[:, :-1]).any()
            ),
            "an empty place is a match": bool((self.matches & ~filled).any()),
            "a count of positives is negative": bool((count < 0).any()),
            "more matches than positives": bool((self.matches.sum(1) > count).any()),
            "hit ranks do not fit the number of positives": bool(
                ((first < 1) | (last - first + 1 < count) | (last > self.num_gallery))[valid].any()
            ),
            "a query without positives has hits or a precision": bool(
                ((first != -1) | (last != -1) | ~np.isnan(self.average_precision))[~valid].any()
            ),
            "an average precision is outside (0, 1]": not bool(
                ((precision > 0) & (precision <= 1 + 1e-12)).all()
            ),
            "the first match and the first-hit rank differ": bool(
                (np.where(first <= depth, first, -1) != seen_first).any()
            ),
        }

    @property
    def trials(self) -> tuple[RetrievalResults, ...]:
        """This ranking alone; `RepeatedResults` have several."""
        return (self,)

    @property
    def num_queries(self) -> int:
        """The number of queries Q, valid or not."""
        return int(self.indices.shape[0])

    @property
    def depth(self) -> int:
        """The number of ranked places D that were kept for each query."""
        return int(self.indices.shape[1])

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Bool `[Q]`: the queries with at least one positive; metrics average over these."""
        return np.asarray(self.num_positives > 0)

    def cmc(self, max_rank: int) -> NDArray[np.float64]:
        """Return the cumulative matching curve `[max_rank]`.

        Index k - 1 holds the fraction of valid queries with a positive among the first k. It is
        exact for any `max_rank`, also beyond the depth kept, and NaN when no query is valid.

        Raises:
            ValueError: `max_rank` is below 1.
        """
        if max_rank < 1:
            raise ValueError(f"The curve needs max_rank >= 1, got {max_rank}.")
        first = self.first_hit_rank[self.valid]
        if not len(first):
            return np.full(max_rank, np.nan)
        hits = np.bincount(np.minimum(first, max_rank + 1), minlength=max_rank + 2)
        return np.asarray(np.cumsum(hits)[1 : max_rank + 1] / len(first), dtype=np.float64)

    def metrics(self) -> dict[str, float]:
        """Return rank1, rank5, rank10, mAP and mINP as fractions, and num_valid_queries.

        Means run over the valid queries. When no query is valid all but num_valid_queries (then 0)
        are NaN: a zero would pass for a measured value. mINP is the mean of n / (rank of the
        farthest of the n positives) (Ye et al., Deep Learning for Person Re-identification,
        https://arxiv.org/abs/2001.04193, section 4).
        """
        valid = self.valid
        curve = self.cmc(10)
        inverse = self.num_positives[valid] / self.last_hit_rank[valid]
        return {
            "rank1": float(curve[0]),
            "rank5": float(curve[4]),
            "rank10": float(curve[9]),
            "mAP": float(self.average_precision[valid].mean()) if valid.any() else float("nan"),
            "mINP": float(inverse.mean()) if valid.any() else float("nan"),
            "num_valid_queries": float(valid.sum()),
        }


@dataclass(frozen=True, eq=False)
class RepeatedResults:
    """The same queries ranked against several draws of a gallery, as single-shot protocols do.

    Attributes:
        trials: the ranking of each draw.
    """

    trials: tuple[RetrievalResults, ...]

    def metrics(self) -> dict[str, float]:
        """Return the mean of every metric over the trials."""
        trials = [trial.metrics() for trial in self.trials]
        return {name: float(np.mean([trial[name] for trial in trials])) for name in trials[0]}
