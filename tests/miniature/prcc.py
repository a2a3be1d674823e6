"""PRCC in miniature: 3 train and 2 test people, with the foreign files real copies hold."""

from pathlib import Path

from tests.miniature.pictures import write_picture

PER_CAMERA = {"A": 2, "B": 3, "C": 4}  # images of a test person


def write_prcc(root: Path) -> Path:
    """Write `prcc/` below `root` and return it."""
    rgb = root / "prcc" / "rgb"
    number = 0
    for pid in (1, 2, 5):
        for camera in "ABC":
            for image in range(2):
                number += 1
                write_picture(
                    rgb / "train" / f"{pid:03d}" / f"{camera}_cropped_rgb{image + 10}.jpg", number
                )
    for camera, count in PER_CAMERA.items():
        for pid in (3, 4):
            for image in range(count):
                number += 1
                write_picture(
                    rgb / "test" / camera / f"{pid:03d}" / f"cropped_rgb{image + 10}.jpg", number
                )
    (rgb / "train" / "001" / "Thumbs.db").write_bytes(b"not a picture")
    (rgb / "train" / "001" / "._A_cropped_rgb010.jpg").write_bytes(b"not a picture")
    (rgb / "train" / ".DS_Store").write_bytes(b"")
    return root / "prcc"
