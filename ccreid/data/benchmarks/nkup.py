"""NKUP: 107 people on a campus over months, under fifteen cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from ccreid.data.benchmarks.base import SplitCount, outfit_id
from ccreid.data.benchmarks.ondisk import FlatFolders, numbered_cameras
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample


class NKUP(FlatFolders):
    """NKUP (Wang et al.: Int J Intell Syst 2020).

    9,738 images of 107 people, without clothes labels (the day in a name is only a hint of them).
    No gallery image of a query's person is from the query's day, so the standard rule already is
    the cloth-changing one. 28 people of the gallery are asked for by no query: they are distractors
    and stay. NKUP+ is another benchmark.

    Args:
        root: the folder that holds `NKUP/`, or that folder itself.
        day_as_outfit: label a person's clothes by the day, for methods that need labels. A guess:
            the authors know of people who wear the same on two days, or change within one.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    name = "nkup"
    protocols = (Protocol("general"),)
    counts: ClassVar = {
        "train": SplitCount(40, 5_336),
        "query": SplitCount(39, 332),
        "query cameras": SplitCount(None, 14, what="cameras"),
        "gallery": SplitCount(67, 4_070),
    }
    licence = "academic use only"
    url = "https://github.com/nkicsl/NKUP-dataset"
    citation = (
        "Wang, Ma, Chen, Yang, Zhou, Li: A Benchmark for Clothes Variation in Person "
        "Re-identification. International Journal of Intelligent Systems, 2020."
    )
    layout = (
        "  NKUP/{bounding_box_train,query,bounding_box_test}/"
        "<pid>_D<mmdd>_C<camera>S<video>_<frame>.jpg\n"
        "  (three archives; 5,336 + 332 + 4,070 images)"
    )
    cameras = numbered_cameras(15)
    camera_numbers_are_published = False
    one_numbering = None  # 107 people are the sum of the published 40 and 67
    folders = ("NKUP",)
    inside = "bounding_box_train"
    split_folders: ClassVar = {
        "train": "bounding_box_train",
        "query": "query",
        "gallery": "bounding_box_test",
    }
    pattern = re.compile(
        r"^(?P<pid>\d{4})_D(?P<day>\d{4})_C(?P<camera>\d{2})S(?P<video>\d{2})_(?P<frame>\d+)\.jpg$",
        re.IGNORECASE,
    )

    def __init__(self, root: Path | str = "data", day_as_outfit: bool = False) -> None:
        self.day_as_outfit = day_as_outfit
        super().__init__(root)

    @classmethod
    def lacks(cls, settings: Mapping[str, Any]) -> dict[str, str]:
        """Return what the train images have in no case; the day may stand for the outfit."""
        lacking = super().lacks(settings)
        if not settings.get("day_as_outfit", False):
            lacking["clothes"] = "data.benchmark.day_as_outfit=true takes the day for the outfit."
        return lacking

    def found_counts(self) -> dict[str, SplitCount]:
        """Return the size of every split and of the whole, and how many cameras queries have."""
        cameras = len({sample.camid for sample in self.query})
        return {
            **super().found_counts(),
            "query cameras": SplitCount(None, cameras, what="cameras"),
        }

    def sample(self, path: str, name: re.Match[str], split: str) -> Sample:
        """Return the sample of e.g. `0005_D0912_C03S01_00151.jpg`."""
        pid, camid = int(name["pid"]), int(name["camera"]) - 1
        outfit = outfit_id(pid, int(name["day"])) if self.day_as_outfit else -1
        return Sample(path, pid, camid, outfit)
