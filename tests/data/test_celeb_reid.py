import shutil

import pytest

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.celeb_reid import CelebReID, CelebReIDLight
from ccreid.data.datamodule import unanswerable_queries
from ccreid.data.sample import ids
from ccreid.errors import DataError
from tests.miniature.celeb_reid import write_celeb_reid
from tests.miniature.opening import open_by_config

COUNTS = {
    "train": SplitCount(3, 5),
    "query": SplitCount(2, 2),
    "gallery": SplitCount(2, 4),
    "total": SplitCount(5, 11),  # people 1 and 2 of train are not people 1 and 2 of test
}
PUBLISHED = [CelebReID.counts, CelebReIDLight.counts]  # before the fixture
BOTH = [(CelebReID, "Celeb-reID"), (CelebReIDLight, "Celeb-reID-light")]


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    for benchmark, folder in BOTH:
        monkeypatch.setattr(benchmark, "counts", COUNTS)
        write_celeb_reid(tmp_path, folder)
    return tmp_path


@pytest.mark.parametrize(("benchmark", "folder"), BOTH)
def test_reads_the_published_layout_of_its_own_folder(root, benchmark, folder):
    celeb = benchmark(root)
    assert celeb.root == root / folder
    assert [s.pid for s in celeb.train] == [1, 1, 2, 2, 632]
    assert {s.camid for s in celeb.train + celeb.query + celeb.gallery} == {-1}
    assert celeb.warnings == ()
    for samples in celeb.splits.values():
        assert [s.path for s in samples] == sorted(s.path for s in samples)


def test_overlapping_numbers_are_other_people(root):
    celeb = CelebReID(root)
    assert set(ids(celeb.train, "pid")) & set(ids(celeb.query, "pid")) == {1, 2}
    assert celeb.found_counts()["total"] == SplitCount(5, 11)


@pytest.mark.parametrize(("benchmark", "folder"), BOTH)
def test_no_gallery_image_is_junk(root, benchmark, folder):
    celeb = benchmark(root)
    (protocol,) = celeb.protocols
    assert protocol.rule == "none"
    assert len(protocol.select_galleries(celeb.gallery)[0]) == 4
    assert unanswerable_queries(celeb) == {"general": 0}


def test_only_light_knows_clothes_and_each_image_is_an_outfit(root):
    celeb, light = CelebReID(root), CelebReIDLight(root)
    assert {s.clothes_id for s in celeb.train + celeb.query + celeb.gallery} == {-1}
    clothes = [s.clothes_id for s in light.train + light.query + light.gallery]
    assert len(set(clothes)) == len(clothes) == 11


@pytest.mark.parametrize("strange", ["12_3_4", "query", "7_1_c3"])
def test_a_root_that_looks_like_a_name_changes_nothing(root, strange):
    (root / strange).mkdir()
    shutil.move(root / "Celeb-reID", root / strange)
    celeb = CelebReID(root / strange)
    assert [s.pid for s in celeb.train] == [1, 1, 2, 2, 632]
    assert [s.pid for s in celeb.gallery] == [1, 1, 2, 2]


@pytest.mark.parametrize(("benchmark", "folder"), BOTH)
def test_the_usual_names_of_the_folder_are_found(root, benchmark, folder):
    shutil.move(root / folder, root / folder.lower().replace("-", "_"))
    assert len(benchmark(root).train) == 5


@pytest.mark.parametrize(("benchmark", "folder"), BOTH)
def test_one_is_not_taken_for_the_other(root, benchmark, folder):
    shutil.rmtree(root / folder)
    with pytest.raises(DataError, match=rf"{benchmark.name} was not found"):
        benchmark(root)


def test_verified_counts_are_enforced(root):
    (root / "Celeb-reID" / "query" / "2_1_0.jpg").unlink()
    with pytest.raises(DataError, match="query: expected 2 images of 2 people, found 1 images of"):
        CelebReID(root)


def test_missing_data_says_where_what_and_how(tmp_path):
    with pytest.raises(DataError) as error:
        CelebReIDLight(tmp_path / "nowhere")
    for part in (str(tmp_path / "nowhere"), "<pid>_<image>_<z>", "no redistribution", "data.root="):
        assert part in str(error.value)


@pytest.mark.parametrize(("benchmark", "folder"), BOTH)
def test_the_config_opens_it(root, benchmark, folder):
    assert open_by_config(benchmark.name, root).root == root / folder


@pytest.mark.parametrize("counts", PUBLISHED)
def test_published_splits_sum_to_the_published_total(counts):
    train, query, gallery, total = (counts[k] for k in ("train", "query", "gallery", "total"))
    assert train.images + query.images + gallery.images == total.images
    assert train.identities + query.identities == total.identities
    assert query.identities == gallery.identities
