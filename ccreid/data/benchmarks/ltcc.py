"""LTCC: 152 people under twelve cameras over two months."""

from __future__ import annotations

import re
from typing import ClassVar

from ccreid.data.benchmarks.base import SplitCount, outfit_id
from ccreid.data.benchmarks.ondisk import FlatFolders, numbered_cameras
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample


class LTCC(FlatFolders):
    """LTCC (Qian et al.: ACCV 2020).

    17,119 images of 152 people, 91 of whom change clothes; number 0 is a person like any other.
    `general`, `cc` and `sc` are all evaluated on the whole query and test folders, the de-facto
    standard since CAL: the people who never change stay in the gallery and their queries drop out
    of `cc`. An older protocol filters by the lists in `info/`; its numbers are higher and must
    never be put beside these.

    Args:
        root: the folder that holds `LTCC_ReID/`, or that folder itself.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    name = "ltcc"
    protocols = (Protocol("general"), Protocol("cc", rule="cc"), Protocol("sc", rule="sc"))
    counts: ClassVar = {  # images counted on disk, people per split remembered from the paper
        "train": SplitCount(77, 9_576, certain_identities=False),
        "query": SplitCount(75, 493, certain_identities=False),
        "gallery": SplitCount(75, 7_050, certain_identities=False),
        "total": SplitCount(152, 17_119),
        "train outfits": SplitCount(None, 256, certain=False, what="outfits"),
        "all outfits": SplitCount(None, 478, certain=False, what="outfits"),
    }
    licence = "academic use, by request to the authors"
    url = "https://naiq.github.io/LTCC_Perosn_ReID.html"
    citation = (
        "Qian, Wang, Zhang, Zhu, Fu, Xiang, Jiang, Xue: Long-Term Cloth-Changing Person "
        "Re-identification. ACCV 2020."
    )
    layout = (
        "  LTCC_ReID/{train,query,test}/<pid>_<outfit>_c<camera>_<frame>.png\n"
        "  (test is the gallery: 9,576 + 493 + 7,050 images)"
    )
    cameras = numbered_cameras(12)
    folders = ("LTCC_ReID", "LTCC/LTCC_ReID", "LTCC")
    split_folders: ClassVar = {"train": "train", "query": "query", "gallery": "test"}
    pattern = re.compile(
        r"^(?P<pid>\d+)_(?P<outfit>\d+)_c(?P<camera>\d+)_(?P<frame>\d+)\.png$", re.IGNORECASE
    )

    def sample(self, path: str, name: re.Match[str], split: str) -> Sample:
        """Return the sample of e.g. `144_1_c11_011239.png`; the middle number is the outfit."""
        pid = int(name["pid"])
        return Sample(path, pid, int(name["camera"]) - 1, outfit_id(pid, int(name["outfit"])))

    def found_counts(self) -> dict[str, SplitCount]:
        """Return the size of every split and of the whole, and how many outfits there are."""
        train, test = (
            {sample.clothes_id for sample in part}
            for part in (self.train, (*self.query, *self.gallery))
        )
        return {
            **super().found_counts(),
            "train outfits": SplitCount(None, len(train), what="outfits"),
            "all outfits": SplitCount(None, len(train | test), what="outfits"),
        }
