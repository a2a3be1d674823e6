import shutil

import pytest

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.vc_clothes import VCClothes
from ccreid.data.datamodule import unanswerable_queries
from ccreid.data.sample import ids
from ccreid.errors import DataError
from tests.miniature.opening import open_by_config
from tests.miniature.vc_clothes import write_vc_clothes

COUNTS = {
    "train": SplitCount(2, 8, certain=False),
    "query": SplitCount(2, 8, certain=False),
    "gallery": SplitCount(2, 16, certain=False),
    "total": SplitCount(4, 32),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(VCClothes, "counts", COUNTS)
    write_vc_clothes(tmp_path)
    return tmp_path


def test_reads_the_published_layout(root):
    vc = VCClothes(root)
    assert [s.pid for s in vc.train] == [1] * 4 + [10] * 4
    assert [s.camid for s in vc.train] == [0, 1, 2, 3] * 2
    assert [len(samples) for samples in vc.splits.values()] == [8, 8, 16]
    assert vc.warnings == ()


def test_clothes_are_unique_over_all_people(root):
    vc = VCClothes(root)
    outfits = {(s.pid, s.clothes_id) for s in vc.train + vc.query + vc.gallery}
    assert len(outfits) == len({clothes for _, clothes in outfits}) == 8


def test_outfit_21_of_person_1_is_not_outfit_1_of_person_12(root, monkeypatch):
    monkeypatch.setattr(VCClothes, "counts", {})
    train = root / "VC-Clothes" / "train"
    for name in ("1-1-21-1.jpg", "12-1-1-1.jpg"):
        shutil.copy(train / "001-1-02-01.jpg", train / name)
    clothes = {s.path.rsplit("/", 1)[1]: s.clothes_id for s in VCClothes(root).train}
    assert clothes["1-1-21-1.jpg"] != clothes["12-1-1-1.jpg"]


def test_protocols_choose_cameras_under_the_standard_rule(root):
    """Expected cameras as the paper counts them, from 1."""
    vc = VCClothes(root)
    chosen = {}
    for protocol in vc.protocols:
        assert protocol.rule == "standard"
        query = {vc.query[i].camid + 1 for i in protocol.select_query(vc.query)}
        gallery = {vc.gallery[i].camid + 1 for i in protocol.select_galleries(vc.gallery)[0]}
        assert query == gallery
        chosen[protocol.name] = query
    assert chosen == {"general": {1, 2, 3, 4}, "sc": {2, 3}, "cc": {3, 4}}
    assert unanswerable_queries(vc) == {"general": 0, "sc": 0, "cc": 0}


@pytest.mark.parametrize("strange", ["2019-07-01-12", "1-2-3-4.jpg", "query"])
def test_a_root_that_looks_like_a_name_changes_nothing(root, strange):
    expected = VCClothes(root)
    (root / strange).mkdir()
    shutil.move(root / "VC-Clothes", root / strange)
    moved = VCClothes(root / strange)
    for field in ("pid", "camid", "clothes_id"):
        for split, samples in expected.splits.items():
            assert ids(moved.splits[split], field).tolist() == ids(samples, field).tolist()


@pytest.mark.parametrize("name", ["Vc-Clothes", "vc_clothes", "VCClothes"])
def test_the_usual_names_of_the_folder_are_found(root, name):
    shutil.move(root / "VC-Clothes", root / name)
    assert len(VCClothes(root).train) == 8


def test_names_of_real28_are_refused(root):
    (root / "VC-Clothes" / "train" / "01_1_01_1.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"Unexpected name .*01_1_01_1\.jpg(?s:.*)Real28"):
        VCClothes(root)


def test_remembered_splits_warn_and_the_verified_total_is_enforced(root, monkeypatch):
    gallery = root / "VC-Clothes" / "gallery" / "011-1-01-02.jpg"
    shutil.move(gallery, root / "VC-Clothes" / "query" / "011-1-01-02.jpg")
    warnings = VCClothes(root).warnings
    assert len(warnings) == 2
    assert "query: expected 8 images of 2 people, found 9 images of 2 people" in warnings[0]
    assert "not verified" in warnings[0]
    (root / "VC-Clothes" / "query" / "011-1-01-02.jpg").unlink()
    with pytest.raises(DataError, match="total: expected 32 images of 4 people, found 31"):
        VCClothes(root)


def test_missing_data_says_where_what_and_how(tmp_path):
    with pytest.raises(DataError) as error:
        VCClothes(tmp_path)
    for part in (str(tmp_path / "VC-Clothes"), "<outfit>", "wanfb.github.io", "data.root="):
        assert part in str(error.value)


def test_the_config_opens_it(root):
    assert type(open_by_config("vc_clothes", root)) is VCClothes


def test_published_splits_sum_to_the_published_total():
    counts = VCClothes.counts
    train, query, gallery, total = (counts[k] for k in ("train", "query", "gallery", "total"))
    assert train.images + query.images + gallery.images == total.images
    assert train.identities + query.identities == total.identities


def test_a_fifth_camera_is_named(root, monkeypatch):
    monkeypatch.setattr(VCClothes, "counts", {})
    train = root / "VC-Clothes" / "train"
    shutil.copy(train / "001-1-02-01.jpg", train / "001-5-02-01.jpg")
    with pytest.raises(
        DataError, match=r"001-5-02-01\.jpg: vc_clothes has no such camera.* 1 to 4"
    ):
        VCClothes(root)


def test_a_protocol_whose_cameras_show_nothing_is_explained(root, monkeypatch):
    monkeypatch.setattr(VCClothes, "counts", {})
    for image in (root / "VC-Clothes" / "gallery").glob("*-[34]-*.jpg"):
        image.unlink()
    with pytest.raises(DataError) as error:
        unanswerable_queries(VCClothes(root))
    assert "vc_clothes: there is no gallery image under the cameras of protocol 'cc'" in str(
        error.value
    )
    assert "wanfb.github.io" in str(error.value)
