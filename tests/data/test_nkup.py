import shutil

import pytest

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.nkup import NKUP
from ccreid.data.datamodule import unanswerable_queries
from ccreid.data.sample import ids
from ccreid.errors import DataError
from tests.miniature.nkup import write_nkup
from tests.miniature.opening import open_by_config

COUNTS = {"train": SplitCount(2, 3), "query": SplitCount(2, 2), "gallery": SplitCount(4, 5)}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(NKUP, "counts", COUNTS)
    write_nkup(tmp_path)
    return tmp_path


def test_reads_the_published_layout(root):
    nkup = NKUP(root)
    assert [s.pid for s in nkup.train] == [1, 1, 2]
    assert [s.camid for s in nkup.train] == [0, 14, 2]
    assert {s.clothes_id for s in nkup.train} == {-1}
    assert nkup.warnings == ()


def test_distractors_stay_in_the_gallery(root):
    nkup = NKUP(root)
    assert set(ids(nkup.gallery, "pid")) - set(ids(nkup.query, "pid")) == {7, 8}
    (protocol,) = nkup.protocols
    assert protocol.rule == "standard"
    assert len(protocol.select_galleries(nkup.gallery)[0]) == 5
    assert unanswerable_queries(nkup) == {"general": 0}


def test_28_distractors_are_part_of_the_published_counts():
    assert NKUP.counts["gallery"].identities - NKUP.counts["query"].identities == 28


@pytest.mark.parametrize("strange", ["0912_D0912_C03S01_1", "query", "my_code"])
def test_a_root_that_looks_like_a_name_changes_nothing(root, strange):
    (root / strange).mkdir()
    shutil.move(root / "NKUP", root / strange)
    nkup = NKUP(root / strange)
    assert [s.pid for s in nkup.gallery] == [5, 5, 6, 7, 8]
    assert [s.camid for s in nkup.gallery] == [2, 3, 1, 2, 9]


def test_nkup_plus_is_not_taken_for_it(root):
    shutil.move(root / "NKUP", root / "NKUP+")
    with pytest.raises(DataError, match="nkup was not found"):
        NKUP(root)


def test_an_archive_not_unpacked_is_named(root):
    shutil.rmtree(root / "NKUP" / "bounding_box_test")
    with pytest.raises(DataError, match=r"bounding_box_test does not exist(?s:.*)three archives"):
        NKUP(root)


def test_verified_counts_are_enforced(root):
    next((root / "NKUP" / "bounding_box_test").glob("0008*")).unlink()
    with pytest.raises(
        DataError, match="gallery: expected 5 images of 4 people, found 4 images of"
    ):
        NKUP(root)


def test_missing_data_says_where_what_and_how(tmp_path):
    with pytest.raises(DataError) as error:
        NKUP(tmp_path)
    for part in (str(tmp_path / "NKUP"), "_D<mmdd>_", "academic", "data.root="):
        assert part in str(error.value)


def test_the_config_opens_it(root):
    assert type(open_by_config("nkup", root)) is NKUP


def test_days_are_outfits_only_if_asked(root):
    assert set(ids(NKUP(root).train, "clothes_id")) == {-1}
    train = NKUP(root, day_as_outfit=True).train
    assert len({s.clothes_id for s in train}) == 3  # person 1 on two days, person 2 on one
    assert len({(s.pid, s.clothes_id) for s in train}) == 3


def test_a_camera_outside_the_fifteen_is_warned_about(root):
    query = root / "NKUP" / "query"
    shutil.move(query / "0006_D0913_C10S01_00001.jpg", query / "0006_D0913_C16S01_00001.jpg")
    (warning,) = [text for text in NKUP(root).warnings if "no such camera" in text]
    assert "C16S01_00001.jpg: nkup has no such camera, its cameras are 1 to 15" in warning
    assert "a guess" in warning


def test_the_cameras_of_the_queries_are_counted(root, monkeypatch):
    assert NKUP(root).found_counts()["query cameras"].images == 2
    monkeypatch.setattr(NKUP, "counts", {"query cameras": SplitCount(None, 14, what="cameras")})
    with pytest.raises(DataError, match="query cameras: expected 14 cameras, found 2 cameras"):
        NKUP(root)


def test_a_number_in_train_and_in_test_is_told_as_two_people(root, monkeypatch):
    monkeypatch.setattr(NKUP, "counts", {})
    folder = root / "NKUP"
    shutil.copy(
        folder / "bounding_box_train" / "0001_D0912_C01S01_00010.jpg",
        folder / "bounding_box_test" / "0001_D0913_C01S01_00010.jpg",
    )
    nkup = NKUP(root)
    (warning,) = nkup.warnings
    assert "1 people are in train and in test: 1." in warning
    assert "not published" in warning
    assert nkup.found_counts()["total"] == SplitCount(2 + 5, 11)
