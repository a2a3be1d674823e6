import shutil

import pytest

from ccreid.data.benchmarks.base import SplitCount
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


def test_a_repeated_line_is_warned_about_and_two_tracklets_are_refused(root):
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
    monkeypatch.setattr(DeepChange, "counts", {"train": SplitCount(450, 75_083, certain=False)})
    (warning,) = DeepChange(root).warnings
    assert "train: expected 75083 images of 450 people, found 3 images of 2 people" in warning


def test_missing_data_says_where_what_and_how(tmp_path):
    with pytest.raises(DataError) as error:
        DeepChange(tmp_path)
    for part in (str(tmp_path / "DeepChangeDataset"), "-bbox.txt", "signed", "data.root="):
        assert part in str(error.value)


def test_the_config_opens_it(root):
    assert type(open_by_config("deepchange", root)) is DeepChange
