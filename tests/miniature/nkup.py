"""NKUP in miniature: two people are asked for, two more are distractors in the gallery."""

from pathlib import Path

from tests.miniature.pictures import write_foreign_files, write_pictures

TRAIN = ("0001_D0912_C01S01_00010", "0001_D1103_C15S02_00020", "0002_D0912_C03S01_00151")
QUERY = ("0005_D0912_C03S01_00151", "0006_D0913_C10S01_00001")
GALLERY = (
    "0005_D1010_C03S01_00001",
    "0005_D1010_C04S01_00002",
    "0006_D1011_C02S01_00003",
    "0007_D1011_C03S01_00004",
    "0008_D1012_C10S02_00005",
)


def write_nkup(root: Path, name: str = "NKUP") -> Path:
    """Write `NKUP/` below `root` and return it."""
    splits = (("bounding_box_train", TRAIN), ("query", QUERY), ("bounding_box_test", GALLERY))
    for folder, names in splits:
        write_pictures(root / name / folder, (f"{image}.jpg" for image in names))
        write_foreign_files(root / name / folder, f"{names[0]}.jpg")
    return root / name
