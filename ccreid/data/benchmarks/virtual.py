"""virtual: the rendered benchmark that comes with the library."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ccreid.data.benchmarks.base import SPLITS, Benchmark, SplitCount
from ccreid.data.files import member_path, open_archive, read_bytes, sha256
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample
from ccreid.errors import DataError

ARCHIVE = Path(__file__).parent / "virtual.zip"
SHA256 = "f6293f27e39504b48764c3fe3e7ed1fa8941a28fe4c622d7cc7f96653fe27266"

PERSPECTIVES = ("biometrics", "hairstyle", "clothing", "pose", "interaction", "environment")
"""What the six captions of an image describe, in their order."""

_NAME = re.compile(r"^(?P<pid>\d+)_o(?P<outfit>\d+)_c(?P<camera>\d+)_(?P<view>\d+)\.jpg$")
_OUTFITS = 1000  # more than any person owns: clothes_id = pid * 1000 + outfit is unique


class Virtual(Benchmark):
    """Rendered people who change clothes: 96 people, 384 outfits, 8 cameras, 1,920 images.

    Comes with exact parsing masks and six captions per image. Nobody in it exists, and its numbers
    must never be put beside those of real benchmarks.

    Args:
        archive: another archive of the same layout; None for the one that is shipped.

    Raises:
        DataError: no such archive, members that no archive should have, a wrong layout, or a
            shipped archive that was altered.
    """

    name = "virtual"
    protocols = (Protocol("general"), Protocol("sc", rule="sc"), Protocol("cc", rule="cc"))
    licence = "works under CC0 and CC BY 3.0 / 4.0, see virtual-CREDITS.txt"
    url = "this package"
    citation = "ccreid: a PyTorch Lightning library for cloth-changing person re-identification."
    layout = (
        "  <archive>.zip with one top folder holding\n"
        "    train/ query/ gallery/    <pid>_o<outfit>_c<camera>_<view>.jpg\n"
        "    masks/<split>/<same name>.png    captions.jsonl    identities.json"
    )
    counts: ClassVar = {
        "train": SplitCount(64, 1280),
        "query": SplitCount(32, 256),
        "gallery": SplitCount(32, 384),
    }

    def __init__(self, archive: Path | str | None = None) -> None:
        self.archive = ARCHIVE if archive is None else Path(archive).expanduser()
        self.root = self.archive
        members = open_archive(self.archive).namelist()
        self.is_shipped = archive is None
        if self.is_shipped and sha256(ARCHIVE) != SHA256:
            self.fault(
                f"{ARCHIVE} is not the archive that ccreid ships (its SHA-256 differs). "
                "Install the package again."
            )
        self._members = frozenset(members)
        tops = {member.split("/train/", 1)[0] for member in members if "/train/" in member}
        self._top = min(tops - {f"{top}/masks" for top in tops}, default="")
        if not self._top:
            raise DataError(f"No folder of this archive holds train/.\n{self.remedy()}")
        self.train, self.query, self.gallery = (self._list(split) for split in SPLITS)
        self.warnings = tuple(self.verify())

    def parsing_path(self, sample: Sample) -> str | None:
        """Return the mask's path; labels are described in the archive's README."""
        mask = self._relative(sample).replace(".jpg", ".png")
        member = f"{self._top}/masks/{mask}"
        return member_path(self.archive, member) if member in self._members else None

    def captions(self, sample: Sample) -> tuple[str, ...] | None:
        """Return the six captions in the order of `PERSPECTIVES`."""
        record = self._records.get(self._relative(sample))
        return None if record is None else tuple(record["captions"])

    def expected_counts(self) -> Mapping[str, SplitCount]:
        """Return the shipped archive's counts; another archive has its own."""
        return self.counts if self.is_shipped else {}

    def remedy(self) -> str:
        """Return where the archive is and what it should hold."""
        return f"Looked in {self.archive}, expected\n{self.layout}"

    @cached_property
    def identities(self) -> dict[int, dict[str, Any]]:
        """Per person: sex, age, measures and a biometric summary text."""
        text = self._read("identities.json")
        return {int(pid): record for pid, record in json.loads(text).items()}

    @cached_property
    def _records(self) -> dict[str, dict[str, Any]]:
        records = (json.loads(line) for line in self._read("captions.jsonl").splitlines())
        return {record["file"]: record for record in records}

    def _read(self, name: str) -> str:
        member = f"{self._top}/{name}"
        if member not in self._members:
            raise DataError(f"{self.archive} holds no {member}.\n{self.remedy()}")
        return read_bytes(member_path(self.archive, member)).decode()

    def _relative(self, sample: Sample) -> str:
        return "/".join(sample.path.rsplit("/", 2)[-2:])

    def _list(self, split: str) -> tuple[Sample, ...]:
        prefix = f"{self._top}/{split}/"
        samples = []
        for member in sorted(self._members):
            if not member.startswith(prefix) or member == prefix:
                continue
            match = _NAME.match(member.removeprefix(prefix))
            if match is None:
                self.fault(f"Unexpected name {member} in {self.archive}.")
                continue
            pid, outfit = int(match["pid"]), int(match["outfit"])
            samples.append(
                Sample(
                    path=member_path(self.archive, member),
                    pid=pid,
                    camid=int(match["camera"]),
                    clothes_id=pid * _OUTFITS + outfit,
                )
            )
        return tuple(samples)
