"""Celeb-reID and -light in miniature: test people are numbered from 1 like train people."""

from pathlib import Path

from tests.miniature.pictures import write_foreign_files, write_pictures

TRAIN = ("1_1_0", "1_2_0", "2_1_0", "2_10_1", "632_1_0")
QUERY = ("1_1_0", "2_1_0")
GALLERY = ("1_2_0", "1_11_0", "2_2_0", "2_3_1")


def write_celeb_reid(root: Path, name: str = "Celeb-reID") -> Path:
    """Write `Celeb-reID/` below `root` and return it."""
    for folder, names in (("train", TRAIN), ("query", QUERY), ("gallery", GALLERY)):
        write_pictures(root / name / folder, (f"{image}.jpg" for image in names))
        write_foreign_files(root / name / folder, f"{names[0]}.jpg")
    (root / name / "readme.txt").write_text("x_y_z: the y-th image of person x\n")
    return root / name
