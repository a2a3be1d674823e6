import shutil

import pytest

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.last import LaST
from ccreid.data.datamodule import unanswerable_queries
from ccreid.errors import DataError
from tests.miniature.last import write_last
from tests.miniature.opening import open_by_config

COUNTS = {"train": SplitCount(2, 4), "query": SplitCount(2, 2), "gallery": SplitCount(3, 3)}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(LaST, "counts", COUNTS)
    write_last(tmp_path)
    return tmp_path


def test_reads_the_published_layout_without_val(root):
    last = LaST(root)
    assert [s.pid for s in last.train] == [1, 1, 2, 2]
    assert [s.pid for s in last.query] == [3, 5]
    assert [s.pid for s in last.gallery] == [3, 4, 5]
    assert {s.camid for samples in last.splits.values() for s in samples} == {-1}
    assert last.warnings == ()


def test_clothes_are_unique_over_train_people_and_unknown_in_test(root):
    last = LaST(root)
    assert [s.clothes_id for s in last.train] == [0, 1, 2, 2]
    assert {s.clothes_id for s in last.query + last.gallery} == {-1}


def test_no_gallery_image_is_junk(root):
    last = LaST(root)
    (protocol,) = last.protocols
    assert protocol.rule == "none"
    assert unanswerable_queries(last) == {"general": 0}


@pytest.mark.parametrize("strange", ["query", "gallery", "my_query_c3", "2019-07-01-12"])
def test_a_root_that_looks_like_a_name_changes_nothing(root, strange):
    (root / strange).mkdir()
    shutil.move(root / "last", root / strange)
    last = LaST(root / strange)
    assert [len(samples) for samples in last.splits.values()] == [4, 2, 3]
    assert [s.clothes_id for s in last.train] == [0, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "clothes"),
    [("000002_1.jpg", "1"), ("000002_a_b_03.jpg", "03"), ("000002_f_12.v2.JPG", "12")],
)
def test_the_last_field_is_the_outfit(root, monkeypatch, name, clothes):
    monkeypatch.setattr(LaST, "counts", {})
    person = root / "last" / "train" / "000002"
    shutil.copy(person / "000002_film_0003_1.jpg", person / name)
    shutil.copy(person / name, person / f"000002_again_{clothes}.jpg")
    outfit = {s.path.rsplit("/", 1)[1]: s.clothes_id for s in LaST(root).train}
    assert outfit[name] == outfit[f"000002_again_{clothes}.jpg"]


@pytest.mark.parametrize("split", ["train", "query", "gallery"])
def test_the_old_release_is_named(root, monkeypatch, split):
    found = {"train": 4, "query": 2, "gallery": 3}
    monkeypatch.setattr(LaST, "old_release", {split: found[split]})
    with pytest.raises(DataError, match=r"old release \(train 4, query 2, gallery 3 images\)"):
        LaST(root)


def test_the_old_release_is_none_of_the_present_counts():
    assert LaST.old_release.keys() == {"train", "query", "gallery"}
    assert all(LaST.counts[split].images != old for split, old in LaST.old_release.items())


def test_the_usual_names_of_the_folder_are_found(root):
    shutil.move(root / "last", root / "LaST")
    assert len(LaST(root).train) == 4


def test_a_folder_that_is_no_person_is_refused(root):
    (root / "last" / "train" / "film").mkdir()
    with pytest.raises(DataError, match="film should be a person's number"):
        LaST(root)


def test_verified_counts_are_enforced(root):
    shutil.rmtree(root / "last" / "test" / "gallery" / "000004")
    with pytest.raises(DataError, match="gallery: expected 3 images of 3 people, found 2 images"):
        LaST(root)


def test_missing_data_says_where_what_and_how(tmp_path):
    with pytest.raises(DataError) as error:
        LaST(tmp_path)
    for part in (str(tmp_path / "last"), "<clothes>", "academic", "data.root="):
        assert part in str(error.value)


def test_the_config_opens_it(root):
    assert type(open_by_config("last", root)) is LaST


def test_an_image_in_somebody_elses_folder_is_a_fault(root):
    last = root / "last"
    for folder, image in (
        (last / "train" / "000001", last / "train" / "000002" / "000002_film_0003_1.jpg"),
        (last / "test/gallery/000003", last / "test/gallery/000004/000004_film_0007_1.jpg"),
    ):
        shutil.copy(image, folder)
        message = rf"{image.name} is in the folder of person {folder.name} by mistake"
        with pytest.raises(DataError, match=message):
            LaST(root)
        (folder / image.name).unlink()
    assert LaST(root).warnings == ()


def test_validation_is_counted_where_it_is_there(root, monkeypatch):
    val = {"val query": SplitCount(1, 1), "val gallery": SplitCount(1, 1)}
    monkeypatch.setattr(LaST, "counts", {**COUNTS, **val, "total": SplitCount(6, 11)})
    monkeypatch.setattr(LaST, "total_without_val", SplitCount(5, 9))
    assert LaST(root).warnings == ()
    shutil.rmtree(root / "last" / "val" / "gallery")
    (warning,) = LaST(root).warnings
    assert "val gallery: expected 1 images of 1 people, but it is not there" in warning
    shutil.rmtree(root / "last" / "val")
    assert len(LaST(root).warnings) == 2


def test_published_parts_sum_to_the_published_total():
    counts, total = LaST.counts, LaST.counts["total"]
    assert sum(count.images for count in counts.values()) == 2 * total.images == 2 * 228_156
    people = [counts[part].identities for part in ("train", "gallery", "val gallery")]
    assert sum(people) == total.identities
    assert LaST.total_without_val == SplitCount(10_806, 206_777)


def test_a_root_inside_the_benchmark_is_explained(root):
    with pytest.raises(DataError) as error:
        LaST(root / "last" / "test")
    assert str(error.value).endswith(f"Say data.root={root / 'last'}")
