"""virtual-factors: people of `virtual` rendered again with a single factor changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ccreid.data.benchmarks.base import outfit_id
from ccreid.data.files import member_path, open_archive, read_bytes, sha256
from ccreid.data.sample import Sample
from ccreid.errors import DataError

# Made from the same works as virtual.zip: virtual-CREDITS.txt holds for both.
ARCHIVE = Path(__file__).parent / "benchmarks" / "virtual-factors.zip"
SHA256 = "9ab95fc4e87660bf974c75feb91f4e616b3c7455b5d9676efb49933f0661c9a5"

LEVELS = {
    "clothes": ("outfit 1", "outfit 2", "outfit 3", "outfit 4"),
    "camera": ("camera 1", "camera 2", "camera 3", "camera 4"),
    "yaw": ("0°", "90°", "180°", "270°"),
    "pose": ("walking", "standing", "phone"),
}
"""What is changed, and to what. Outfits and cameras are the person's own; degrees count from the
first image. An outfit may bring a hat, a bag or glasses along; another camera is another place."""


@dataclass(frozen=True)
class ControlledImages:
    """Images of P people, and where among them the controlled pairs stand.

    All factors share the person's first image, from which one factor at a time departs.

    Attributes:
        samples: every image once, people of the test part of `virtual`.
        levels: by factor, positions in `samples`, int64 [P, L]; the first column is the first
            image, the others differ from it in this factor alone.
        others: positions of other people as the first image shows this one: same camera, same side,
            same pose, clothes of their own; int64 [P, O]. They have the person's sex, since a
            camera saw either men or women.
    """

    samples: tuple[Sample, ...]
    levels: Mapping[str, NDArray[np.int64]]
    others: NDArray[np.int64]

    @property
    def pids(self) -> NDArray[np.int64]:
        """The people in the order of the rows, int64 [P]."""
        firsts = self.levels["clothes"][:, 0]
        return np.array([self.samples[i].pid for i in firsts], dtype=np.int64)


def controlled_images() -> ControlledImages:
    """Read the archive that ships with the library.

    Raises:
        DataError: the archive is missing or was altered, or holds members that none should have.
    """
    open_archive(ARCHIVE)  # says what is wrong with it
    if sha256(ARCHIVE) != SHA256:
        raise DataError(
            f"{ARCHIVE} is not the archive that ccreid ships (its SHA-256 differs). "
            "Install the package again."
        )
    records = json.loads(read_bytes(member_path(ARCHIVE, "virtual-factors/index.json")))
    # A person's first image lies in the archive once per factor, each time the same bytes.
    records = [r for r in records if r["level"] > 0 or r["factor"] == "camera"]
    records.sort(key=lambda record: record["file"])
    place = {(r["pid"], r["factor"], r["level"]): i for i, r in enumerate(records)}
    samples = tuple(
        Sample(
            path=member_path(ARCHIVE, f"virtual-factors/{record['file']}"),
            pid=record["pid"],
            camid=record["camid"],
            clothes_id=outfit_id(record["pid"], record["outfit"]),
        )
        for record in records
    )
    pids = sorted({sample.pid for sample in samples})
    firsts = [place[pid, "camera", 0] for pid in pids]
    levels = {
        factor: np.array(
            [
                [first, *(place[pid, factor, level] for level in range(1, len(names)))]
                for pid, first in zip(pids, firsts, strict=True)
            ],
            dtype=np.int64,
        )
        for factor, names in LEVELS.items()
    }
    cameras = levels["camera"].ravel()
    others = [_in_the_same_camera(samples, first, cameras) for first in firsts]
    return ControlledImages(samples, levels, np.array(others, dtype=np.int64))


def _in_the_same_camera(
    samples: tuple[Sample, ...], first: int, among: NDArray[np.int64]
) -> list[int]:
    """Return the positions of the other people that the camera of `first` saw."""
    own = samples[first]
    return [i for i in among if samples[i].camid == own.camid and samples[i].pid != own.pid]
