"""Celeb-reID and Celeb-reID-light: street snapshots of celebrities, without cameras."""

from __future__ import annotations

import re
from typing import ClassVar

from ccreid.data.benchmarks.base import SplitCount, outfit_id
from ccreid.data.benchmarks.ondisk import FlatFolders
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample


class CelebReID(FlatFolders):
    """Celeb-reID (Huang et al.: IEEE TCSVT 2020).

    34,186 images of 1,052 people, without clothes labels. There is no camera, so no gallery image
    is ever junk. (The authors' own evaluator takes the first digit of the image number as a camera
    and interpolates AP: its numbers are not comparable.) Numbers of test people start again at 1:
    a train and a test person of the same number are two people.

    Args:
        root: the folder that holds `Celeb-reID/`, or that folder itself.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    name = "celeb_reid"
    protocols = (Protocol("general", rule="none"),)
    counts: ClassVar = {
        "train": SplitCount(632, 20_208),
        "query": SplitCount(420, 2_972),
        "gallery": SplitCount(420, 11_006),
        "total": SplitCount(1_052, 34_186),
    }
    licence = "research only, no redistribution, non-commercial"
    url = "https://github.com/Huang-3/Celeb-reID"
    citation = (
        "Huang, Xu, Wu, Zhong, Zhang, Zhang: Beyond Scalar Neuron: Adopting Vector-Neuron Capsules "
        "for Long-Term Person Re-Identification. IEEE TCSVT 30(10), 2020."
    )
    layout = (
        "  Celeb-reID/{train,query,gallery}/<pid>_<image>_<z>.jpg\n"
        "  (20,208 + 2,972 + 11,006 images; <z> means nothing)"
    )
    unlabelled = frozenset({"captions", "cameras", "clothes"})
    one_numbering = False
    folders = ("Celeb-reID",)
    split_folders: ClassVar = {"train": "train", "query": "query", "gallery": "gallery"}
    pattern = re.compile(r"^(?P<pid>\d+)_(?P<image>\d+)_(?P<z>\d+)\.jpg$", re.IGNORECASE)

    def sample(self, path: str, name: re.Match[str], split: str) -> Sample:
        """Return the sample of e.g. `12_3_0.jpg`: the third image of person 12."""
        return Sample(path, pid=int(name["pid"]))


class CelebReIDLight(CelebReID):
    """Celeb-reID-light (Huang et al.: IJCNN 2019): every image shows its person in other clothes.

    10,842 images of 590 people. Layout, terms and protocol are Celeb-reID's; since no outfit is
    seen twice, every image is an outfit of its own (as MADE and DIFFER count them). MADE's
    evaluation takes the meaningless third number of a name for a camera; this one does not.

    Args:
        root: the folder that holds `Celeb-reID-light/`, or that folder itself.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    name = "celeb_reid_light"
    counts: ClassVar = {
        "train": SplitCount(490, 9_021),
        "query": SplitCount(100, 887),
        "gallery": SplitCount(100, 934),
        "total": SplitCount(590, 10_842),
    }
    citation = (
        "Huang, Wu, Xu, Zhong: Celebrities-ReID: A Benchmark for Clothes Variation in Long-Term "
        "Person Re-Identification. IJCNN 2019."
    )
    layout = (
        "  Celeb-reID-light/{train,query,gallery}/<pid>_<image>_<z>.jpg\n"
        "  (9,021 + 887 + 934 images; <z> means nothing)"
    )
    unlabelled = frozenset({"captions", "cameras"})
    folders = ("Celeb-reID-light",)

    def sample(self, path: str, name: re.Match[str], split: str) -> Sample:
        """Return the sample; a test person's outfits are apart from a train person's."""
        person = 2 * int(name["pid"]) + (split != "train")
        return Sample(path, pid=int(name["pid"]), clothes_id=outfit_id(person, int(name["image"])))
