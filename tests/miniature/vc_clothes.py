"""VC-Clothes in miniature: 2 train and 2 test people under all four cameras."""

from pathlib import Path

from tests.miniature.pictures import write_foreign_files, write_pictures

TRAIN = tuple(f"{pid}-{cam}-{cam % 2 + 1:02d}-01" for pid in ("001", "010") for cam in (1, 2, 3, 4))
QUERY = tuple(
    f"{pid}-{cam}-{cam // 4 + 1:02d}-01" for pid in ("011", "100") for cam in (1, 2, 3, 4)
)
GALLERY = tuple(f"{name[:-2]}{n:02d}" for name in QUERY for n in (2, 3))


def write_vc_clothes(root: Path, name: str = "VC-Clothes") -> Path:
    """Write `VC-Clothes/` below `root` and return it."""
    for folder, names in (("train", TRAIN), ("query", QUERY), ("gallery", GALLERY)):
        write_pictures(root / name / folder, (f"{image}.jpg" for image in names))
        write_foreign_files(root / name / folder, f"{names[0]}.jpg")
    return root / name
