"""PRCC: 221 people under three cameras; A and B share clothes, C shows others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from ccreid.data.benchmarks.base import Benchmark, SplitCount, find_root, how_to_get, list_images
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample
from ccreid.errors import DataError

_CAMERAS = {"A": 0, "B": 1, "C": 2}
_TRAIN_NAME = re.compile(r"^(?P<camera>[ABC])_cropped_rgb(?P<number>\d+)\.jpg$", re.IGNORECASE)
_TEST_NAME = re.compile(r"^cropped_rgb(?P<number>\d+)\.jpg$", re.IGNORECASE)


class PRCC(Benchmark):
    """PRCC (Yang, Wu, Zheng: TPAMI 2021).

    33,698 images of 221 people. The camera decides the outfit: A and B show the same clothes, C
    others. Evaluated multi-shot against all images of camera A, the de-facto standard since CAL:
    `sc` asks with camera B, `cc` with camera C. The `val` folder holds images of the training
    people and is not used.

    Args:
        root: the folder that holds `prcc/`, or that folder itself.

    Raises:
        DataError: the folder is missing, nested otherwise, or does not have the published counts.
    """

    name = "prcc"
    protocols = (
        Protocol("sc", query_cameras=frozenset({1}), gallery_cameras=frozenset({0})),
        Protocol("cc", query_cameras=frozenset({2}), gallery_cameras=frozenset({0})),
    )
    counts: ClassVar = {
        "train": SplitCount(150, 17_896),
        "query": SplitCount(71, 3_873 + 3_543),  # B (same clothes) + C (changed)
        "gallery": SplitCount(71, 3_384),
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

    def __init__(self, root: Path | str = "data") -> None:
        self.root = find_root(type(self), root, ("prcc", "PRCC", "PRCC/prcc"), "rgb/train")
        rgb = self.root / "rgb"
        if (self.root / "test" / "query").is_dir() or (rgb / "test" / "query").is_dir():
            raise DataError(
                f"{self.root} is a re-foldered copy of PRCC (it has test/query): the protocols "
                f"cannot be trusted on it.\n{self.remedy()}"
            )
        for folder in (rgb / "train", *(rgb / "test" / camera for camera in _CAMERAS)):
            if not folder.is_dir():
                raise DataError(f"{folder} does not exist.\n{self.remedy()}")
        self.train = tuple(self._list_train(rgb / "train"))
        test = {camera: self._list_test(rgb / "test" / camera, camera) for camera in _CAMERAS}
        self.gallery = tuple(test["A"])
        self.query = tuple(test["B"] + test["C"])
        self.verify()

    def remedy(self) -> str:
        """Return where the loader looked, what it expected and how to get it."""
        return f"Looked in {self.root.absolute()}.\n{how_to_get(type(self))}"

    def _list_train(self, folder: Path) -> list[Sample]:
        samples = []
        for person in _people(folder, self):
            for image in list_images(person):
                match = _TRAIN_NAME.match(image.name)
                if match is None:
                    raise DataError(f"Unexpected name {image}.\n{self.remedy()}")
                samples.append(_sample(image, int(person.name), match["camera"].upper()))
        return samples

    def _list_test(self, folder: Path, camera: str) -> list[Sample]:
        samples = []
        for person in _people(folder, self):
            for image in list_images(person):
                if _TEST_NAME.match(image.name) is None:
                    raise DataError(f"Unexpected name {image}.\n{self.remedy()}")
                samples.append(_sample(image, int(person.name), camera))
        return samples


def _people(folder: Path, benchmark: PRCC) -> list[Path]:
    people = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    for person in people:
        if not person.name.isdecimal():
            raise DataError(f"{person} should be a person's number.\n{benchmark.remedy()}")
    return people


def _sample(image: Path, pid: int, camera: str) -> Sample:
    outfit = int(camera == "C")
    return Sample(str(image), pid=pid, camid=_CAMERAS[camera], clothes_id=2 * pid + outfit)
