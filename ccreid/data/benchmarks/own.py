"""What a user's own images share: names become numbers, people a split, labels protocols."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from operator import attrgetter
from typing import ClassVar, Literal

from ccreid.data.benchmarks.base import SPLITS, Benchmark
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample
from ccreid.errors import require, some
from ccreid.retrieval.junk import Rule

_view = attrgetter("camid", "clothes_id")
CLOTHES_RULES: tuple[Rule, ...] = ("sc", "cc")
NUMBER = re.compile(r"[0-9]{1,18}")  # of so many digits every number is an int64


@dataclass(frozen=True, slots=True)
class OwnImage:
    """An image with its labels as the user wrote them; an empty text is an unknown label.

    Attributes:
        path: the image file.
        person, camera, outfit: labels; outfits are told apart per person.
        split: train, query or gallery; empty leaves the choice to a `SplitRule`.
    """

    path: str
    person: str
    camera: str = ""
    outfit: str = ""
    split: str = ""


@dataclass(frozen=True)
class SplitRule:
    """Who is tested and with which queries, where the user does not say.

    Evenly spaced people are tested, in the order of their numbers; the others are trained on, so
    that nobody is in both. People who come after all others change nobody's side. A test person's
    queries are the first image of every camera and outfit, or some images evenly spaced over all of
    the person's, but at most half of them; the other images are the gallery. Nothing is random.

    Attributes:
        test_people: the share of the people who are tested.
        queries_per_person: None takes one of every camera and outfit.

    Raises:
        ConfigError: a setting is out of its range.
    """

    test_people: float = 0.5
    queries_per_person: int | None = None

    def __post_init__(self) -> None:
        share, number = self.test_people, self.queries_per_person
        fits = isinstance(share, (int, float)) and 0 < share < 1
        require(fits, "data.benchmark.test_people", share, "above 0 and below 1")
        fits = number is None or (isinstance(number, int) and number >= 1)
        require(fits, "data.benchmark.queries_per_person", number, "null, or 1 or more")

    def split(self, samples: Iterable[Sample]) -> dict[str, list[Sample]]:
        """Return the three lists."""
        people: dict[int, list[Sample]] = {}
        for sample in sorted(samples, key=lambda sample: (sample.pid, sample.path)):
            people.setdefault(sample.pid, []).append(sample)
        splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
        share = Fraction(str(self.test_people))
        for place, own in enumerate(people.values()):
            is_tested = math.floor((place + 1) * share) > math.floor(place * share)
            queries = set(self._queries(own)) if is_tested else set()
            for sample in own:
                split = "query" if sample in queries else "gallery" if is_tested else "train"
                splits[split].append(sample)
        return splits

    def _queries(self, own: Sequence[Sample]) -> Sequence[Sample]:
        """Choose among one person's images, which are sorted by path."""
        most = len(own) // 2
        if self.queries_per_person is not None:
            number = min(self.queries_per_person, most)
            return [own[k * len(own) // number] for k in range(number)]
        views = groupby(sorted(own, key=_view), key=_view)  # a stable sort: paths stay in order
        return [next(images) for _, images in views][:most]

    def __str__(self) -> str:
        queries = (
            "the first image of each camera and outfit"
            if self.queries_per_person is None
            else f"{self.queries_per_person} evenly spaced images of each"
        )
        return (
            f"evenly spaced people are tested (data.benchmark.test_people={self.test_people:g} of "
            f"all), their queries are {queries}, at most half of a person's images "
            "(data.benchmark.queries_per_person)"
        )


class Own(Benchmark):
    """A user's own images.

    The protocols follow from what is known of query and gallery: `general` by the standard rule
    where there are two cameras or more, else without junk; `sc` and `cc` where the outfits are
    known and a query can be answered.
    """

    counts: ClassVar = {}
    unlabelled = frozenset({"captions", "parsing"})
    licence = "yours"
    url = "yours: nothing to download"
    citation = "yours"

    def arrange(self, images: Sequence[OwnImage], rule: SplitRule) -> None:
        """Number the labels, make the three lists and choose the protocols.

        Raises:
            DataError: a split is empty, or no query can be answered.
        """
        samples = _numbered(images)
        self._names = {s.pid: image.person for s, image in zip(samples, images, strict=True)}
        if all(image.split for image in images):
            splits: dict[str, list[Sample]] = {split: [] for split in SPLITS}
            for image, sample in zip(images, samples, strict=True):
                splits[image.split].append(sample)
        else:
            splits = rule.split(samples)
            self.warnings += (f"No split is given: {rule}.",)
            if not splits["query"]:
                people = len({sample.pid for sample in samples})
                self.fault(
                    f"{self.name}: the split leaves no query: {rule}. There are {people} people; a "
                    "test person needs two images or more."
                )
        self.train, self.query, self.gallery = (
            tuple(sorted(splits[split], key=lambda sample: sample.path)) for split in SPLITS
        )
        self.protocols = possible_protocols(self.query + self.gallery)
        self.warnings += tuple(self.verify())

    def verify(self) -> list[str]:
        """Look for what would make an evaluation mean nothing, or less than it seems.

        Returns:
            One sentence per thing to know.

        Raises:
            DataError: a split is empty, or no query can be answered.
        """
        warnings = super().verify()
        train, query, gallery = ({s.pid for s in part} for part in self.splits.values())
        if seen := train & (query | gallery):
            warnings.append(
                f"In train and also in query or gallery: {self._some(seen)}. If the same name is "
                "the same person, the evaluation is of people who were seen in training."
            )
        if not (query and gallery):
            return warnings
        if not query & gallery:
            self.fault(
                f"{self.name}: nobody in query is in gallery: query shows {self._some(query)}; "
                f"gallery shows {self._some(gallery)}. Name a person the same in both."
            )
            self.protocols = self.protocols[:1]
            return warnings
        cameras = {sample.camid for sample in self.query + self.gallery}
        if len(cameras) == 1 and -1 not in cameras:
            warnings.append("Query and gallery are of one camera, so every image counts.")
        return warnings + self._leave_out_unanswerable()

    def _some(self, people: set[int]) -> str:
        """Name the first few of some people as the user does."""
        return some([self._names[pid] for pid in sorted(people)])

    def _leave_out_unanswerable(self) -> list[str]:
        """Drop the clothes protocols that no query has a match under; return what was dropped."""
        warnings, kept = [], []
        for protocol in self.protocols:
            unanswerable, total = protocol.num_queries_without_match(self.query, self.gallery)
            is_answered = unanswerable < total
            if not is_answered and protocol.name == "general":
                self.fault(
                    f"{self.name}: no query has a match in the gallery ({protocol}). Give images "
                    "of the same people under another camera, or leave the cameras out."
                )
            if is_answered or protocol.name == "general":
                kept.append(protocol)
            else:
                warnings.append(f"No query has a match, and it is left out: {protocol}.")
        self.protocols = tuple(kept)
        return warnings


def possible_protocols(tested: Sequence[Sample]) -> tuple[Protocol, ...]:
    """Return the protocols that the labels of query and gallery allow."""
    has_cameras = _has_cameras(tested)
    general = Protocol("general", rule="standard" if has_cameras else "none")
    if any(sample.clothes_id < 0 for sample in tested):
        return (general,)
    camera: Literal["camid", "none"] = "camid" if has_cameras else "none"
    return general, *(Protocol(name, rule=name, camera=camera) for name in CLOTHES_RULES)


def numbers(names: Iterable[str]) -> dict[str, int]:
    """Return a number per name: its own where all names are numbers, else its place among them.

    An empty name is -1.
    """
    known = sorted(set(names) - {""})
    if all(NUMBER.fullmatch(name) for name in known):
        return {"": -1} | {name: int(name) for name in known}
    return {"": -1} | {name: place for place, name in enumerate(known)}


def _numbered(images: Sequence[OwnImage]) -> list[Sample]:
    """Return a sample per image; the same outfit's label on two people is two outfits."""
    people = numbers(image.person for image in images)
    cameras = numbers(image.camera for image in images)
    labels = numbers(image.outfit for image in images)
    worn = [(people[image.person], labels[image.outfit]) for image in images]
    outfits = {pair: n for n, pair in enumerate(sorted({p for p in worn if p[1] >= 0}))}
    return [
        Sample(image.path, people[image.person], cameras[image.camera], outfits.get(outfit, -1))
        for image, outfit in zip(images, worn, strict=True)
    ]


def _has_cameras(samples: Sequence[Sample]) -> bool:
    cameras = {sample.camid for sample in samples}
    return len(cameras) > 1 and -1 not in cameras
