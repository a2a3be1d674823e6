import shutil

import pytest

from ccreid.data.benchmarks.base import SplitCount, collect_faults
from ccreid.data.benchmarks.deepchange import DeepChange
from ccreid.data.datamodule import unanswerable_queries
from ccreid.errors import DataError
from ccreid.retrieval import queries_without_match
from tests.miniature.deepchange import UNLISTED, write_deepchange
from tests.miniature.opening import open_by_config

COUNTS = {
    "train": SplitCount(2, 3, certain=False),
    "query": SplitCount(2, 2, certain=False),
    "gallery": SplitCount(2, 4, certain=False),
}

PUBLISHED = DeepChange.counts  # before the fixture


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(DeepChange, "counts", COUNTS)
    write_deepchange(tmp_path)
    return tmp_path


def test_reads_what_the_lists_name(root):
    deepchange = DeepChange(root)
    assert (root / "DeepChangeDataset" / "train-set" / UNLISTED).is_file()
    assert [s.pid for s in deepchange.train] == [1, 1, 2]
    assert [s.camid for s in deepchange.train] == [1, 2, 17]
    assert [s.tracklet_id for s in deepchange.train] == [5, 6, 7]
    assert [s.tracklet_id for s in deepchange.gallery] == [10, 12, 11, 13]  # sorted by name
    assert deepchange.warnings == ()
    assert deepchange.num_foreign_files == 13  # four in each folder, and the unlisted image
    for samples in deepchange.splits.values():
        assert [s.path for s in samples] == sorted(s.path for s in samples)


def test_clothes_are_unique_over_all_people(root):
    deepchange = DeepChange(root)
    outfits = {(s.pid, s.clothes_id) for samples in deepchange.splits.values() for s in samples}
    assert len(outfits) == len({clothes for _, clothes in outfits}) == 6
    assert deepchange.query[0].clothes_id == deepchange.gallery[0].clothes_id


def test_the_tracklet_plays_the_camera(root):
    deepchange = DeepChange(root)
    (protocol,) = deepchange.protocols
    names = protocol.ranking_ids(deepchange.query, deepchange.gallery)
    assert names["query_camid"].tolist() == [10, 11]
    assert unanswerable_queries(deepchange) == {"general": 0}
    real = {**names, "query_camid": [3, 3], "gallery_camid": [s.camid for s in deepchange.gallery]}
    assert queries_without_match(**real, rule="standard").tolist() == [True, False]


@pytest.mark.parametrize("strange", ["P1_C2_c3.jpg,4", "query", "test-set-query"])
def test_a_root_that_looks_like_a_name_changes_nothing(root, strange):
    (root / strange).mkdir()
    shutil.move(root / "DeepChangeDataset", root / strange)
    deepchange = DeepChange(root / strange)
    assert [s.pid for s in deepchange.gallery] == [4, 4, 5, 5]


def test_a_missing_list_is_explained(root):
    (root / "DeepChangeDataset" / "test-set-query-bbox.txt").unlink()
    with pytest.raises(DataError, match=r"test-set-query-bbox\.txt does not exist: the list says"):
        DeepChange(root)


@pytest.mark.parametrize(
    "line", ["P1_C1_c1_1.jpg", "P1_C1_c1_1.jpg,", "1_C1_c1_1.jpg,4", "../P1_C1_c1_1.jpg,4"]
)
def test_a_line_of_another_form_is_named(root, line):
    path = root / "DeepChangeDataset" / "train-set-bbox.txt"
    path.write_text(f"{path.read_text()}\n{line}\n")
    with pytest.raises(
        DataError, match=r"train-set-bbox\.txt, line 5: expected <file>\.jpg,<track"
    ):
        DeepChange(root)


def test_a_repeated_line_is_warned_about_and_two_tracklets_are_refused(root, monkeypatch):
    monkeypatch.setattr(DeepChange, "counts", {})
    path = root / "DeepChangeDataset" / "train-set-bbox.txt"
    once = path.read_text()
    path.write_text(f"{once}P1_C2_c2_2019_2.jpg,6\n")
    deepchange = DeepChange(root)
    assert len(deepchange.train) == 4  # as the list says
    assert deepchange.warnings[-1] == (
        "deepchange: train-set-bbox.txt repeats lines (1), the first names P1_C2_c2_2019_2.jpg."
    )
    path.write_text(f"{once}P1_C2_c2_2019_2.jpg,7\n")
    with pytest.raises(DataError, match=r"P1_C2_c2_2019_2\.jpg is in the tracklets 6 and 7"):
        DeepChange(root)


def test_a_listed_image_that_is_missing_is_named(root):
    (root / "DeepChangeDataset" / "test-set-gallery" / "P5_C4_c1_2019_2.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of the 4 .* first is P5_C4_c1_2019_2\.jpg"):
        DeepChange(root)


@pytest.mark.parametrize(
    "name", ["DeepChange", "deepchange_dataset", "DeepChange/DeepChangeDataset"]
)
def test_the_usual_names_of_the_folder_are_found(root, name):
    (root / name).parent.mkdir(exist_ok=True)
    shutil.move(root / "DeepChangeDataset", root / name)
    assert len(DeepChange(root).train) == 3


def test_remembered_counts_only_warn(root, monkeypatch):
    monkeypatch.setattr(DeepChange, "counts", {"train": SplitCount(4, 5, certain=False)})
    (warning,) = DeepChange(root).warnings
    assert "train: expected 5 images of 4 people, found 3 images of 2 people" in warning
    assert "remembered, not verified" in warning


def test_missing_data_says_where_what_and_how(tmp_path):
    with pytest.raises(DataError) as error:
        DeepChange(tmp_path)
    for part in (str(tmp_path / "DeepChangeDataset"), "-bbox.txt", "signed", "data.root="):
        assert part in str(error.value)


def test_the_config_opens_it(root):
    assert type(open_by_config("deepchange", root)) is DeepChange


VAL = {
    "val query": SplitCount(1, 1, certain=False),
    "val gallery": SplitCount(1, 1, certain=False),
    "total": SplitCount(5, 11),
}


def test_the_total_is_that_of_all_five_lists(root, monkeypatch):
    monkeypatch.setattr(DeepChange, "counts", {**COUNTS, **VAL})
    assert DeepChange(root).warnings == ()
    path = root / "DeepChangeDataset" / "val-set-gallery-bbox.txt"
    path.write_text(f"{path.read_text()}P3_C2_c1_2019_2.jpg,9\n")
    with pytest.raises(DataError, match="total: expected 11 images of 5 people, found 12 images"):
        DeepChange(root)


def test_without_the_validation_lists_the_total_is_a_remembered_one(root, monkeypatch):
    monkeypatch.setattr(DeepChange, "counts", {**COUNTS, **VAL})
    monkeypatch.setattr(DeepChange, "total_without_val", SplitCount(4, 10, certain=False))
    for path in (root / "DeepChangeDataset").glob("val-set-*-bbox.txt"):
        path.unlink()
    query, gallery, total = DeepChange(root).warnings
    assert "val query: expected 1 images of 1 people, but it is not there" in query
    assert "val gallery" in gallery
    assert "total: expected 10 images of 4 people, found 9 images of 4 people" in total
    monkeypatch.setattr(DeepChange, "total_without_val", SplitCount(4, 20, certain=False))
    assert "total: expected 20 images" in DeepChange(root).warnings[2]
    with collect_faults() as faults:  # a check says more than loading does
        DeepChange(root)
    assert any("total: expected 20 images" in fault for fault in faults)


def test_nine_images_are_not_deepchange(root, monkeypatch):
    monkeypatch.setattr(DeepChange, "counts", PUBLISHED)
    with collect_faults() as faults:
        DeepChange(root)
    for part in PUBLISHED:
        assert any(fault.startswith(f"deepchange {part}: expected") for fault in faults)


def test_published_parts_sum_to_the_published_total():
    total = PUBLISHED["total"]
    assert total.certain
    assert sum(count.images for count in PUBLISHED.values()) == 2 * total.images == 2 * 178_407
    people = {part: count.identities for part, count in PUBLISHED.items()}
    assert people["train"] + people["gallery"] + people["val gallery"] == total.identities
    assert DeepChange.total_without_val.images == total.images - 4_976 - 17_865
    assert DeepChange.total_without_val.identities == total.identities - 150


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"P1_C1_c1_1.jpg,{10**18}", "line 4: expected <file>.jpg,<tracklet>"),
        (f"P1_C{10**18}_c1_1.jpg,4", "line 4: expected <file>.jpg,<tracklet>"),
        ("P1_C1_\xe9_1.jpg,4", "line 4: this is not UTF-8 text"),
    ],
)
def test_a_line_that_cannot_be_right_is_one_fault(root, line, said, monkeypatch):
    monkeypatch.setattr(DeepChange, "counts", {})
    folder = root / "DeepChangeDataset"
    path = folder / "train-set-bbox.txt"
    path.write_bytes(path.read_bytes() + f"{line}\n".encode("latin-1"))
    if len(name := line.split(",")[0]) < 200:
        shutil.copy(folder / "train-set" / UNLISTED, folder / "train-set" / name)
    with collect_faults() as faults:
        assert len(DeepChange(root).gallery) == 4
    (fault, *rest) = faults
    assert said in fault
    assert rest == (["deepchange: the train split has no image."] if "UTF-8" in said else [])


def test_a_link_to_nothing_is_a_fault(root):
    image = root / "DeepChangeDataset" / "train-set" / "P1_C1_c1_2019_1.jpg"
    image.unlink()
    image.symlink_to("gone.jpg")
    with collect_faults() as faults:
        DeepChange(root)
    assert f"{image} is a link to gone.jpg, which is not there." in faults
    assert any("lacks 1 of the 3 images" in fault for fault in faults)


def test_a_camera_that_is_not_expected_is_warned_about(root, monkeypatch):
    monkeypatch.setattr(DeepChange, "counts", {})
    folder = root / "DeepChangeDataset"
    path = folder / "train-set-bbox.txt"
    path.write_text(f"{path.read_text()}P1_C18_c1_1.jpg,4\n")
    shutil.copy(folder / "train-set" / UNLISTED, folder / "train-set" / "P1_C18_c1_1.jpg")
    (warning,) = DeepChange(root).warnings
    assert "P1_C18_c1_1.jpg: deepchange has no such camera, its cameras are 1 to 17" in warning
