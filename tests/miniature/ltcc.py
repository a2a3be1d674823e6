"""LTCC in miniature: 3 train and 3 test people (one never changes), cameras c1 and c10 to c12."""

from pathlib import Path

from tests.miniature.pictures import write_foreign_files, write_pictures

TRAIN = ("000_1_c1_000012", "000_2_c10_000345", "007_1_c11_000001", "007_1_c12_000002")
QUERY = ("003_1_c1_000100", "003_2_c2_000101", "144_1_c11_011239")
GALLERY = (
    "003_1_c12_000200",
    "003_2_c3_000201",
    "003_1_c1_000202",
    "144_1_c12_011240",
    "150_1_c1_000300",
)


def write_ltcc(root: Path, name: str = "LTCC_ReID") -> Path:
    """Write `LTCC_ReID/` below `root` and return it."""
    ltcc = root / name
    for folder, names in (("train", TRAIN), ("query", QUERY), ("test", GALLERY)):
        write_pictures(ltcc / folder, (f"{name}.png" for name in names))
        write_foreign_files(ltcc / folder, f"{names[0]}.png")
    info = ltcc / "info"
    info.mkdir()
    for list_name, pids in (
        ("cloth-change_id_train", "0\n"),
        ("cloth-unchange_id_train", "7\n"),
        ("cloth-change_id_test", "3\n"),
        ("cloth-unchange_id_test", "144\n150\n"),
    ):
        (info / f"{list_name}.txt").write_text(pids)
    return ltcc
