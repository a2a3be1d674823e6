import zipfile

import numpy as np
import pytest
from PIL import Image

from ccreid.data.files import member_path, read_bytes, read_image, read_labels
from ccreid.errors import DataError
from tests.miniature.pictures import write_picture


def test_reads_from_folders_and_archives(tmp_path):
    write_picture(tmp_path / "a.png", 7)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.png", "inside/a.png")
    packed = member_path(tmp_path / "a.zip", "inside/a.png")
    assert read_bytes(packed) == (tmp_path / "a.png").read_bytes()
    assert read_image(packed).tobytes() == read_image(str(tmp_path / "a.png")).tobytes()


def test_an_exclamation_mark_in_a_folder_name(tmp_path):
    write_picture(tmp_path / "wow!" / "a.png", 1)
    assert read_image(str(tmp_path / "wow!" / "a.png")).size == (16, 32)


def test_unreadable_images_are_named(tmp_path):
    write_picture(tmp_path / "whole.jpg", 1, size=(64, 64))
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("cut.jpg", "text.jpg", "missing.jpg"):
        with pytest.raises(DataError, match=name):
            read_image(str(tmp_path / name))


def test_a_missing_member_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x", "")
    with pytest.raises(DataError, match=r"a\.zip!y"):
        read_bytes(member_path(tmp_path / "a.zip", "y"))


def test_labels_keep_their_numbers_in_palette_images(tmp_path):
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    palette = Image.fromarray(labels, mode="P")
    palette.putpalette([255, 0, 0, 0, 255, 0] * 128)
    palette.save(tmp_path / "mask.png")
    assert np.array_equal(read_labels(str(tmp_path / "mask.png")), labels)
    Image.new("RGB", (3, 2)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match="has mode RGB"):
        read_labels(str(tmp_path / "rgb.png"))
