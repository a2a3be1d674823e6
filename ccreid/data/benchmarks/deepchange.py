"""DeepChange: 1,121 people over a year under seventeen cameras, as tracklets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import ClassVar

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.ondisk import OnDisk
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample

_SETS = {"train": "train-set", "query": "test-set-query", "gallery": "test-set-gallery"}
_VAL_SETS = {"val query": "val-set-query", "val gallery": "val-set-gallery"}
_LINE = re.compile(
    r"^(?P<file>(?P<person>[A-Za-z](?P<pid>\d{1,12}))_[A-Za-z](?P<camera>\d{1,12})_"
    r"(?P<clothes>[^_.,]+)(?:_[^,/]*)?\.jpg),(?P<tracklet>\d{1,18})$",  # ids are int64
    re.IGNORECASE,
)


class DeepChange(OnDisk):
    """DeepChange (Xu, Zhu: ICCV 2023).

    178,407 images of 1,121 people, validation included. The tracklet plays the camera: a match of
    the same camera counts when it is from another tracklet. The lists beside the folders say which
    images take part. The two `val-set` folders are not used, as in CAL; what their lists name is
    counted. Cameras keep the numbers of the file names.

    Args:
        root: the folder that holds `DeepChangeDataset/`, or that folder itself.

    Raises:
        DataError: the folder or a list is missing, a list names a missing image or has a line of
            another form, or a certain count differs.
    """

    name = "deepchange"
    protocols = (Protocol("general", camera="tracklet_id"),)
    counts: ClassVar = {  # all but the total are remembered; they sum to it
        "train": SplitCount(450, 75_083, certain=False),
        "query": SplitCount(521, 17_527, certain=False),
        "gallery": SplitCount(521, 62_956, certain=False),
        "val query": SplitCount(150, 4_976, certain=False),
        "val gallery": SplitCount(150, 17_865, certain=False),
        "total": SplitCount(1_121, 178_407),
    }
    licence = "signed DeepChange Access Agreement; faces must be blocked in every figure"
    url = "https://github.com/PengBoXiangShang/deepchange"
    citation = (
        "Xu, Zhu: DeepChange: A Long-Term Person Re-Identification Benchmark with Clothes Change. "
        "ICCV 2023."
    )
    layout = (
        "  DeepChangeDataset/{train-set,test-set-query,test-set-gallery}/"
        "P<pid>_C<camera>_<clothes>_....jpg\n"
        "  DeepChangeDataset/<folder>-bbox.txt, one line per image: <file>.jpg,<tracklet>"
    )
    hide_faces = True
    cameras: ClassVar = {number: str(number) for number in range(1, 18)}
    camera_numbers_are_published = False
    one_numbering = None
    val_parts = tuple(_VAL_SETS)
    total_without_val = SplitCount(1_121 - 150, 178_407 - 4_976 - 17_865, certain=False)
    folders = ("DeepChangeDataset", "DeepChange", "DeepChange/DeepChangeDataset")
    inside = "train-set"

    def list_split(self, split: str) -> Iterator[Sample]:
        """Yield the samples that a split's list names, in sorted order."""
        if split in _VAL_SETS:  # only counted, by the list alone
            for line in self._read(f"{_VAL_SETS[split]}-bbox.txt"):
                yield Sample(line["file"], int(line["pid"]), int(line["camera"]))
            return
        folder = self.folder(_SETS[split])
        lines = self._lines[split]
        entries = self.entries(folder)
        there = {path.name for path in self.image_files(entries)}
        if missing := [line["file"] for line in lines if line["file"] not in there]:
            self.fault(
                f"{folder} lacks {len(missing)} of the {len(lines)} images that {folder.name}"
                f"-bbox.txt names, the first is {missing[0]}."
            )
        listed = {line["file"] for line in lines}
        self.num_foreign_files += sum(path.name not in listed for path in entries)
        for line in sorted(lines, key=lambda line: line["file"]):
            if line["file"] not in there:
                continue
            yield Sample(
                str(folder / line["file"]),
                pid=int(line["pid"]),
                camid=int(line["camera"]),
                clothes_id=self._clothes_ids[_outfit(split, line)],
                tracklet_id=int(line["tracklet"]),
            )

    def has_val(self, part: str) -> bool:
        """Return whether there is the list of a validation set."""
        return (self.root / f"{_VAL_SETS[part]}-bbox.txt").is_file()

    def verify(self) -> list[str]:
        """Compare the lists with the published counts; find images that a list names twice."""
        return [*super().verify(), *self._named_twice()]

    def _named_twice(self) -> Iterator[str]:
        """Yield a sentence per list that repeats lines; an image in two tracklets is a fault."""
        for split, lines in self._lines.items():
            name = f"{_SETS[split]}-bbox.txt"
            known: dict[str, str] = {}
            again = []
            for line in lines:
                file, tracklet = line.group("file", "tracklet")
                if file not in known:
                    known[file] = tracklet
                elif known[file] == tracklet:
                    again.append(file)
                else:
                    self.fault(f"{name}: {file} is in the tracklets {known[file]} and {tracklet}.")
            if again:
                number = len(again)
                yield f"deepchange: {name} repeats lines ({number}), the first names {again[0]}."

    @cached_property
    def _lines(self) -> dict[str, list[re.Match[str]]]:
        return {split: list(self._read(f"{name}-bbox.txt")) for split, name in _SETS.items()}

    @cached_property
    def _clothes_ids(self) -> dict[tuple[bool, str, str], int]:
        outfits = {_outfit(split, line) for split, lines in self._lines.items() for line in lines}
        return {outfit: number for number, outfit in enumerate(sorted(outfits))}

    def _read(self, name: str) -> Iterator[re.Match[str]]:
        path = self.root / name
        if not path.is_file():
            self.fault(
                f"{path} does not exist: the list says which images take part and their tracklets, "
                "a folder alone is not enough."
            )
            return
        for number, line in self.lines(path):
            match = _LINE.match(line.strip())
            if match is None:
                self.fault(
                    f"{path}, line {number}: expected <file>.jpg,<tracklet> but found '{line}'."
                )
            else:
                yield match


def _outfit(split: str, line: re.Match[str]) -> tuple[bool, str, str]:
    """Name an outfit: clothes are numbered per person, and test people are other people."""
    return split == "train", line["person"], line["clothes"]
