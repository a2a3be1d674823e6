"""CCVID: video of 226 people walking, 2,856 tracklets in three sessions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.ondisk import OnDisk
from ccreid.data.clips import CAL_CLIPS, ClipRule
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample
from ccreid.errors import some

_LINE = re.compile(
    r"^(?P<folder>session(?P<session>[123])/(?P<pid>\d{3})_(?P<walk>\d{2}))"
    r"\t(?P<person>\d+)\t(?P<clothes>\w+)$"
)
_FRAME = re.compile(r"^\d{5}\.jpg$", re.IGNORECASE)
_WALKS = 12  # of a session
_ENDS = ("shortest", "longest")


class CCVID(OnDisk):
    """CCVID (Gu, Chang, Ma, Bai, Shan, Chen: CVPR 2022), built on the gait database FVG.

    347,833 frames in tracklets of 27 to 410. FVG has no cameras: by the authors' convention the
    walk (1 to 12) plays the camera, 13 to 24 in session 3; sessions 1 and 2 share numbers. Outfits
    are numbered per person. The feature of a tracklet is the mean over all clips that cover it.

    Args:
        root: the folder that holds `CCVID/`, or that folder itself.
        clips: which frames make a clip; another rule gives other numbers than the published.

    Raises:
        DataError: the folder, a list or a tracklet is missing, a list has a line of another form,
            or a certain count differs.
    """

    name = "ccvid"
    protocols = (Protocol("general"), Protocol("cc", rule="cc"), Protocol("sc", rule="sc"))
    counts: ClassVar = {
        "train": SplitCount(75, 948, what="tracklets"),
        "query": SplitCount(151, 834, what="tracklets"),
        "gallery": SplitCount(151, 1_074, what="tracklets"),
        "total": SplitCount(226, 2_856, what="tracklets"),
        "session 1": SplitCount(None, 1_764, what="tracklets"),
        "session 2": SplitCount(None, 948, what="tracklets"),
        "session 3": SplitCount(None, 144, what="tracklets"),
        "frames": SplitCount(None, 347_833, what="frames"),
        "shortest tracklet": SplitCount(None, 27, what="frames"),
        "longest tracklet": SplitCount(None, 410, what="frames"),
        "train outfits": SplitCount(None, 159, what="outfits"),
        "test outfits": SplitCount(None, 321, what="outfits"),
    }
    licence = "CC BY-NC-SA 4.0 on top of FVG's terms; faces must be mosaicked in every figure"
    url = "https://github.com/guxinqian/Simple-CCReID"
    citation = (
        "Gu, Chang, Ma, Bai, Shan, Chen: Clothes-Changing Person Re-identification with RGB "
        "Modality Only. CVPR 2022."
    )
    layout = (
        "  CCVID/session{1,2,3}/<pid>_<walk>/00001.jpg ...\n"
        "  CCVID/{train,query,gallery}.txt, one line per tracklet: "
        "session1/001_01<tab>001<tab>u0_l0_s0_c0_a0"
    )
    hide_faces = True
    cameras: ClassVar = {camid: f"{camid:02d}" for camid in range(1, 2 * _WALKS + 1)}
    folders = ("CCVID",)
    inside = "train.txt"

    def __init__(self, root: Path | str = "data", clips: ClipRule = CAL_CLIPS) -> None:
        self.clips = clips
        super().__init__(root)

    def list_split(self, split: str) -> Iterator[Sample]:
        """Yield the tracklets that a split's list names, in sorted order."""
        for line in sorted(self._lines[split], key=lambda line: line["folder"]):
            folder = self.root / line["folder"]
            frames = self._frames(folder, split)
            if not frames:
                continue
            session, pid, walk = (int(line[name]) for name in ("session", "pid", "walk"))
            yield Sample(
                str(folder),
                pid=pid,
                camid=walk + _WALKS if session == 3 else walk,
                clothes_id=self._clothes_ids[line["pid"], line["clothes"]],
                tracklet_id=(session * 1000 + pid) * 100 + walk,
                frames=frames,
            )

    def found_counts(self) -> dict[str, SplitCount]:
        """Return the sizes in tracklets and frames, and how many outfits there are."""
        splits = {
            name: SplitCount(count.identities, count.images, what="tracklets")
            for name, count in super().found_counts().items()
        }
        tracklets = (*self.train, *self.query, *self.gallery)
        lengths = [len(sample.frames) for sample in tracklets]
        sessions = Counter(sample.tracklet_id // 100_000 for sample in tracklets)
        return {
            **splits,
            **{
                f"session {number}": SplitCount(None, sessions[number], what="tracklets")
                for number in (1, 2, 3)
            },
            "frames": SplitCount(None, sum(lengths), what="frames"),
            "shortest tracklet": SplitCount(None, min(lengths, default=0), what="frames"),
            "longest tracklet": SplitCount(None, max(lengths, default=0), what="frames"),
            "train outfits": _outfits(self.train),
            "test outfits": _outfits((*self.query, *self.gallery)),
        }

    def verify(self) -> list[str]:
        """Compare the lists with the published counts; name the tracklets that are not whole."""
        tracklets = (*self.train, *self.query, *self.gallery)
        self._check_lengths(tracklets)
        return [*super().verify(), *_incomplete(tracklets)]

    def _check_lengths(self, tracklets: Sequence[Sample]) -> None:
        counts = self.expected_counts()
        ends = [counts[f"{e} tracklet"].images or 0 for e in _ENDS if f"{e} tracklet" in counts]
        for sample in tracklets if len(ends) == len(_ENDS) else ():
            if not ends[0] <= len(sample.frames) <= ends[1]:
                self.fault(
                    f"{sample.path} holds {len(sample.frames)} frames; tracklets have {ends[0]} to "
                    f"{ends[1]}."
                )

    def _frames(self, folder: Path, split: str) -> tuple[str, ...]:
        if not folder.is_dir():
            self.fault(f"{folder} does not exist, but {split}.txt names it.")
            return ()
        frames = tuple(path for path, _ in self.images(folder, _FRAME))
        if not frames:
            self.fault(f"{folder} holds no frame, but {split}.txt names it.")
        elif _number(frames[0]) != 1:
            self.fault(f"{folder} begins with {Path(frames[0]).name}, not with 00001.jpg.")
        return frames

    @cached_property
    def _lines(self) -> dict[str, list[re.Match[str]]]:
        lines = {split: list(self._read(split)) for split in ("train", "query", "gallery")}
        seen: dict[str, str] = {}
        for split, tracklets in lines.items():
            for line in tracklets:
                if (other := seen.setdefault(line["folder"], split)) != split:
                    self.fault(f"{line['folder']} is in {other}.txt and in {split}.txt.")
        return lines

    @cached_property
    def _clothes_ids(self) -> dict[tuple[str, str], int]:
        outfits = {(line["pid"], line["clothes"]) for part in self._lines.values() for line in part}
        return {outfit: number for number, outfit in enumerate(sorted(outfits))}

    def _read(self, split: str) -> Iterator[re.Match[str]]:
        path = self.root / f"{split}.txt"
        if not path.is_file():
            self.fault(f"{path} does not exist: it says which tracklets are {split}.")
            return
        known = set()
        for number, text in self.lines(path):
            line = _LINE.match(text.rstrip())
            if line is None or int(line["pid"]) != int(line["person"]):
                self.fault(
                    f"{path}, line {number}: expected session1/001_01<tab>001<tab>u0_l0_s0_c0_a0 "
                    f"but found '{text}'."
                )
            elif not 1 <= int(line["walk"]) <= _WALKS:
                self.fault(
                    f"{path}, line {number}: {line['folder']}, but walks are 01 to {_WALKS}."
                )
            elif line["folder"] in known:
                self.fault(f"{path}, line {number}: {line['folder']} is named a second time.")
            else:
                known.add(line["folder"])
                yield line


def _outfits(tracklets: tuple[Sample, ...]) -> SplitCount:
    return SplitCount(None, len({sample.clothes_id for sample in tracklets}), what="outfits")


def _number(frame: str) -> int:
    return int(Path(frame).stem)


def _incomplete(tracklets: Sequence[Sample]) -> Iterator[str]:
    """Yield a sentence on numbers left out. That the authors left none out is not published."""
    gaps = [
        f"{'/'.join(Path(sample.path).parts[-2:])} ({_number(sample.frames[-1])} is the last of "
        f"{len(sample.frames)})"
        for sample in tracklets
        if len(sample.frames) < _number(sample.frames[-1])
    ]
    if gaps:
        yield f"ccvid: the numbers of the frames have gaps in {some(gaps)}."
