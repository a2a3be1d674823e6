"""PRCC: 221 people under three cameras; A and B share clothes, C shows others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.ondisk import OnDisk
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample
from ccreid.errors import DataError

_CAMERAS = {"A": 0, "B": 1, "C": 2}
_NAMES = {camid: letter for letter, camid in _CAMERAS.items()}
_A, _B, _C = (frozenset({camera}) for camera in _CAMERAS.values())
_B_TO_A, _C_TO_A = (f"queries of camera {letter}, gallery of camera A" for letter in "BC")
_TRAIN_NAME = re.compile(r"^(?P<camera>[ABC])_cropped_rgb(?P<number>\d+)\.jpg$", re.IGNORECASE)
_TEST_NAME = re.compile(r"^cropped_rgb(?P<number>\d+)\.jpg$", re.IGNORECASE)


class PRCC(OnDisk):
    """PRCC (Yang, Wu, Zheng: TPAMI 2021).

    33,698 images of 221 people. The camera decides the outfit: A and B show the same clothes, C
    others. Evaluated multi-shot against all images of camera A, the de-facto standard since CAL:
    `sc` asks with camera B, `cc` with camera C. The original protocol, `sc_single_shot` and
    `cc_single_shot`, has one gallery image per person and averages ten draws; a rank-1 of one must
    not stand beside an mAP of the other. The `val` folder holds more images of the training people
    and is not used, only counted.

    Args:
        root: the folder that holds `prcc/`, or that folder itself.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    name = "prcc"
    protocols = (
        Protocol("sc", "standard", _B, _A, camera_names=_B_TO_A),
        Protocol("cc", "standard", _C, _A, camera_names=_C_TO_A),
        Protocol("sc_single_shot", "standard", _B, _A, single_shot=10, camera_names=_B_TO_A),
        Protocol("cc_single_shot", "standard", _C, _A, single_shot=10, camera_names=_C_TO_A),
    )
    counts: ClassVar = {
        "train": SplitCount(150, 17_896),
        "query": SplitCount(71, 3_873 + 3_543),
        "query B": SplitCount(71, 3_873),  # same clothes; many papers swap these two numbers
        "query C": SplitCount(71, 3_543),  # changed clothes
        "gallery": SplitCount(71, 3_384),
        "val": SplitCount(150, 5_002),  # of the people of train
        "total": SplitCount(221, 33_698),
    }
    licence = "academic use"
    url = "http://www.isee-ai.cn/~yangqize/clothing.html"
    citation = (
        "Yang, Wu, Zheng: Person Re-identification by Contour Sketch under Moderate Clothing "
        "Change. IEEE TPAMI 43(6), 2021."
    )
    layout = (
        "  prcc/rgb/train/<pid>/{A,B,C}_cropped_rgb<n>.jpg    150 people, 17,896 images\n"
        "  prcc/rgb/test/{A,B,C}/<pid>/cropped_rgb<n>.jpg     71 people, 3,384 + 3,873 + 3,543"
    )
    cameras = _NAMES
    val_parts = ("val",)
    total_without_val = SplitCount(221, 33_698 - 5_002)
    folders = ("prcc", "PRCC/prcc", "PRCC")
    inside = "rgb/train"

    def list_split(self, split: str) -> Iterator[Sample]:
        """Yield the samples of a split; the query split is camera B, then camera C."""
        if (self.root / "test" / "query").is_dir() or (self.root / "rgb/test/query").is_dir():
            raise DataError(
                f"{self.root} is a re-foldered copy of PRCC (it has test/query): the protocols "
                f"cannot be trusted on it.\n{self.remedy()}"
            )
        if split in ("train", "val"):
            for person in self.people(self.folder("rgb", split)):
                for path, name in self.images(person, _TRAIN_NAME):
                    yield _sample(path, int(person.name), name["camera"].upper())
            return
        for camera in {"query": "BC", "gallery": "A"}[split]:
            for person in self.people(self.folder("rgb", "test", camera)):
                for path, _ in self.images(person, _TEST_NAME):
                    yield _sample(path, int(person.name), camera)

    def has_val(self, part: str) -> bool:
        """Return whether there is a `val` folder."""
        return (self.root / "rgb" / part).is_dir()

    def found_counts(self) -> dict[str, SplitCount]:
        """Return the size of every split, and of the queries of cameras B and C alone."""
        queries = {
            f"query {letter}": SplitCount.of([s for s in self.query if s.camid == _CAMERAS[letter]])
            for letter in "BC"
        }
        return {**super().found_counts(), **queries}

    def verify(self) -> list[str]:
        """Compare the lists with the published counts; explain folders B and C when swapped."""
        expected, found = self.expected_counts(), self.found_counts()
        same, changed = (expected.get(f"query {letter}") for letter in "BC")
        if same != changed and (found["query B"], found["query C"]) == (changed, same):
            self.fault(
                f"prcc: folders B and C under {self.root / 'rgb' / 'test'} are swapped: B (same "
                f"clothes) should hold {same} and C (changed clothes) {changed}. Many papers and "
                "loaders print these two numbers the wrong way round; rename the folders as the "
                "authors' archive has them."
            )
        return [*super().verify(), *self._shared_with_val()]

    def _shared_with_val(self) -> list[str]:
        """Say which file names are in `train` and in `val`: of the authors' archive one is."""
        train, val = (
            {_below(sample.path) for sample in part}
            for part in (self.train, self.val.get("val", ()))
        )
        if not (both := sorted(train & val)):
            return []
        return [
            f"prcc: rgb/train and rgb/val share {len(both)} file names, the first is {both[0]}."
        ]


def _below(path: str) -> str:
    """Return an image's own name and that of its folder."""
    return "/".join(Path(path).parts[-2:])


def _sample(path: str, pid: int, camera: str) -> Sample:
    outfit = int(camera == "C")
    return Sample(path, pid=pid, camid=_CAMERAS[camera], clothes_id=2 * pid + outfit)
