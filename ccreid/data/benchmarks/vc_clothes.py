"""VC-Clothes: 512 people of a video game under four cameras."""

from __future__ import annotations

import re
from typing import ClassVar

from ccreid.data.benchmarks.base import SplitCount, outfit_id
from ccreid.data.benchmarks.ondisk import FlatFolders, numbered_cameras
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample

_2_3, _3_4 = frozenset({1, 2}), frozenset({2, 3})  # the names count from 1, camid from 0


class VCClothes(FlatFolders):
    """VC-Clothes (Wan et al.: CVPR Workshops 2020).

    19,060 synthetic images of 512 people with two or three outfits each. The published columns
    choose cameras, not clothes: `sc` keeps cameras 2 and 3 and `cc` cameras 3 and 4 (as the file
    names count them) in query and gallery, both under the standard rule. The clothes rules over all
    cameras give other numbers, which are not the published ones.

    Args:
        root: the folder that holds `VC-Clothes/`, or that folder itself.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    name = "vc_clothes"
    protocols = (  # cameras count from 0 here and from 1 in file names
        Protocol("general"),
        Protocol("sc", "standard", _2_3, _2_3, camera_names="cameras 2 and 3 alone"),
        Protocol("cc", "standard", _3_4, _3_4, camera_names="cameras 3 and 4 alone"),
    )
    counts: ClassVar = {  # the split is remembered, its sum verified
        "train": SplitCount(256, 9_449, certain=False),
        "query": SplitCount(256, 1_020, certain=False),
        "gallery": SplitCount(256, 8_591, certain=False),
        "total": SplitCount(512, 19_060),
    }
    licence = "research"
    url = "https://wanfb.github.io/dataset.html"
    citation = (
        "Wan, Wu, Qian, Chen, Fu: When Person Re-identification Meets Changing Clothes. "
        "CVPR Workshops 2020."
    )
    layout = (
        "  VC-Clothes/{train,query,gallery}/<pid>-<camera>-<outfit>-<n>.jpg\n"
        "  (19,060 images; names with _ in place of - are Real28, another benchmark)"
    )
    cameras = numbered_cameras(4)
    one_numbering = None
    folders = ("VC-Clothes", "Vc-Clothes")
    split_folders: ClassVar = {"train": "train", "query": "query", "gallery": "gallery"}
    pattern = re.compile(
        r"^(?P<pid>\d+)-(?P<camera>\d+)-(?P<outfit>\d+)-(?P<number>\d+)\.jpg$", re.IGNORECASE
    )

    def sample(self, path: str, name: re.Match[str], split: str) -> Sample:
        """Return the sample of e.g. `012-3-01-05.jpg`."""
        pid = int(name["pid"])
        return Sample(path, pid, int(name["camera"]) - 1, outfit_id(pid, int(name["outfit"])))
