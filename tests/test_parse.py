"""`python -m ccreid.parse`: masks of a miniature, by one process, two, or an interrupted one."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
import torch
from PIL import Image

from ccreid.config import compose
from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.ltcc import LTCC
from ccreid.data.benchmarks.virtual import ARCHIVE, Virtual
from ccreid.data.files import read_labels
from ccreid.data.parsing import ParsingStore
from ccreid.data.parsing.folder import MaskFolder
from ccreid.data.parsing.schemas import SCHEMAS
from ccreid.errors import ConfigError, DataError
from ccreid.models.parsers import SegmentationParser
from ccreid.parse import parse
from tests.distributed.ranks import free_port
from tests.miniature.ltcc import write_ltcc
from tests.miniature.segformer import write_segformer

UPPER = 4  # of ATR; canonical 2


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A network that sees an upper garment everywhere."""
    return write_segformer(tmp_path_factory.mktemp("segformer"), favourite=UPPER)


@pytest.fixture
def ltcc(tmp_path, monkeypatch):
    monkeypatch.setattr(LTCC, "counts", {"train": SplitCount(2, 4)})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return LTCC(write_ltcc(tmp_path))


@pytest.fixture
def run(ltcc, model, tmp_path):
    """Run the verb's function on the miniature with the small network."""

    def run(*overrides):
        settings = {
            "data": "ltcc",
            "data.root": tmp_path,
            "parser.model": model,
            "output_dir": tmp_path / "masks",
            "device": "cpu",
            "batch_size": 3,
            "workers": 0,
        }
        typed = {text.partition("=")[0] for text in overrides}
        kept = [f"{key}={value}" for key, value in settings.items() if key not in typed]
        return parse(compose("parse", [*kept, *overrides]))

    return run


def masks_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.png"))


def test_train_masks_mirror_the_images_and_are_canonical(run, ltcc, model, tmp_path, capsys):
    record = run()
    names = [f"train/{sample.path.rsplit('/', 1)[1]}" for sample in ltcc.train]
    assert masks_in(tmp_path / "masks") == names
    for name in names:
        mask = Image.open(tmp_path / "masks" / name)
        assert (mask.mode, mask.size) == ("L", (16, 32))
        assert set(np.unique(mask)) == {SCHEMAS["atr18"].canonical[UPPER]} == {2}
    assert json.loads((tmp_path / "masks" / "parsing.json").read_text()) == record
    assert (record["images"], record["masks"], record["implausible"]) == (4, 4, 4)
    assert (record["model"], record["benchmark"]) == (str(model), "ltcc")
    assert datetime.fromisoformat(record["date"]).utcoffset() is not None
    said = " ".join(capsys.readouterr().out.split())
    assert "4 masks were made here; 4 of 4 images of ltcc have one." in said
    assert "data.parsing.root=" in said
    assert "data.parsing.layout=mirror data.parsing.schema=canonical" in said


def test_the_store_reads_what_the_verb_made(run, ltcc, tmp_path):
    run()
    store = ParsingStore(ltcc, str(tmp_path / "masks"))
    report = store.require(ltcc.train)
    assert (report.images, report.missing, report.implausible) == (4, 0, 4)
    assert (store.get(ltcc.train[0]) == 2).all()


def test_all_splits_on_request(run, ltcc, tmp_path):
    assert run("split=all")["masks"] == 4 + 3 + 5
    folders = {name.split("/")[0] for name in masks_in(tmp_path / "masks")}
    assert folders == {"train", "query", "test"}


def test_what_is_there_is_not_made_again(run, tmp_path, monkeypatch):
    run()
    (name, *_) = masks_in(tmp_path / "masks")
    (tmp_path / "masks" / name).unlink()
    segmented = []
    forward = SegmentationParser.forward

    def counting(self, pixels, sizes):
        segmented.append(len(pixels))
        return forward(self, pixels, sizes)

    monkeypatch.setattr(SegmentationParser, "forward", counting)
    assert run()["masks"] == 4
    assert segmented == [1]


def test_an_interrupted_run_leaves_whole_masks_and_goes_on(run, tmp_path, monkeypatch):
    add = MaskFolder.add

    def stopping(self, sample, labels):
        if len(masks_in(tmp_path / "masks")) == 2:
            raise KeyboardInterrupt
        add(self, sample, labels)

    monkeypatch.setattr(MaskFolder, "add", stopping)
    with pytest.raises(KeyboardInterrupt):
        run()
    files = [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]
    assert len(files) == 2 + 1  # two masks and the record
    assert all(read_labels(str(path)).size for path in files if path.suffix == ".png")
    monkeypatch.setattr(MaskFolder, "add", add)
    assert run()["masks"] == 4


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_takes_every_second_image(run, ltcc, tmp_path, monkeypatch, rank):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run()["masks"] == 2
    names = [f"train/{sample.path.rsplit('/', 1)[1]}" for sample in ltcc.train]
    assert masks_in(tmp_path / "masks") == names[rank::2]


def small_archive(path):
    """Five train images of `virtual`, and one query with its match."""
    with zipfile.ZipFile(ARCHIVE) as whole, zipfile.ZipFile(path, "w") as small:
        for split, person, count in (("train", 1, 5), ("query", 65, 1), ("gallery", 65, 1)):
            prefix = f"virtual/{split}/{person:04d}_"
            names = [name for name in sorted(whole.namelist()) if name.startswith(prefix)]
            for name in names[:count]:
                small.writestr(name, whole.read(name))
    return path


def test_torchrun_shares_the_images_among_its_processes(model, tmp_path):
    command = (
        f"torch.distributed.run --nproc_per_node=2 --master_port={free_port()} -m ccreid.parse"
    )
    settings = (
        "data=virtual",
        f"data.archive={small_archive(tmp_path / 'small.zip')}",
        f"parser.model={model}",
        "workers=0",
        "device=cpu",
    )
    process = subprocess.run(
        [sys.executable, "-m", *command.split(), *settings],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert process.returncode == 0, process.stderr
    folder = tmp_path / "outputs" / "parsing" / "virtual_segformer_clothes"
    assert len(masks_in(folder)) == 5 == json.loads((folder / "parsing.json").read_text())["masks"]
    assert process.stdout.count("3 masks were made here") == 1  # rank 0's share; rank 1 is silent
    assert "data.parsing.root=" in process.stdout


def test_masks_of_another_model_are_not_mixed_in(run, tmp_path, model):
    run()
    other = write_segformer(tmp_path / "other")
    with pytest.raises(ConfigError, match=r"holds masks of ltcc by .*, not of ltcc by .*other"):
        run(f"parser.model={other}")


def test_files_of_others_are_never_taken_for_masks(run, ltcc, tmp_path):
    """LTCC's images are PNGs: in its own folder each would pass for its mask."""
    before = (tmp_path / "LTCC_ReID" / "train" / "000_1_c1_000012.png").read_bytes()
    with pytest.raises(ConfigError, match=r"ccreid\.parse did not make them"):
        run(f"output_dir={tmp_path / 'LTCC_ReID'}")
    assert (tmp_path / "LTCC_ReID" / "train" / "000_1_c1_000012.png").read_bytes() == before
    assert not (tmp_path / "LTCC_ReID" / "parsing.json").exists()


def test_a_schema_of_another_size_is_refused(run):
    with pytest.raises(ConfigError, match="has 18 labels, but schema 'lip20' has 20"):
        run("parser.schema=lip20")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("split=test", "split=test should be train or all"),
        ("batch_size=0", "batch_size=0 should be at least 1"),
        ("workers=-1", "workers=-1 should be at least 0"),
        ("device=teapot", "device=teapot cannot be used"),
        ("parser.schema=atr", "Did you mean 'atr18'?"),
    ],
)
def test_impossible_settings(run, override, said):
    with pytest.raises(ConfigError) as error:
        run(override)
    assert said in str(error.value)


def test_tracklets_are_refused(tmp_path):
    virtual = Virtual()
    video = [replace(sample, frames=(sample.path,)) for sample in virtual.train[:2]]
    with pytest.raises(DataError, match="video benchmark"):
        MaskFolder(tmp_path, virtual, video, model="m", schema="atr18", num_labels=18)


def test_an_unreadable_image_is_named(run, ltcc):
    path = ltcc.train[2].path
    with open(path, "wb") as file:
        file.write(b"no image")
    with pytest.raises(DataError, match="is not a whole image") as error:
        run()
    assert path in str(error.value)


def test_too_little_memory_asks_for_a_smaller_batch(run, monkeypatch):
    def full(self, pixels, sizes):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(SegmentationParser, "forward", full)
    with pytest.raises(ConfigError, match=r"parsing on cpu(.|\n)*batch_size to less than 3"):
        run()


def test_loader_processes_give_the_same_masks(run, tmp_path):
    run("workers=2")
    assert len(masks_in(tmp_path / "masks")) == 4
