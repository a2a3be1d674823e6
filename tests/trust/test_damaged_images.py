"""Damaged images: refused by name, or, if the user says so, left out of training and counted."""

import zipfile
from pathlib import Path

import pytest
import torch

from ccreid.annotation.endpoint import EndpointCaptioner
from ccreid.caption import caption
from ccreid.config import compose
from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.ccvid import CCVID
from ccreid.data.benchmarks.folder import Folder
from ccreid.data.captions.files import read_captions
from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.sample import ids
from ccreid.data.transforms import TestTransform, TrainTransform
from ccreid.data.whole_files import leave_out_damaged, require_whole_files
from ccreid.errors import ConfigError, DataError
from ccreid.train import train
from tests.miniature.ccvid import write_ccvid
from tests.miniature.folder import PATTERNS, write_folder
from tests.miniature.pictures import write_picture
from tests.miniature.small_run import small_run

DAMAGES = {
    "cut short": lambda content: content[: len(content) * 2 // 3],
    "no image": lambda content: b"<html>404</html>",
    "empty": lambda content: b"",
}


@pytest.fixture
def root(tmp_path):
    """Train people Ana, Bo and Cy with eight images each, two outfits, two cameras."""
    return write_folder(tmp_path / "mine")


def damage(path, how="cut short"):
    path.write_bytes(DAMAGES[how](path.read_bytes()))
    return path


def damage_inside(path):
    """Leave both ends of a JPEG as they are, so that only decoding tells."""
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\0" * 60 + content[-2:])
    return path


def datamodule(benchmark, **settings):
    transforms = TrainTransform(32, 16), TestTransform(32, 16)
    return ReIDDataModule(benchmark, *transforms, 2, 4, workers=0, **settings)


def test_captions_are_made_of_what_is_left(root, tmp_path, monkeypatch, capsys):
    damaged = damage(root / "train" / "Bo" / "c1_a_1.jpg")
    monkeypatch.setattr(
        EndpointCaptioner, "answer", lambda self, images, prompt: ["a person"] * len(images)
    )
    command = [
        "data=folder",
        f"data.root={root}",
        *(f"data.benchmark.{name}={value!r}" for name, value in PATTERNS.items()),
        "captioner=endpoint",
        "captioner.model=tiny",
        f"folder={tmp_path / 'text'}",
    ]
    with pytest.raises(DataError, match="not a whole image"):
        caption(compose("caption", command))
    path = caption(compose("caption", [*command, "data.on_damaged=leave_out"]))
    assert str(damaged) in capsys.readouterr().out.replace("\n", "")
    assert len(read_captions(path)) == 23


def drawn(data, epochs=3):
    """All that the sampler draws, through the loader's dataset: every image is decoded."""
    from ccreid.data.datamodule import TrainImages

    images = TrainImages(data)
    plans = [data.sampler.plan(epoch) for epoch in range(epochs)]
    draws = {draw for plan in plans for draw in zip(*(part.ravel() for part in plan), strict=True)}
    return [images[(int(index), int(seed))] for index, seed in sorted(draws)]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_train_file_is_named_and_refused_by_default(root, how):
    damaged = damage(root / "train" / "Bo" / "c1_a_1.jpg", how)
    with pytest.raises(DataError) as error:
        train(small_run(root))
    assert str(damaged) in str(error.value)
    assert "data.on_damaged=leave_out" in str(error.value)
    assert not list(root.parent.rglob("*.ckpt"))


def test_left_out_images_are_counted_and_named_and_never_drawn(root):
    damaged = [damage(root / "train" / name, how) for name, how in (
        ("Ana/c1_a_1.jpg", "cut short"), ("Cy/c1_b_1.jpg", "no image"), ("Cy/c1_b_2.jpg", "empty")
    )]  # fmt: skip
    before = Folder(root, **PATTERNS)
    data = datamodule(before, on_damaged="leave_out", requires={"clothes"})
    (note, *_) = data.notes
    assert "3 of 24 train images are damaged and left out" in note
    assert all(str(path) in note for path in damaged)
    assert len(before.train) == 24  # what was given is unchanged
    assert len(data.train) == 21 == len(data.benchmark.train)
    assert not {sample.path for sample in data.train} & set(map(str, damaged))
    assert (data.num_identities, data.num_clothes) == (3, 6)
    for item in drawn(data):
        sample = data.train[item["index"]]
        assert sorted({s.pid for s in data.train})[item["pid"]] == sample.pid
        outfits = sorted({s.clothes_id for s in data.train})
        assert outfits[item["clothes_id"]] == sample.clothes_id


def test_an_outfit_without_images_leaves_no_gap_in_the_labels(root):
    for name in ("c1_a_1", "c1_a_2", "c2_a_1", "c2_a_2"):
        damage(root / "train" / "Bo" / f"{name}.jpg")
    data = datamodule(Folder(root, **PATTERNS), on_damaged="leave_out", requires={"clothes"})
    assert data.num_clothes == 5
    assert data.train_clothes_id.unique().tolist() == [0, 1, 2, 3, 4]


def test_a_person_without_images_is_an_error(root):
    for path in (root / "train" / "Bo").glob("c*.jpg"):
        damage(path)
    with pytest.raises(DataError, match=r"no train image of 1 people \(1\)"):
        datamodule(Folder(root), on_damaged="leave_out")


def test_of_a_tracklet_the_damaged_frames_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(CCVID, "counts", {"train": SplitCount(2, 4, what="tracklets")})
    frames = write_ccvid(tmp_path) / "session1" / "001_01"
    damage(frames / "00002.jpg")
    damage(frames / "00005.jpg")
    sound, note = leave_out_damaged(CCVID(tmp_path))
    assert "2 of 117 train images" in note
    assert sorted(len(sample.frames) for sample in sound.train) == [3, 9, 33, 70]
    (tracklet,) = (sample for sample in sound.train if len(sample.frames) == 3)
    assert [Path(frame).stem for frame in tracklet.frames] == ["00001", "00003", "00004"]


def test_a_note_of_many_files_is_short(root):
    for number in range(40):
        damage(root / "train" / "Ana" / "c1_a_1.jpg")
        write_picture(root / "train" / "Ana" / f"c1_a_1{number:02d}.jpg", number)
        damage(root / "train" / "Ana" / f"c1_a_1{number:02d}.jpg", "empty")
    _, note = leave_out_damaged(Folder(root))
    assert "41 of 64 train images" in note
    assert note.endswith("and 21 more")


def test_without_damage_nothing_changes(root):
    benchmark = Folder(root)
    assert leave_out_damaged(benchmark) == (benchmark, "")
    assert datamodule(benchmark, on_damaged="leave_out").notes == []


def test_an_unknown_choice_is_refused(root):
    with pytest.raises(ConfigError, match=r"data\.on_damaged=skip should be one of"):
        datamodule(Folder(root), on_damaged="skip")


def test_held_out_people_stay_the_same(root):
    data = datamodule(Folder(root, **PATTERNS), validation="identities", validation_people=0.34)
    damage(root / "train" / "Ana" / "c1_a_1.jpg")
    left = datamodule(
        Folder(root, **PATTERNS),
        validation="identities",
        validation_people=0.34,
        on_damaged="leave_out",
    )
    assert set(ids(left.validation.query, "pid")) == set(ids(data.validation.query, "pid"))
    assert torch.equal(left.train_pid.unique(), data.train_pid.unique())


def test_a_run_without_its_damaged_images_trains(root):
    damage(root / "train" / "Ana" / "c1_a_1.jpg")
    result = train(small_run(root, "data.on_damaged=leave_out"))
    assert result.metrics["test/folder/general/num_valid_queries"] > 0


@pytest.mark.parametrize("split", ["query", "gallery"])
def test_a_damaged_test_image_is_refused_whatever_the_setting(root, split):
    damaged = damage(next((root / split / "Di").glob("c*.jpg")))
    with pytest.raises(DataError, match=damaged.name):
        train(small_run(root, "data.on_damaged=leave_out"))
    assert not list(root.parent.rglob("*.ckpt"))


def test_an_unseen_damage_of_a_test_image_is_refused_after_training(root):
    damaged = damage_inside(next((root / "gallery" / "Di").glob("c*.jpg")))
    with pytest.raises(DataError, match=f"(?s){damaged.name}.*its last checkpoint is whole"):
        train(small_run(root, "data.on_damaged=leave_out"))
    assert list(root.parent.rglob("last.ckpt"))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unseen_damage_of_a_train_image_stops_the_run_by_name(root, workers):
    for path in (root / "train").rglob("c*.jpg"):
        damage_inside(path)
    with pytest.raises(DataError) as error:
        train(small_run(root, "data.on_damaged=leave_out", f"data.workers={workers}"))
    text = str(error.value)
    assert f"{root / 'train'}" in text
    assert "is not a whole image" in text
    assert "Traceback" not in text
    assert "Caught" not in text


def test_a_member_with_a_wrong_checksum_is_damaged(tmp_path):
    write_picture(tmp_path / "0.jpg", 0, size=(64, 64))
    archive = tmp_path / "images.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.write(tmp_path / "0.jpg", "0.jpg")
    content = bytearray(archive.read_bytes())
    content[200] ^= 255
    archive.write_bytes(content)
    from ccreid.data.sample import Sample

    with pytest.raises(DataError, match=r"images\.zip!0\.jpg.*CRC"):
        require_whole_files([Sample(f"{archive}!0.jpg", 0)])
