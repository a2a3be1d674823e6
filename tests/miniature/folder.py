"""A user's own folder in miniature: six people, cameras 1 and 2, outfits a and b."""

from collections.abc import Iterable
from pathlib import Path

from tests.miniature.pictures import write_foreign_files, write_pictures

PEOPLE = ("Ana", "Bo", "Cy", "Di", "Ed", "Flo")
IMAGES = tuple(
    f"c{camera}_{outfit}_{n}.jpg" for camera in (1, 2) for outfit in "ab" for n in (1, 2)
)
PATTERNS = {"camera_pattern": r"c([0-9]+)_.*", "clothes_pattern": r"c[0-9]+_([a-z])_.*"}


def write_people(
    folder: Path, people: Iterable[str] = PEOPLE, images: Iterable[str] = IMAGES
) -> Path:
    """Write `<folder>/<person>/<image>` with a few foreign files and return `folder`."""
    people, images = tuple(people), tuple(images)
    write_pictures(folder, (f"{person}/{image}" for person in people for image in images))
    write_foreign_files(folder / people[0], images[0])  # four
    return folder


def write_folder(root: Path, people: tuple[str, ...] = PEOPLE) -> Path:
    """Write train with the first half of the people, query and gallery with the other."""
    half = len(people) // 2
    write_people(root / "train", people[:half])
    write_people(root / "query", people[half:], IMAGES[::2])
    write_people(root / "gallery", people[half:], IMAGES[1::2])
    return root
