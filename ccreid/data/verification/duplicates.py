"""Images that a benchmark holds more than once, under whatever names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ccreid.data.sample import Sample

Kind = Literal["train and test", "query and gallery", "within a split"]


@dataclass(frozen=True)
class Duplicate:
    """One image under several names.

    Attributes:
        kind: where it is; an image in train and test has leaked.
        paths: all its names below the benchmark's root, sorted; one name if two splits list it.
        same_person: whether all of them show the same person; train and test people are others.
    """

    kind: Kind
    paths: tuple[str, ...]
    same_person: bool


@dataclass(frozen=True)
class _Place:
    path: str
    split: str
    pid: int


def find_duplicates(
    splits: Mapping[str, Iterable[Sample]], sha256: Mapping[str, str], names: Mapping[str, str]
) -> list[Duplicate]:
    """Return the images whose content is there more than once, sorted by name.

    Args:
        splits: train, query and gallery.
        sha256: of every image by its path; images without one are left out.
        names: what to call every image, by its path.
    """
    places: dict[str, set[_Place]] = {}
    for split, samples in splits.items():
        for place in _places(split, samples):
            if digest := sha256.get(place.path):
                places.setdefault(digest, set()).add(place)
    found = [
        Duplicate(
            _kind({place.split for place in group}),
            tuple(sorted({names[place.path] for place in group})),
            len({(place.split == "train", place.pid) for place in group}) == 1,
        )
        for group in places.values()
        if len({(place.path, place.split) for place in group}) > 1
    ]
    return sorted(found, key=lambda duplicate: duplicate.paths)


def _places(split: str, samples: Iterable[Sample]) -> Iterator[_Place]:
    for sample in samples:
        for path in sample.image_paths:
            yield _Place(path, split, sample.pid)


def _kind(splits: set[str]) -> Kind:
    if len(splits) == 1:
        return "within a split"
    return "train and test" if "train" in splits else "query and gallery"
