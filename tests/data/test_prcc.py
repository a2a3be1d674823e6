import shutil

import pytest

from ccreid.data.benchmarks.base import SplitCount, collect_faults
from ccreid.data.benchmarks.prcc import PRCC
from ccreid.data.sample import ids
from ccreid.errors import DataError
from tests.miniature.opening import open_by_config
from tests.miniature.prcc import write_prcc


@pytest.fixture
def root(tmp_path, monkeypatch):
    counts = {"train": SplitCount(3, 18), "query": SplitCount(2, 14), "gallery": SplitCount(2, 4)}
    monkeypatch.setattr(PRCC, "counts", counts)
    write_prcc(tmp_path)
    return tmp_path


@pytest.mark.parametrize("nested", [".", "prcc"])
def test_reads_the_published_layout(root, nested):
    prcc = PRCC(root / nested)
    assert sorted(set(ids(prcc.train, "pid"))) == [1, 2, 5]
    assert [s.camid for s in prcc.gallery] == [0] * 4
    assert [s.camid for s in prcc.query] == [1] * 6 + [2] * 8


def test_cameras_decide_the_outfit(root):
    prcc = PRCC(root)
    outfits = {(s.pid, s.camid): s.clothes_id for s in prcc.train}
    for pid in (1, 2, 5):
        assert outfits[pid, 0] == outfits[pid, 1] != outfits[pid, 2]
    assert len(set(outfits.values())) == 6


def test_protocols_ask_with_b_and_c(root):
    prcc = PRCC(root)
    asked = {
        p.name: {prcc.query[i].camid for i in p.select_query(prcc.query)} for p in prcc.protocols
    }
    assert asked == {"sc": {1}, "cc": {2}, "sc_single_shot": {1}, "cc_single_shot": {2}}


def test_the_gallery_is_all_of_a_or_ten_draws_of_one_image_each(root):
    prcc = PRCC(root)
    multi, _, single, _ = (p.select_galleries(prcc.gallery) for p in prcc.protocols)
    assert [s.tolist() for s in multi] == [[0, 1, 2, 3]]
    assert len(single) == 10
    assert all([prcc.gallery[i].pid for i in draw] == [3, 4] for draw in single)
    assert len({tuple(draw) for draw in single}) > 1
    assert [s.tolist() for s in prcc.protocols[2].select_galleries(prcc.gallery)] == [
        s.tolist() for s in single
    ]
    assert "one gallery image per person, mean of 10 fixed draws" in str(prcc.protocols[3])


def test_missing_data_says_where_what_and_how(tmp_path):
    with pytest.raises(DataError) as error:
        PRCC(tmp_path)
    text = str(error.value)
    for part in (
        str(tmp_path / "prcc"),
        "cropped_rgb",
        "data.root=",
        "CCREID_DATA",
        "data=virtual",
    ):
        assert part in text
    assert len(text.splitlines()) < 20  # one screen


def test_wrong_counts_name_both_numbers(root):
    shutil.rmtree(root / "prcc" / "rgb" / "train" / "005")
    with pytest.raises(
        DataError, match="expected 18 images of 3 people, found 12 images of 2 people"
    ):
        PRCC(root)


def test_a_refoldered_copy_is_refused(root):
    (root / "prcc" / "rgb" / "test" / "query").mkdir()
    with pytest.raises(DataError, match="re-foldered"):
        PRCC(root)


def test_a_root_with_digits_and_letters_that_look_like_ids(tmp_path, monkeypatch, root):
    strange = tmp_path / "query_A_c05"
    strange.mkdir()
    shutil.move(root / "prcc", strange / "prcc")
    assert sorted(set(ids(PRCC(strange).train, "pid"))) == [1, 2, 5]


def test_b_and_c_swapped_are_recognised(root, monkeypatch):
    counts = {"query B": SplitCount(2, 6), "query C": SplitCount(2, 8)}
    monkeypatch.setattr(PRCC, "counts", counts)
    assert PRCC(root).warnings == ()
    test = root / "prcc" / "rgb" / "test"
    for old, new in (("B", "old"), ("C", "B"), ("old", "C")):
        shutil.move(test / old, test / new)
    with pytest.raises(DataError, match=r"folders B and C .* swapped: B .* should hold 6 images"):
        PRCC(root)


def test_a_file_name_in_train_and_in_val_is_warned_about(root):
    """The authors' archive has one."""
    rgb = root / "prcc" / "rgb"
    for name in ("A_cropped_rgb10.jpg", "A_cropped_rgb99.jpg", "Thumbs.db"):
        (rgb / "val" / "001").mkdir(parents=True, exist_ok=True)
        shutil.copy(rgb / "train" / "002" / "A_cropped_rgb10.jpg", rgb / "val" / "001" / name)
    (warning,) = PRCC(root).warnings
    assert "rgb/train and rgb/val share 1 file names" in warning
    assert "001/A_cropped_rgb10.jpg" in warning


@pytest.mark.parametrize("name", ["PRCC", "Prcc", "PRCC/prcc"])
def test_the_usual_names_of_the_folder_are_found(root, name):
    (root / name).parent.mkdir(exist_ok=True)
    shutil.move(root / "prcc", root / name)
    assert len(PRCC(root).train) == 18


def test_the_config_opens_it(root):
    assert type(open_by_config("prcc", root)) is PRCC


def test_published_queries_are_those_of_both_cameras():
    counts = PRCC.counts
    assert counts["query"].images == counts["query B"].images + counts["query C"].images == 7_416
    assert (counts["query B"].images, counts["query C"].images) == (3_873, 3_543)


@pytest.fixture
def rgb(root, monkeypatch):
    """With a `val` folder of the train people, and counts that know of it."""
    rgb = root / "prcc" / "rgb"
    for pid in ("001", "002", "005"):
        (rgb / "val" / pid).mkdir(parents=True)
        image = rgb / "train" / pid / "A_cropped_rgb10.jpg"
        shutil.copy(image, rgb / "val" / pid / "A_cropped_rgb77.jpg")
    counts = {**PRCC.counts, "val": SplitCount(3, 3), "total": SplitCount(5, 39)}
    monkeypatch.setattr(PRCC, "counts", counts)
    monkeypatch.setattr(PRCC, "total_without_val", SplitCount(5, 36))
    return rgb


def test_val_is_counted_and_not_used(root, rgb):
    prcc = PRCC(root)
    assert prcc.warnings == ()
    assert not any("/val/" in s.path for samples in prcc.splits.values() for s in samples)
    (rgb / "val" / "001" / "A_cropped_rgb77.jpg").unlink()
    with pytest.raises(DataError, match="val: expected 3 images of 3 people, found 2 images of 2"):
        PRCC(root)


def test_a_copy_without_val_is_warned_about(root, rgb):
    shutil.rmtree(rgb / "val")
    (warning,) = PRCC(root).warnings
    assert "prcc val: expected 3 images of 3 people, but it is not there" in warning
    shutil.copy(rgb / "train/001/A_cropped_rgb10.jpg", rgb / "train/001/A_cropped_rgb99.jpg")
    with collect_faults() as faults:
        PRCC(root)
    assert "prcc total: expected 36 images of 5 people, found 37 images" in faults[-1]


def test_the_published_total_is_the_sum_with_val():
    counts = PRCC.counts
    parts = [counts[part].images for part in ("train", "query", "gallery", "val")]
    assert sum(parts) == counts["total"].images == 33_698
    assert PRCC.total_without_val.images == sum(parts[:3])
    assert counts["total"].identities == PRCC.total_without_val.identities == 150 + 71


@pytest.mark.parametrize("inside", ["rgb", "rgb/train", "rgb/test/A"])
def test_a_root_inside_the_benchmark_is_explained(root, inside):
    with pytest.raises(DataError) as error:
        PRCC(root / "prcc" / inside)
    assert str(error.value).endswith(f"Say data.root={root / 'prcc'}")


def test_images_beside_the_people_are_a_fault_and_other_files_are_counted(root):
    train = root / "prcc" / "rgb" / "train"
    before = PRCC(root).num_foreign_files
    (train / "notes.txt").touch()
    (train / "@eaDir").mkdir()
    assert PRCC(root).num_foreign_files == before + 2
    shutil.copy(train / "001" / "A_cropped_rgb10.jpg", train)
    with pytest.raises(
        DataError, match=r"train holds 1 images beside the people's .* A_cropped_rgb10\.jpg"
    ):
        PRCC(root)


def test_a_person_in_train_and_in_test_is_refused(root, monkeypatch):
    monkeypatch.setattr(PRCC, "counts", {})
    rgb = root / "prcc" / "rgb"
    shutil.copytree(rgb / "test" / "A" / "003", rgb / "test" / "A" / "005")
    with pytest.raises(DataError, match="1 people are in train and in test: 5"):
        PRCC(root)
