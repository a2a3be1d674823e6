import hashlib
import os
import random
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ccreid.data.files import member_path
from ccreid.data.verification import inspection
from ccreid.data.verification.inspection import inspect_image, inspect_images
from ccreid.data.verification.manifest import Manifest
from ccreid.errors import DataError


@pytest.fixture
def root(tmp_path):
    """Twelve whole images, one cut short and one that is text."""
    folder = tmp_path / "images"
    folder.mkdir()
    noise = random.Random(0)
    for number in range(13):
        size = (8 + number, 16)
        Image.frombytes("RGB", size, noise.randbytes(3 * size[0] * size[1])).save(
            folder / f"{number:02d}.jpg", quality=95
        )
    cut = folder / "12.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    (folder / "13.jpg").write_text("not a picture")
    return folder


@pytest.fixture
def reads(monkeypatch):
    """The names of the images that were read, in order; every image is told by itself."""
    names = []

    def noted(path, root):
        names.append(Path(path).name)
        return inspect_image(path, root)

    monkeypatch.setattr(inspection, "inspect_image", noted)
    monkeypatch.setattr(inspection, "CHUNK", 1)
    return names


def images(root):
    return [str(path) for path in root.glob("*.jpg")]


def manifest_of(root, name="mine"):
    return Manifest(root.parent / f"{name}.tsv", name, root)


def test_hash_size_and_error_of_every_image(root):
    found = inspect_images(images(root), manifest_of(root))
    assert [own.path for own in found] == [f"{number:02d}.jpg" for number in range(14)]
    for number, own in enumerate(found):
        content = (root / own.path).read_bytes()
        assert own.sha256 == hashlib.sha256(content).hexdigest()
        assert own.size == len(content)
        assert (own.width, own.height) == ((8 + number, 16) if number < 12 else (0, 0))
    assert [bool(own.error) for own in found] == [False] * 12 + [True] * 2
    assert "truncated" in found[12].error
    assert found[13].error == "no image"


def test_what_is_named_twice_is_read_once(root, reads):
    inspect_images(images(root) * 2, manifest_of(root))
    assert sorted(reads) == sorted(path.name for path in root.glob("*.jpg"))


def test_interrupted_twice_is_the_same_as_never(root, reads):
    expected = inspect_images(images(root), manifest_of(root, "whole"))
    reads.clear()

    def stop_after(number):
        def advance(done, total):
            assert total == 14
            if done == number:
                raise KeyboardInterrupt

        return advance

    for number in (4, 9):
        with pytest.raises(KeyboardInterrupt):
            inspect_images(images(root), manifest_of(root), advance=stop_after(number))
    assert inspect_images(images(root), manifest_of(root)) == expected
    assert sorted(reads) == sorted(path.name for path in root.glob("*.jpg"))  # each of them once
    lines = [
        manifest_of(root, name).file.read_text().splitlines()[1:] for name in ("whole", "mine")
    ]
    assert sorted(lines[0]) == sorted(lines[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_check_goes_on_and_leaves_no_process_behind(root, workers, reads):
    """The pipe of a process that still ran would be open, and `run` would not return."""
    code = f"""if __name__ == "__main__":
        import os, signal
        from pathlib import Path
        from ccreid.data.verification import inspection, manifest
        inspection.CHUNK = inspection.WORTH_A_PROCESS = 1
        def advance(done, total):
            if done == 5:
                os.kill(os.getpid(), signal.SIGKILL)
        root = Path({str(root)!r})
        own = manifest.Manifest(root.parent / "mine.tsv", "mine", root)
        inspection.inspect_images(map(str, root.glob("*.jpg")), own, {workers}, advance)
    """
    script = root.parent / "check.py"
    script.write_text(code)
    process = subprocess.run([sys.executable, script], capture_output=True, timeout=100)
    assert process.returncode == -signal.SIGKILL, process.stderr
    found = inspect_images(images(root), manifest_of(root))
    assert sorted(reads) == [f"{number:02d}.jpg" for number in range(5, 14)]
    assert found == inspect_images(images(root), manifest_of(root, "whole"))


def test_processes_find_what_one_finds(root, monkeypatch):
    monkeypatch.setattr(inspection, "WORTH_A_PROCESS", 1)
    monkeypatch.setattr(inspection, "CHUNK", 3)
    told = []
    found = inspect_images(
        images(root), manifest_of(root), workers=2, advance=lambda *done: told.append(done)
    )
    assert found == inspect_images(images(root), manifest_of(root, "alone"))
    assert told == [(done, 14) for done in (0, 3, 6, 9, 12, 14)]


def test_only_what_changed_is_read_again(root, reads):
    """So are images that could not be read: whatever hindered it may have passed."""
    inspect_images(images(root), manifest_of(root))
    Image.new("RGB", (5, 7)).save(root / "03.jpg")
    os.utime(root / "04.jpg", ns=(1, 1))
    Image.new("RGB", (6, 7)).save(root / "12.jpg")
    reads.clear()
    found = inspect_images(images(root), manifest_of(root))
    assert sorted(reads) == ["03.jpg", "04.jpg", "12.jpg", "13.jpg"]
    assert [(found[i].width, found[i].height) for i in (3, 12)] == [(5, 7), (6, 7)]
    assert [own.path for own in found if own.error] == ["13.jpg"]


def test_a_file_that_is_gone_is_an_error(root):
    paths = images(root)
    (root / "05.jpg").unlink()
    (gone,) = [own for own in inspect_images(paths, manifest_of(root)) if own.path == "05.jpg"]
    assert "05.jpg" in gone.error
    assert (gone.sha256, gone.size) == ("", 0)


@pytest.mark.parametrize("damage", ["cut", "digit", "nonsense", "joined"])
def test_a_damaged_line_is_not_believed(root, reads, damage):
    expected = inspect_images(images(root), manifest_of(root))
    file = manifest_of(root).file
    lines = file.read_text().splitlines(keepends=True)
    if damage == "cut":  # as a killed process leaves it
        lines[-3:] = [lines[-3][:50]]
    elif damage == "digit":  # still a line of the right form
        lines[3] = ("1" if lines[3][0] == "0" else "0") + lines[3][1:]
    elif damage == "nonsense":
        lines[3] = "\x00\xff nonsense\n"
    else:
        lines[3] = lines[3].rstrip("\n")
    file.write_text("".join(lines), "latin-1")
    reads.clear()
    assert inspect_images(images(root), manifest_of(root)) == expected
    known = {"cut": 11, "digit": 11, "nonsense": 11, "joined": 10}[damage]
    assert len(reads) == 14 - known
    reads.clear()
    inspect_images(images(root), manifest_of(root))
    assert len(reads) == 2  # the manifest is whole again


def test_a_manifest_of_another_place_or_benchmark_is_not_believed(root, reads):
    expected = inspect_images(images(root), manifest_of(root))
    copy = root.with_name("copy")
    root.rename(copy)
    for name in ("mine", "other"):
        reads.clear()
        manifest = Manifest(manifest_of(root).file, name, copy)
        assert inspect_images(images(copy), manifest) == expected
        assert len(reads) == 14


def test_any_name_and_members_of_archives(root, reads):
    (root / "00.jpg").rename(root / "tab\tline\nÄ\udcff ok\\n.jpg")
    archive = root.parent / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for number in (1, 2):
            file.write(root / f"{number:02d}.jpg", f"top/{number}.jpg")
    members = [member_path(archive, f"top/{number}.jpg") for number in (1, 2)]
    for paths, place in ((images(root), root), (members, archive)):
        manifest = Manifest(root.parent / "any.tsv", "mine", place)
        first = inspect_images(paths, manifest)
        reads.clear()
        assert inspect_images(paths, manifest) == first
        assert all(own.error for own in first if own.path in reads)
    assert [own.path for own in first] == ["top/1.jpg", "top/2.jpg"]
    assert first[0].sha256 == hashlib.sha256((root / "01.jpg").read_bytes()).hexdigest()
    assert first[0].size == archive.stat().st_size  # a changed archive is read again


def test_a_place_that_cannot_be_written_is_named(root):
    (root.parent / "file").touch()
    manifest = Manifest(root.parent / "file" / "mine.tsv", "mine", root)
    with pytest.raises(DataError, match=r"mine\.tsv cannot be used.*manifest=<folder>"):
        inspect_images(images(root), manifest)
