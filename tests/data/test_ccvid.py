import shutil

import pytest
import torch

from ccreid.data.benchmarks.base import SplitCount, collect_faults
from ccreid.data.benchmarks.ccvid import CCVID
from ccreid.data.clips import ClipRule, training_pieces
from ccreid.data.datamodule import ReIDDataModule, unanswerable_queries
from ccreid.data.sample import ids
from ccreid.data.transforms import TestTransform, TrainTransform
from ccreid.errors import ConfigError, DataError
from tests.conftest import trainer_at
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

PUBLISHED = CCVID.counts  # before the fixture


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
    data.trainer = trainer_at(0)
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


def test_frames_have_five_digits_and_begin_at_one(root, monkeypatch):
    monkeypatch.setattr(CCVID, "counts", {})
    tracklet = root / "CCVID" / "session1" / "005_01"
    shutil.copy(tracklet / "00009.jpg", tracklet / "0010.jpg")
    with pytest.raises(DataError, match=r"Unexpected name .*005_01/0010\.jpg"):
        CCVID(root)
    (tracklet / "0010.jpg").unlink()
    (tracklet / "00001.jpg").unlink()
    with pytest.raises(DataError, match=r"005_01 begins with 00002\.jpg, not with 00001\.jpg"):
        CCVID(root)
    shutil.copy(tracklet / "00009.jpg", tracklet / "00000.jpg")
    with pytest.raises(DataError, match=r"005_01 begins with 00000\.jpg"):
        CCVID(root)


def test_a_gap_is_named_and_the_count_of_frames_decides(root, monkeypatch):
    (root / "CCVID" / "session1" / "005_01" / "00004.jpg").unlink()
    with collect_faults() as faults:
        (warning,) = CCVID(root).warnings
    assert faults == ["ccvid frames: expected 199 frames, found 198 frames."]
    assert warning.endswith("have gaps in session1/005_01 (9 is the last of 8).")


def test_a_tracklet_of_an_impossible_length_is_named(root, monkeypatch):
    limits = {"shortest tracklet": 1, "longest tracklet": 70}
    counts = {part: SplitCount(None, size, what="frames") for part, size in limits.items()}
    monkeypatch.setattr(CCVID, "counts", counts)
    assert CCVID(root).warnings == ()
    tracklet = root / "CCVID" / "session2" / "001_02"
    shutil.copy(tracklet / "00070.jpg", tracklet / "00071.jpg")
    with collect_faults() as faults:
        CCVID(root)
    assert faults == [
        f"{tracklet} holds 71 frames; tracklets have 1 to 70.",
        "ccvid longest tracklet: expected 70 frames, found 71 frames.",
    ]


def test_tracklets_are_counted_per_session(root):
    counts = CCVID(root).found_counts()
    assert [counts[f"session {n}"].images for n in (1, 2, 3)] == [5, 3, 2]


def test_published_sessions_sum_to_the_published_total():
    counts = PUBLISHED
    sessions = [counts[f"session {n}"].images for n in (1, 2, 3)]
    splits = [counts[split].images for split in ("train", "query", "gallery")]
    assert sum(sessions) == sum(splits) == counts["total"].images == 2_856
    assert counts["shortest tracklet"].images == 27
    assert counts["longest tracklet"].images == 410


def test_a_thirteenth_walk_is_named(root):
    path = root / "CCVID" / "query.txt"
    path.write_text(path.read_text() + "session1/010_13\t010\tu0_l0_s0_c0_a0\n")
    with pytest.raises(DataError, match=r"line 3: session1/010_13, but walks are 01 to 12"):
        CCVID(root)


def test_a_list_that_is_not_utf_8_is_one_fault_with_its_line(root, monkeypatch):
    monkeypatch.setattr(CCVID, "counts", {})
    path = root / "CCVID" / "query.txt"
    path.write_bytes(path.read_bytes() + b"session1/010_02\t010\tu\xe9\n")
    with pytest.raises(DataError, match=r"query\.txt, line 3: this is not UTF-8 text"):
        CCVID(root)
    with collect_faults() as faults:
        assert len(CCVID(root).gallery) == 4
    assert len(faults) == 2  # and the query split is empty


def test_a_root_inside_the_benchmark_is_explained(root):
    with pytest.raises(DataError) as error:
        CCVID(root / "CCVID" / "session1")
    assert str(error.value).endswith(f"Say data.root={root / 'CCVID'}")
