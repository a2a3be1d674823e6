"""A user's own list in miniature: six people, cameras 0 and 1, outfits numbered per person."""

import csv
from collections.abc import Sequence
from pathlib import Path

from tests.miniature.pictures import write_pictures

COLUMNS = ("path", "pid", "camid", "clothes_id", "split")
ROWS = tuple(
    {
        "path": f"images/{pid}_{camid}_{outfit}_{n}.jpg",
        "pid": str(pid),
        "camid": str(camid),
        "clothes_id": str(outfit),
        "split": "train" if pid < 30 else ("query", "gallery")[n],
    }
    for pid in (10, 11, 12, 30, 31, 32)
    for camid in (0, 1)
    for outfit in (0, 1)
    for n in (0, 1)
)


def write_csv(root: Path, columns: Sequence[str] = COLUMNS) -> Path:
    """Write the pictures and `list.csv` with these columns, and return the latter."""
    write_pictures(root, (row["path"] for row in ROWS))
    file = root / "list.csv"
    with open(file, "w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows([row[column] for column in columns] for row in ROWS)
    return file
