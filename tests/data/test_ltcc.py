import shutil
from pathlib import Path

import pytest

from ccreid.data.benchmarks.base import SplitCount, collect_faults
from ccreid.data.benchmarks.ltcc import LTCC
from ccreid.data.datamodule import unanswerable_queries
from ccreid.data.files import read_image
from ccreid.data.sample import ids
from ccreid.errors import DataError
from tests.miniature.ltcc import write_ltcc
from tests.miniature.opening import open_by_config

COUNTS = {
    "train": SplitCount(2, 4, certain_identities=False),
    "query": SplitCount(2, 3, certain_identities=False),
    "gallery": SplitCount(3, 5, certain_identities=False),
    "total": SplitCount(5, 12),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(LTCC, "counts", COUNTS)
    write_ltcc(tmp_path)
    return tmp_path


def test_reads_the_published_layout(root):
    ltcc = LTCC(root)
    assert [s.pid for s in ltcc.train] == [0, 0, 7, 7]
    assert [s.pid for s in ltcc.query] == [3, 3, 144]
    assert ltcc.warnings == ()
    assert ltcc.num_foreign_files == 12  # four in each folder
    for samples in ltcc.splits.values():
        assert [s.path for s in samples] == sorted(s.path for s in samples)
        assert all(read_image(s.path).size == (16, 32) for s in samples)


def test_two_digit_cameras_stay_themselves(root):
    assert [s.camid for s in LTCC(root).train] == [0, 9, 10, 11]


def test_clothes_are_unique_over_all_people(root):
    ltcc = LTCC(root)
    samples = ltcc.train + ltcc.query + ltcc.gallery
    outfits = {s.clothes_id: s.pid for s in samples}
    assert len(outfits) == 7
    assert all(outfits[s.clothes_id] == s.pid for s in samples)
    assert ltcc.train[2].clothes_id == ltcc.train[3].clothes_id


@pytest.mark.parametrize("strange", ["my_code", "7_1_c3_1", "query", "2019-07-01-12"])
def test_a_root_that_looks_like_a_name_changes_nothing(root, strange):
    expected = LTCC(root)
    (root / strange).mkdir()
    shutil.move(root / "LTCC_ReID", root / strange)
    moved = LTCC(root / strange)
    for field in ("pid", "camid", "clothes_id"):
        for split, samples in expected.splits.items():
            assert ids(moved.splits[split], field).tolist() == ids(samples, field).tolist()


def test_the_protocols_keep_everyone(root):
    ltcc = LTCC(root)
    assert [p.name for p in ltcc.protocols] == ["general", "cc", "sc"]
    assert unanswerable_queries(ltcc) == {"general": 0, "cc": 1, "sc": 0}
    for protocol in ltcc.protocols:
        assert len(protocol.select_galleries(ltcc.gallery)[0]) == 5


@pytest.mark.parametrize("name", ["LTCC", "LTCC-reID", "ltcc_reid", "LTCC/LTCC_ReID"])
def test_the_usual_names_of_the_folder_are_found(root, name):
    (root / name).parent.mkdir(exist_ok=True)
    shutil.move(root / "LTCC_ReID", root / name)
    assert len(LTCC(root).train) == 4


def test_the_folder_itself_may_be_given_under_any_name(root):
    shutil.move(root / "LTCC_ReID", root / "another name")
    assert len(LTCC(root / "another name").train) == 4


def test_a_name_too_far_off_is_suggested(root):
    shutil.move(root / "LTCC_ReID", root / "LTCC_Perosn_ReID")
    with pytest.raises(DataError, match=r"Did you mean 'LTCC_Perosn_ReID'\?"):
        LTCC(root)


def test_a_folder_nested_too_deep_is_explained(root):
    (root / "deep").mkdir()
    shutil.move(root / "LTCC_ReID", root / "deep" / "inner")
    shutil.move(root / "deep", root / "LTCC_ReID")
    with pytest.raises(DataError, match=r"nested too deep.*data\.root=.*LTCC_ReID/inner") as error:
        LTCC(root)
    assert len(LTCC(str(error.value).split("data.root=")[1].split()[0]).train) == 4


def test_a_root_given_too_high_is_explained(root):
    (root / "above" / "data").mkdir(parents=True)
    shutil.move(root / "LTCC_ReID", root / "above" / "data")
    with pytest.raises(DataError, match=r"nested too deep.*data\.root=.*above/data/LTCC_ReID"):
        LTCC(root / "above")


def test_a_missing_folder_says_what_is_there(root):
    shutil.move(root / "LTCC_ReID" / "test", root / "LTCC_ReID" / "gallery")
    with pytest.raises(
        DataError, match=r"test does not exist; .* holds gallery, info, query, train"
    ):
        LTCC(root)


def test_images_in_folders_of_people_are_explained(root):
    train = root / "LTCC_ReID" / "train"
    for image in list(train.glob("[0-9]*.png")):
        (train / image.name[:3]).mkdir(exist_ok=True)
        shutil.move(image, train / image.name[:3])
    with pytest.raises(DataError, match="should lie in it directly"):
        LTCC(root)


def test_another_name_is_refused_by_name(root):
    (root / "LTCC_ReID" / "train" / "007_1_c1_000012 copy.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"Unexpected name .*000012 copy\.png"):
        LTCC(root)


def test_missing_data_says_where_what_and_how(tmp_path):
    with pytest.raises(DataError) as error:
        LTCC(tmp_path)
    text = str(error.value)
    for part in (
        str(tmp_path / "LTCC_ReID"),
        "<outfit>",
        "by request",
        "data.root=",
        "LTCC_Perosn",
    ):
        assert part in text
    assert len(text.splitlines()) < 20  # one screen


def test_counted_images_are_enforced_and_remembered_people_warned_about(root, monkeypatch):
    monkeypatch.setattr(LTCC, "counts", {"train": SplitCount(9, 4, certain_identities=False)})
    monkeypatch.setattr(SplitCount, "tolerance", 0.8)
    assert "expected 4 images of 9 people, found 4 images of 2 people" in LTCC(root).warnings[0]
    monkeypatch.setattr(LTCC, "counts", {"train": SplitCount(9, 5, certain_identities=False)})
    with pytest.raises(DataError, match="expected 5 images of 9 people, found 4"):
        LTCC(root)


@pytest.mark.parametrize("total", [SplitCount(6, 12), SplitCount(5, 13), SplitCount(None, 13)])
def test_the_verified_total_is_enforced(root, monkeypatch, total):
    monkeypatch.setattr(LTCC, "counts", {"total": total})
    with pytest.raises(DataError, match="ltcc total"):
        LTCC(root)


def test_an_unknown_number_is_not_compared(root, monkeypatch):
    monkeypatch.setattr(LTCC, "counts", {"total": SplitCount(None, 12)})
    assert LTCC(root).warnings == ()


def test_the_config_opens_it(root):
    assert type(open_by_config("ltcc", root)) is LTCC


def test_published_splits_sum_to_the_published_total():
    counts = LTCC.counts
    train, query, gallery, total = (counts[k] for k in ("train", "query", "gallery", "total"))
    assert train.images + query.images + gallery.images == total.images
    assert train.identities + query.identities == total.identities


def test_a_camera_that_ltcc_does_not_have_is_named(root, monkeypatch):
    monkeypatch.setattr(LTCC, "counts", {})
    train = root / "LTCC_ReID" / "train"
    for name in ("007_1_c13_000002.png", "007_1_c0_000002.png"):
        shutil.copy(train / "007_1_c12_000002.png", train / name)
        with pytest.raises(DataError, match=rf"{name}: ltcc has no such camera, .* are 1 to 12\."):
            LTCC(root)
        (train / name).unlink()
    assert len(LTCC(root).train) == 4


def test_a_person_in_train_and_in_test_is_refused_and_counted_once(root, monkeypatch):
    monkeypatch.setattr(LTCC, "counts", {})
    ltcc = root / "LTCC_ReID"
    shutil.copy(ltcc / "train" / "007_1_c11_000001.png", ltcc / "test" / "007_1_c11_000009.png")
    with pytest.raises(DataError, match=r"ltcc: 1 people are in train and in test: 7\."):
        LTCC(root)
    with collect_faults() as faults:
        assert LTCC(root).found_counts()["total"] == SplitCount(5, 13)
    assert len(faults) == 1


def test_outfits_are_counted(root):
    counts = LTCC(root).found_counts()
    assert [counts[part].images for part in ("train outfits", "all outfits")] == [3, 7]


@pytest.mark.parametrize("inside", ["train", "query/deeper", "info"])
def test_a_root_inside_the_benchmark_is_explained(root, inside):
    ltcc = root / "LTCC_ReID"
    (ltcc / inside).mkdir(exist_ok=True)
    with pytest.raises(DataError, match="is a folder inside the benchmark's") as error:
        LTCC(ltcc / inside)
    assert str(error.value).endswith(f"Say data.root={ltcc}")


def test_a_folder_that_cannot_be_read_is_named(root, monkeypatch):
    """As root one may read everything, so the refusal is played."""
    whole = Path.iterdir

    def refused(folder):
        def play(self):
            if self == folder:
                raise PermissionError(13, "Permission denied", str(self))
            return whole(self)

        monkeypatch.setattr(Path, "iterdir", play)

    refused(root / "LTCC_ReID" / "query")
    with pytest.raises(DataError, match=r"LTCC_ReID/query cannot be read: Permission denied\."):
        LTCC(root)
    with collect_faults() as faults:
        assert len(LTCC(root).gallery) == 5
    assert sum("cannot be read" in fault for fault in faults) == 1
    refused(root)
    with pytest.raises(DataError, match=r"looked for, but .* cannot be read(?s:.*)data\.root="):
        LTCC(root)


def test_a_link_to_nothing_is_a_fault_and_folders_of_file_managers_are_not(root):
    train = root / "LTCC_ReID" / "train"
    for name in ("@eaDir", "__MACOSX"):
        (train / name).mkdir()
        shutil.copy(train / "007_1_c12_000002.png", train / name / "007_1_c12_000002.png")
    assert LTCC(root).num_foreign_files == 14
    (train / "000_9_c1_000012.png").symlink_to(root / "gone.png")
    with pytest.raises(DataError, match=r"000_9_c1_000012\.png is a link to .*gone\.png, which is"):
        LTCC(root)


def test_the_copy_that_a_mac_packs_is_not_taken_for_the_benchmark(root):
    (root / "__MACOSX").mkdir()
    shutil.move(root / "LTCC_ReID", root / "__MACOSX")
    with pytest.raises(DataError, match="ltcc was not found"):
        LTCC(root)


@pytest.mark.parametrize(
    ("found", "differs", "is_far"),
    [
        (100, False, False),
        (90, True, False),
        (110, True, False),
        (89, True, True),
        (111, True, True),
    ],
)
def test_a_remembered_number_only_warns_and_may_be_off_by_a_tenth(found, differs, is_far):
    for expected in (SplitCount(100, 7, certain_identities=False), SplitCount(100, 7, False, None)):
        assert expected.contradicts(SplitCount(found, 7)) == (False, differs)
        assert expected.is_far_from(SplitCount(found, 7)) is is_far
    certain = SplitCount(100, None)
    assert certain.contradicts(SplitCount(found, 5)) == ((found != 100,) * 2)
    assert not certain.is_far_from(SplitCount(found, 5))
