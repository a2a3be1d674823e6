"""LaST: over ten thousand people from films, without cameras."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.ondisk import OnDisk
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample

# What follows the first dot is no field, as in the authors' loader.
_NAME = re.compile(r"^(?P<pid>\d+)_(?:[^.]*_)?(?P<clothes>[^._]+)(?:\.[^.]+)*\.jpg$", re.IGNORECASE)


class LaST(OnDisk):
    """LaST (Shu et al.: IEEE TCSVT 2022).

    206,777 images of 10,806 people in train and test. There is no camera, so no gallery image is
    ever junk. Clothes are labelled in train only; test samples have none (-1). One person of the
    gallery has no query. The `val` folders (56 people, 21,379 images) are only counted, as in CAL.

    Args:
        root: the folder that holds `last/`, or that folder itself.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts;
            the older release is named as such.
    """

    name = "last"
    protocols = (Protocol("general", rule="none"),)
    counts: ClassVar = {
        "train": SplitCount(5_000, 71_248),
        "query": SplitCount(5_805, 10_176),
        "gallery": SplitCount(5_806, 125_353),
        "val query": SplitCount(56, 100),
        "val gallery": SplitCount(56, 21_279),
        "total": SplitCount(5_000 + 56 + 5_806, 228_156),
    }
    old_release: ClassVar[Mapping[str, int]] = {
        "train": 70_923,
        "query": 10_173,
        "gallery": 123_041,
    }
    licence = "academic use only"
    url = "https://github.com/shuxjweb/last"
    citation = (
        "Shu, Wang, Zang, Zhang, Chen, Li, Tian: Large-Scale Spatio-Temporal Person "
        "Re-identification: Algorithm and Benchmark. IEEE TCSVT 32(7), 2022."
    )
    layout = (
        "  last/train/<pid>/<pid>_..._<clothes>.jpg           5,000 people, 71,248 images\n"
        "  last/test/query/<pid>_..._<any>.jpg                10,176 images\n"
        "  last/test/gallery/<pid>/<pid>_..._<any>.jpg        125,353 images"
    )
    unlabelled = frozenset({"captions", "cameras"})
    one_numbering = None
    val_parts = ("val query", "val gallery")
    total_without_val = SplitCount(5_000 + 5_806, 228_156 - 21_379)
    folders = ("last", "LaST")
    inside = "test/gallery"

    def list_split(self, split: str) -> Iterator[Sample]:
        """Yield the samples of a split; query images lie in one folder, others by person."""
        if split == "train":
            yield from self._list_train()
        elif split in ("query", "val query"):
            for path, name in self.images(self._folder(split), _NAME):
                yield Sample(path, pid=int(name["pid"]))
        else:
            for path, name in self._by_person(self._folder(split)):
                yield Sample(path, pid=int(name["pid"]))

    def has_val(self, part: str) -> bool:
        """Return whether there is `val/query` or `val/gallery`."""
        return self.root.joinpath(*part.split()).is_dir()

    def verify(self) -> list[str]:
        """Compare the lists with the published counts; name the older release as such."""
        found = {split: len(samples) for split, samples in self.splits.items()}
        if any(found[split] == images for split, images in self.old_release.items()):
            self.fault(
                "last: this is the old release ("
                + ", ".join(f"{split} {images}" for split, images in found.items())
                + " images), whose numbers do not compare. Get the present one."
            )
        return super().verify()

    def _list_train(self) -> Iterator[Sample]:
        images = [
            (path, int(name["pid"]), name["clothes"])
            for path, name in self._by_person(self.folder("train"))
        ]
        outfits = sorted({(pid, clothes) for _, pid, clothes in images})
        number = {outfit: clothes_id for clothes_id, outfit in enumerate(outfits)}
        for path, pid, clothes in images:
            yield Sample(path, pid=pid, clothes_id=number[pid, clothes])

    def _folder(self, part: str) -> Path:
        *val, kind = part.split()
        return self.folder(*(val or ["test"]), kind)

    def _by_person(self, folder: Path) -> Iterator[tuple[str, re.Match[str]]]:
        """Yield the images in the folders of the people; one of somebody else is a fault."""
        for person in self.people(folder):
            for path, name in self.images(person, _NAME):
                if int(name["pid"]) == int(person.name):
                    yield path, name
                else:
                    self.fault(f"{path} is in the folder of person {person.name} by mistake.")
