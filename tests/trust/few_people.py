"""A benchmark of the virtual layout that is small enough to train on twenty times in a test."""

import zipfile
from pathlib import Path

from ccreid.data.benchmarks.virtual import ARCHIVE

IMAGES_OF_A_PERSON = 12


def write_few_people(path: Path, train: int = 4, test: int = 2) -> Path:
    """Copy some images of the first people, with masks and captions, from what is shipped."""
    people = {"train": range(1, 1 + train), "query": range(65, 65 + test)}
    people["gallery"] = people["query"]
    with zipfile.ZipFile(ARCHIVE) as shipped, zipfile.ZipFile(path, "w") as archive:
        names = sorted(shipped.namelist())
        for split, pids in people.items():
            for pid in pids:
                beginning = f"virtual/{split}/{pid:04d}_"
                images = [name for name in names if name.startswith(beginning)]
                for image in images[:: max(1, len(images) // IMAGES_OF_A_PERSON)]:
                    mask = image.replace("virtual/", "virtual/masks/").replace(".jpg", ".png")
                    for name in (image, mask):
                        archive.writestr(name, shipped.read(name))
        archive.writestr("virtual/captions.jsonl", shipped.read("virtual/captions.jsonl"))
    return path
