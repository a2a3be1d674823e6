"""CCVID in miniature: 2 train and 2 test people, tracklets of 1 to 70 frames, three sessions."""

from pathlib import Path

from tests.miniature.pictures import write_foreign_files, write_pictures

TRACKLETS = {
    "train": (
        ("session1/001_01", "u0_l0_s0_c0_a0", 5),
        ("session2/001_02", "u1_l0_s0_c0_a0", 70),
        ("session1/005_01", "u0_l0_s0_c0_a0", 9),  # the label of person 001, another outfit
        ("session3/005_12", "u0_l1_s0_c0_a0", 33),
    ),
    "query": (
        ("session1/010_01", "u0_l0_s0_c0_a0", 8),
        ("session1/226_03", "u0_l0_s0_c0_a0", 1),
    ),
    "gallery": (
        ("session3/010_01", "u1_l0_s0_c0_a0", 12),  # walk 1 of session 3 is another camera
        ("session2/010_01", "u1_l1_s0_c0_a0", 4),  # walk 1 of session 2 is the same
        ("session1/226_04", "u0_l0_s0_c0_a0", 17),
        ("session2/226_05", "u2_l0_s0_c0_a0", 40),
    ),
}


def write_ccvid(root: Path, name: str = "CCVID") -> Path:
    """Write `CCVID/` below `root` and return it."""
    for split, tracklets in TRACKLETS.items():
        lines = []
        for folder, clothes, length in reversed(tracklets):  # lists need not be sorted
            frames = [f"{folder}/{frame:05d}.jpg" for frame in range(1, length + 1)]
            write_pictures(root / name, frames)
            person = folder.split("/")[1].split("_")[0]
            lines.append(f"{folder}\t{person}\t{clothes}\n")
        (root / name / f"{split}.txt").write_text("".join(lines))
    write_foreign_files(root / name / "session1/001_01", "00001.jpg")
    (root / name / "readme.txt").write_text("CC BY-NC-SA 4.0\n")
    return root / name
