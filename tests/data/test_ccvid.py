import shutil
from types import SimpleNamespace

import pytest
import torch

from ccreid.data.benchmarks.base import SplitCount, collect_faults
from ccreid.data.benchmarks.ccvid import CCVID
from ccreid.data.clips import ClipRule, training_pieces
from ccreid.data.datamodule import ReIDDataModule, unanswerable_queries
from ccreid.data.sample import ids
from ccreid.data.transforms import TestTransform, TrainTransform
from ccreid.errors import ConfigError, DataError
from tests.miniature.ccvid import TRACKLETS, write_ccvid
from tests.miniature.opening import open_by_config

COUNTS = {
    "train": SplitCount(2, 4, what="tracklets"),
    "query": SplitCount(2, 2, what="tracklets"),
    "gallery": SplitCount(2, 4, what="tracklets"),
    "total": SplitCount(4, 10, what="tracklets"),
    "frames": SplitCount(None, 199, what="frames"),
    "train outfits": SplitCount(None, 4, what="outfits"),
    "test outfits": SplitCount(None, 5, what="outfits"),
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(CCVID, "counts", COUNTS)
    write_ccvid(tmp_path)
    return tmp_path


def test_reads_tracklets_in_sorted_order(root):
    ccvid = CCVID(root)
    for split, samples in ccvid.splits.items():
        written = {folder: length for folder, _, length in TRACKLETS[split]}
        assert [s.path for s in samples] == [str(root / "CCVID" / f) for f in sorted(written)]
        assert [len(s.frames) for s in samples] == [written[f] for f in sorted(written)]
        for sample in samples:
            assert list(sample.frames) == sorted(sample.frames)
            assert sample.cover in sample.frames
    assert ccvid.warnings == ()
    assert ccvid.num_foreign_files == 4


def test_only_session_three_has_cameras_of_its_own(root):
    ccvid = CCVID(root)
    assert ids(ccvid.train, "camid").tolist() == [1, 1, 2, 24]
    assert ids(ccvid.gallery, "camid").tolist() == [4, 1, 5, 13]


def test_outfits_are_numbered_per_person(root):
    ccvid = CCVID(root)
    samples = ccvid.train + ccvid.query + ccvid.gallery
    person = {s.clothes_id: s.pid for s in samples}
    assert len(person) == 9
    assert all(person[s.clothes_id] == s.pid for s in samples)


def test_the_protocols_are_cals(root):
    ccvid = CCVID(root)
    assert [(p.name, p.rule) for p in ccvid.protocols] == [
        ("general", "standard"),
        ("cc", "cc"),
        ("sc", "sc"),
    ]
    # Person 010: session 2 shares the query's camera, session 3 shows another outfit.
    assert unanswerable_queries(ccvid) == {"general": 0, "cc": 0, "sc": 1}


def test_lists_are_read_strictly(root):
    path = root / "CCVID" / "query.txt"
    text = path.read_text()
    path.write_text(text + "session1/010_01 010 u0_l0_s0_c0_a0\n")
    with pytest.raises(DataError, match=r"query.txt, line 3: expected .* but found 'session1/010_"):
        CCVID(root)
    path.write_text(text + "session1/010_02\t011\tu0_l0_s0_c0_a0\n")
    with pytest.raises(DataError, match="line 3"):
        CCVID(root)
    path.write_text(text + text.splitlines()[0])
    with pytest.raises(DataError, match="line 3: session1/226_03 is named a second time"):
        CCVID(root)
    path.write_text(text + "session1/001_01\t001\tu0_l0_s0_c0_a0\n")
    with pytest.raises(DataError, match=r"is in train\.txt and in query\.txt"):
        CCVID(root)


def test_missing_tracklets_are_all_named_when_asked(root):
    shutil.rmtree(root / "CCVID" / "session1" / "226_03")
    for frame in (root / "CCVID" / "session1" / "001_01").glob("*.jpg"):
        frame.unlink()
    with pytest.raises(DataError, match="holds no frame"):
        CCVID(root)
    with collect_faults() as faults:
        CCVID(root)
    assert any("226_03 does not exist, but query.txt names it" in fault for fault in faults)
    assert any("001_01 holds no frame" in fault for fault in faults)


def test_a_second_top_folder_is_explained(root):
    (root / "outer").mkdir()
    (root / "outer" / "CCVID").mkdir()
    shutil.move(root / "CCVID", root / "outer" / "CCVID")
    with pytest.raises(DataError, match=r"nested too deep.*data.root="):
        CCVID(root / "outer")


def test_training_draws_one_clip_of_every_piece(root):
    ccvid = CCVID(root)
    data = ReIDDataModule(ccvid, TrainTransform(32, 16), TestTransform(32, 16), 2, 2, workers=0)
    pieces = [len(training_pieces(len(s.frames))) for s in ccvid.train]
    assert len(data.train) == sum(pieces)
    assert (data.num_identities, data.num_clothes) == (2, 4)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, current_epoch=0)
    (batch, *_) = data.train_dataloader()
    assert batch["image"].shape == (4, 8, 3, 32, 16)
    for row, index in enumerate(batch["index"].tolist()):
        assert batch["camid"][row] == data.train[index].camid


def test_a_clip_is_mirrored_cut_and_erased_as_one(root):
    from ccreid.data.files import read_image
    from ccreid.data.transforms import RandomErasing, seeded

    frame = read_image(CCVID(root).train[0].frames[0])
    transform = TrainTransform(32, 16, pad=4, erasing=RandomErasing(p=1.0))
    outcomes = set()
    for seed in range(4):
        with seeded(seed):
            clip = transform.clip([frame] * 5)
        assert all(torch.equal(clip[0], other) for other in clip[1:])
        outcomes.add(clip[0].sum().item())
    assert len(outcomes) == 4  # but clips differ


def test_the_clip_rule_is_a_setting(root):
    assert CCVID(root, clips=ClipRule(length=4)).clips.length == 4
    with pytest.raises(ConfigError, match=r"clips\.length"):
        ClipRule(length=0)


def test_the_config_opens_it(root):
    opened = open_by_config("ccvid", root)
    assert type(opened) is CCVID
    assert opened.clips == ClipRule(8, 4, 64)
