"""DeepChange in miniature: lists name tracklets; the train folder holds an image no list names."""

from pathlib import Path

from tests.miniature.pictures import write_foreign_files, write_pictures

SETS = {
    "train-set": (
        ("P1_C1_c1_2019_1", 5),
        ("P1_C2_c2_2019_2", 6),
        ("P2_C17_c1_2019_3", 7),
    ),
    "val-set-query": (("P3_C1_c1_2019_1", 8),),
    "val-set-gallery": (("P3_C2_c1_2019_1", 9),),
    "test-set-query": (("P4_C3_c1_2019_1", 10), ("P5_C3_c1_2019_1", 11)),
    "test-set-gallery": (  # the same camera: another tracklet of person 4, the query's own of 5
        ("P4_C3_c2_2019_9", 12),
        ("P4_C3_c1_2019_2", 10),
        ("P5_C3_c1_2019_2", 11),
        ("P5_C4_c1_2019_2", 13),
    ),
}
UNLISTED = "P2_C17_c9_2019_9.jpg"


def write_deepchange(root: Path, name: str = "DeepChangeDataset") -> Path:
    """Write `DeepChangeDataset/` below `root` and return it."""
    for folder, tracklets in SETS.items():
        names = [f"{image}.jpg" for image, _ in tracklets]
        write_pictures(root / name / folder, names)
        write_foreign_files(root / name / folder, names[0])
        lines = [f"{image}.jpg,{tracklet}\n" for image, tracklet in tracklets]
        (root / name / f"{folder}-bbox.txt").write_text("".join(lines))
    write_pictures(root / name / "train-set", [UNLISTED])
    return root / name
