"""Generated pictures: a colour per image, so that a test can tell which one it got."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image


def write_picture(path: Path, number: int, size: tuple[int, int] = (16, 32)) -> None:
    """Write a plain picture whose colour follows from `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (37 * number % 256, 101 * number % 256, 199 * number % 256)
    Image.new("RGB", size, colour).save(path, quality=95)


def write_pictures(root: Path, names: Iterable[str]) -> Path:
    """Write one picture per name below `root` and return `root`."""
    for number, name in enumerate(names):
        write_picture(root / name, number)
    return root


def write_foreign_files(folder: Path, image: str) -> None:
    """Write what file managers leave in real copies of a folder that holds `image`."""
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", f"._{image}"):
        (folder / name).write_bytes(b"not a picture")
