"""Evaluation protocols as data: which images compete, and which gallery images do not count."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from ccreid.data.sample import Sample, ids

# Which queries have no answer is part of the junk rules, and those live with the ranking.
from ccreid.retrieval import queries_without_match
from ccreid.retrieval.junk import Rule

RULE_SENTENCES: dict[Rule, str] = {
    "standard": "gallery images of the same person, same camera, do not count",
    "cc": "gallery images of the same person, same camera or same clothes, do not count",
    "sc": "gallery images of the same person, same camera or other clothes, do not count",
    "none": "every gallery image counts",
}


class RankingIds(TypedDict):
    """The ids that `ccreid.retrieval` ranks with, each [Q] or [G] int64."""

    query_pid: NDArray[np.int64]
    gallery_pid: NDArray[np.int64]
    query_camid: NDArray[np.int64]
    gallery_camid: NDArray[np.int64]
    query_clothes_id: NDArray[np.int64]
    gallery_clothes_id: NDArray[np.int64]


@dataclass(frozen=True)
class Protocol:
    """One way to evaluate a benchmark.

    Attributes:
        name: `general`, `sc` (same clothes) or `cc` (cloth-changing).
        rule: which gallery images of the query's own person are junk; other people always count.
        query_cameras, gallery_cameras: the cameras that take part, as `camid`; None means all.
        camera_names: the same in the benchmark's own names, for people.
        camera: the id that plays the camera in the rule; `none`: no two images share a camera.
        single_shot: 0 takes the whole gallery; n repeats the evaluation with n fixed draws of one
            gallery image per person and averages the metrics.
    """

    name: str
    rule: Rule = "standard"
    query_cameras: frozenset[int] | None = None
    gallery_cameras: frozenset[int] | None = None
    camera: Literal["camid", "tracklet_id", "none"] = "camid"
    single_shot: int = 0
    camera_names: str = ""

    def select_query(self, query: Sequence[Sample]) -> NDArray[np.int64]:
        """Return the positions of the queries that take part, ascending."""
        return _select(query, self.query_cameras)

    def select_galleries(self, gallery: Sequence[Sample]) -> tuple[NDArray[np.int64], ...]:
        """Return the positions of the gallery images that take part, one array per trial.

        Multi-shot there is one trial, its positions ascending; single-shot there are several, their
        people in the order of the gallery.
        """
        positions = _select(gallery, self.gallery_cameras)
        if not self.single_shot:
            return (positions,)
        pid = ids([gallery[i] for i in positions], "pid")
        return tuple(positions[single_shot_positions(pid, trials=self.single_shot)])

    def ranking_ids(
        self, query: Sequence[Sample], gallery: Sequence[Sample], trial: int = 0
    ) -> RankingIds:
        """Return the ids of the images that take part, as the ranking wants them."""
        query = [query[i] for i in self.select_query(query)]
        gallery = [gallery[i] for i in self.select_galleries(gallery)[trial]]
        return RankingIds(
            query_pid=ids(query, "pid"),
            gallery_pid=ids(gallery, "pid"),
            query_camid=self._camera(query, absent=-1),
            gallery_camid=self._camera(gallery, absent=-2),
            query_clothes_id=ids(query, "clothes_id"),
            gallery_clothes_id=ids(gallery, "clothes_id"),
        )

    def _camera(self, samples: Sequence[Sample], absent: int) -> NDArray[np.int64]:
        if self.camera == "none":
            return np.full(len(samples), absent, dtype=np.int64)
        return ids(samples, self.camera)

    def num_queries_without_match(
        self, query: Sequence[Sample], gallery: Sequence[Sample]
    ) -> tuple[int, int]:
        """Return how many queries no gallery image can answer, and how many queries take part.

        Single-shot the first trial is asked.
        """
        names = self.ranking_ids(query, gallery)
        unanswerable = queries_without_match(**names, rule=self.rule)
        return int(np.asarray(unanswerable).sum()), len(names["query_pid"])

    def __str__(self) -> str:
        cameras = f"{self.camera_names}; " if self.camera_names else ""
        limited = self.query_cameras is not None or self.gallery_cameras is not None
        if limited and not cameras:
            cameras = (
                f"query cameras {_list(self.query_cameras)}, "
                f"gallery cameras {_list(self.gallery_cameras)}; "
            )
        rule = RULE_SENTENCES[self.rule]
        if self.camera == "tracklet_id":
            rule = rule.replace("same camera", "same tracklet")
        elif self.camera == "none":
            rule = rule.replace("same camera or ", "")
        if self.single_shot:
            cameras += f"one gallery image per person, mean of {self.single_shot} fixed draws; "
        return f"{self.name}: {cameras}{rule}"


def single_shot_positions(
    pid: NDArray[np.int64], trials: int = 10, seed: int = 3
) -> NDArray[np.int64]:
    """Draw one gallery image per person, several times: CAL's lists, on a sorted gallery.

    Args:
        pid: people of the gallery in its sorted order, [G].
        trials: draws.
        seed: of Python's generator, whose draws CAL's are; 3 is CAL's.

    Returns:
        Gallery positions, [trials, people], people in the order of their first image.
    """
    people = pid[np.sort(np.unique(pid, return_index=True)[1])]
    images = [np.flatnonzero(pid == person).tolist() for person in people]
    generator = random.Random(seed)  # nosec B311
    draws = [[generator.choice(own) for own in images] for _ in range(trials)]
    return np.array(draws, dtype=np.int64).reshape(trials, len(people))


def _select(samples: Sequence[Sample], cameras: frozenset[int] | None) -> NDArray[np.int64]:
    if cameras is None:
        return np.arange(len(samples))
    return np.flatnonzero(np.isin(ids(samples, "camid"), sorted(cameras)))


def _list(cameras: frozenset[int] | None) -> str:
    return "all" if cameras is None else ", ".join(map(str, sorted(cameras)))
