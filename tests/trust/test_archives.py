"""Archives whose members lead elsewhere, or unpack to more than they should, are not read."""

import stat
import zipfile

import pytest

from ccreid.data import archives, factors
from ccreid.data.archives import require_safe_members
from ccreid.data.benchmarks import virtual
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.factors import controlled_images
from ccreid.data.files import member_path, read_bytes
from ccreid.errors import DataError

ELSEWHERE = [
    "/etc/passwd",
    "../outside.jpg",
    "mine/train/../../../outside.jpg",
    "mine/..",
    "..\\outside.jpg",
    "\\\\server\\share.jpg",
    "C:/outside.jpg",
    "c:\\outside.jpg",
    "mine/train/0001_o0_c00_00.jpg\x00.png",
]
HARMLESS = [
    "mine/train/0001_o0_c00_00.jpg",
    "mine/query/0002_o1_c11_03.jpg",
    "mine/gallery/0002_o0_c01_00.jpg",
    "mine/a..b/...c.txt",
]


def write(path, *names, extra=None, content=b""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*HARMLESS, *names):
            archive.writestr(name, b"")
        if extra is not None:
            archive.writestr(extra, content)
    return path


def forge(path, name, size):
    """Let the archive's directory say that a member unpacks to another size."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.getinfo(name).file_size = size
        archive._didModify = True
    return path


def test_harmless_archives_are_read(tmp_path):
    assert len(Virtual(write(tmp_path / "a.zip")).train) == 1


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_leads_out_is_refused(name, tmp_path, monkeypatch):
    # Python's own writer cuts names at a NUL and turns separators: the bytes are put in by hand.
    placeholder = "x" * len(name)
    path = write(tmp_path / "a.zip", placeholder)
    path.write_bytes(path.read_bytes().replace(placeholder.encode(), name.encode()))
    with pytest.raises(DataError, match="leads out of the archive") as error:
        Virtual(path)
    assert str(path) in str(error.value)
    assert repr(name) in str(error.value)


def test_a_path_into_an_archive_is_no_way_around(tmp_path):
    """A list of one's own may name members: `archive.zip!member`."""
    path = write(tmp_path / "a.zip", "../outside.jpg")
    with pytest.raises(DataError, match="leads out of the archive"):
        read_bytes(member_path(path, HARMLESS[0]))


def test_a_link_is_refused(tmp_path):
    link = zipfile.ZipInfo("mine/train/0003_o0_c00_00.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(DataError, match="is a link"):
        Virtual(write(tmp_path / "a.zip", extra=link, content=b"/etc/passwd"))


def test_a_name_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with pytest.warns(UserWarning, match="Duplicate name"):
        write(path, HARMLESS[0])
    with pytest.raises(DataError, match="is there twice"):
        Virtual(path)


def test_a_bomb_is_refused(tmp_path):
    """A thousandfold: 16 MiB of zeros in 16 KiB."""
    path = write(tmp_path / "a.zip", extra="mine/captions.jsonl", content=bytes(2**24))
    assert path.stat().st_size < 2**15
    with pytest.raises(DataError, match="as a zip bomb does"):
        Virtual(path)


@pytest.mark.parametrize(("size", "is_allowed"), [(2**20, True), (2**20 + 1, False)])
def test_small_members_may_be_packed_well(size, is_allowed, tmp_path):
    path = write(tmp_path / "a.zip", extra="mine/blank.png", content=bytes(size))
    if is_allowed:
        Virtual(path)
    else:
        with pytest.raises(DataError, match="200 times its size"):
            Virtual(path)


def test_a_member_beyond_the_bound_is_refused_however_it_is_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "LARGEST_MEMBER", 99)
    path = write(tmp_path / "a.zip", extra="mine/large.bin", content=bytes(range(100)))
    with pytest.raises(DataError, match="unpacks to 100 bytes, and 99 are allowed"):
        Virtual(path)


def test_a_member_that_lies_about_its_size_unpacks_to_no_more(tmp_path):
    """The bound is on declared sizes: it holds because unpacking ends there."""
    record = b'{"file": "train/0001_o0_c00_00.jpg", "captions": []}\n'
    path = write(tmp_path / "a.zip", extra="mine/captions.jsonl", content=record * 100_000)
    path = forge(path, "mine/captions.jsonl", len(record))
    own = Virtual(path)
    with pytest.raises(DataError, match="Bad CRC-32"):
        own.captions(own.train[0])


def test_the_shipped_archives_are_far_from_the_bounds():
    for path in (virtual.ARCHIVE, factors.ARCHIVE):
        with zipfile.ZipFile(path) as archive:
            require_safe_members(archive, path)
            assert max(info.file_size for info in archive.infolist()) < archives.LARGEST_MEMBER / 99


def test_the_controlled_images_are_looked_at_too(tmp_path, monkeypatch):
    path = tmp_path / "factors.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("virtual-factors/index.json", "[]")
        archive.writestr("../outside.jpg", b"")
    monkeypatch.setattr(factors, "ARCHIVE", path)
    with pytest.raises(DataError, match="leads out of the archive"):
        controlled_images()
