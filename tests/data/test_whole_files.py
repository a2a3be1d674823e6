import zipfile

import pytest
from PIL import Image

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.files import member_path
from ccreid.data.sample import Sample
from ccreid.data.whole_files import require_whole_files
from ccreid.errors import DataError
from tests.miniature.pictures import write_picture


@pytest.fixture
def files(tmp_path):
    for number, suffix in enumerate(("jpg", "png", "bmp")):
        write_picture(tmp_path / f"{number}.{suffix}", number, size=(64, 64))
    return sorted(tmp_path.iterdir())


def look(paths, told=None):
    advance = (lambda *_: None) if told is None else lambda *numbers: told.append(numbers)
    require_whole_files([Sample(str(path), 0) for path in paths], advance)


def test_whole_files_pass_whatever_their_kind(files):
    told = []
    look(files, told)
    assert told == [(3, 3)]
    require_whole_files(Virtual().query)


def test_bytes_behind_an_images_end_do_no_harm(files):
    for path in files:
        path.write_bytes(path.read_bytes() + b"\0" * 500)
    look(files)


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_file_cut_short_is_named(files, kind):
    content = files[kind].read_bytes()
    files[kind].write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(DataError, match=f"{files[kind].name} is not a whole image"):
        look(files)


def test_missing_empty_and_foreign_files_are_counted(files):
    files[0].unlink()
    files[1].write_bytes(b"")
    files[2].write_bytes(b"no image")
    with pytest.raises(DataError) as error:
        look(files)
    assert str(files[0]) in str(error.value)
    assert "2 more files are damaged" in str(error.value)
    assert "ccreid.verify" in str(error.value)


def test_members_of_archives_and_frames_are_looked_at(files, tmp_path):
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.write(files[0], "whole.jpg")
        zipped.writestr("cut.jpg", files[0].read_bytes()[:300])
    require_whole_files([Sample(member_path(archive, "whole.jpg"), 0)])
    with pytest.raises(DataError, match=r"cut\.jpg is not a whole image"):
        require_whole_files([Sample(member_path(archive, "cut.jpg"), 0)])
    tracklet = Sample(str(tmp_path), 0, frames=(str(files[0]), str(tmp_path / "missing.jpg")))
    with pytest.raises(DataError, match=r"missing\.jpg"):
        require_whole_files([tracklet])


def test_a_quick_look_does_not_decode(files, monkeypatch):
    Image.new("RGB", (9, 9)).save(files[0])
    monkeypatch.setattr("ccreid.data.whole_files.read_image", lambda path: 1 / 0)
    look(files[:2])
