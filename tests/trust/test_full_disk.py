"""A full disk: what is written is named, and nothing half-written stands under its name."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from ccreid import report
from ccreid.data.benchmarks.folder import Folder
from ccreid.data.captions.files import append_captions, write_captions
from ccreid.errors import ConfigError
from ccreid.retrieval import rank_features
from ccreid.viz.marks import save_sheet
from ccreid.viz.protocols import draw_protocols
from ccreid.writing import write_whole
from tests.miniature.folder import PATTERNS, write_folder


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "mine")


def fill_disk(monkeypatch):
    """Let every file be written up to the moment when it is put on the disk."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


def ranked(benchmark):
    results = {}
    for protocol in benchmark.protocols:
        features = (torch.eye(12)[: len(benchmark.query)], torch.eye(12)[: len(benchmark.gallery)])
        ids = protocol.ranking_ids(benchmark.query, benchmark.gallery, 0)
        results[protocol.name] = rank_features(*features, **ids, rule=protocol.rule)
    return results


WRITERS = {
    "metrics.json": lambda folder, _: report.write_metrics({"mAP": 0.5}, folder),
    "config.yaml": lambda folder, _: report.write_config(OmegaConf.create({"seed": 0}), folder),
    "queries.npz": lambda folder, benchmark: report.write_queries(
        ranked(benchmark), benchmark, folder / "queries.npz"
    ),
    "ranked_general.png": lambda folder, benchmark: draw_protocols(
        ranked(benchmark), benchmark, folder, benchmark.protocols[:1]
    ),
    "captions.jsonl": lambda folder, _: write_captions(
        folder / "captions.jsonl", {"a.jpg": {"clothing": "a red coat"}}
    ),
    "attention.png": lambda folder, _: save_sheet(
        Image.new("RGB", (20, 10)), folder / "attention.png"
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_what_stood_there_stays(root, tmp_path, monkeypatch, name):
    benchmark = Folder(root, **PATTERNS)
    folder = tmp_path / "run"
    folder.mkdir()
    WRITERS[name](folder, benchmark)
    written = (folder / name).read_bytes()
    assert [path.name for path in folder.iterdir()] == [name]
    (folder / name).write_bytes(b"before")
    fill_disk(monkeypatch)
    with pytest.raises(ConfigError, match=rf"Cannot write \S*/{name}: No space left on device"):
        WRITERS[name](folder, benchmark)
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == b"before" != written


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_captions_that_cannot_be_added_are_one_error():
    with pytest.raises(ConfigError, match="Cannot write /dev/full: No space left on device"):
        append_captions(Path("/dev/full"), [("a.jpg", {"clothing": "a red coat"})])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_fills_up_in_the_middle_of_a_file_leaves_nothing(tmp_path, number):
    with (  # noqa: PT012 - the write is part of the block that fails
        pytest.raises(ConfigError, match=os.strerror(number)),
        write_whole(tmp_path / "a.npz") as file,
    ):
        np.savez_compressed(file, a=np.arange(1000))
        raise OSError(number, os.strerror(number))
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_the_code_is_not_taken_for_a_full_disk(tmp_path):
    with (  # noqa: PT012
        pytest.raises(ValueError, match="mine"),
        write_whole(tmp_path / "a") as file,
    ):
        file.write(b"half")
        raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []
