"""LaST in miniature: outfits are numbered per person; one gallery person has no query."""

from pathlib import Path

from tests.miniature.pictures import write_foreign_files, write_pictures

TRAIN = (
    "000001/000001_film_0001_1",
    "000001/000001_film_0002_2",
    "000002/000002_film_0003_1",
    "000002/000002_film_0004_1",
)
QUERY = ("000003_film_0001_1", "000005_film_0001_1")
GALLERY = (
    "000003/000003_film_0006_2",
    "000004/000004_film_0007_1",
    "000005/000005_film_0005_1",
)
VAL_QUERY = ("000009_film_0001_1",)
VAL_GALLERY = ("000009/000009_film_0002_1",)


def write_last(root: Path, name: str = "last") -> Path:
    """Write `last/` below `root` and return it."""
    for folder, names in (
        ("train", TRAIN),
        ("test/query", QUERY),
        ("test/gallery", GALLERY),
        ("val/query", VAL_QUERY),
        ("val/gallery", VAL_GALLERY),
    ):
        write_pictures(root / name / folder, (f"{image}.jpg" for image in names))
        first = root / name / folder / f"{names[0]}.jpg"
        write_foreign_files(first.parent, first.name)
    return root / name
