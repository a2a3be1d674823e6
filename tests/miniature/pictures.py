"""Generated pictures: a colour per image, so that a test can tell which one it got."""

from pathlib import Path

from PIL import Image


def write_picture(path: Path, number: int, size: tuple[int, int] = (16, 32)) -> None:
    """Write a plain picture whose colour follows from `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (37 * number % 256, 101 * number % 256, 199 * number % 256)
    Image.new("RGB", size, colour).save(path, quality=95)
