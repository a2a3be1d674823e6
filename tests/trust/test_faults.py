"""Faults of the machine, injected: each ends in one library error, or is survived."""

import logging
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import get_worker_info

from ccreid.clustering import fine_grained_labels, neighbours
from ccreid.config import compose
from ccreid.data.benchmarks.folder import Folder
from ccreid.data.datamodule import TestImages, TrainImages
from ccreid.data.transforms import TestTransform
from ccreid.errors import ConfigError, TrainingError
from ccreid.features import extract_features
from ccreid.methods.baseline import Baseline
from ccreid.retrieval import rank_features, ranking
from ccreid.runs.jobs import hold, require_usable
from ccreid.runs.multirun import require_usable_folder
from ccreid.train import train
from tests.miniature.folder import write_folder
from tests.miniature.small_run import small_run


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "mine")


def kill_loaders(monkeypatch, dataset):
    """Let every loader's process be killed, as a system without memory kills it."""

    def die(self, item):
        assert get_worker_info() is not None
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(dataset, "__getitem__", die)


def test_a_loader_that_dies_in_training_is_one_error(root, monkeypatch):
    kill_loaders(monkeypatch, TrainImages)
    with pytest.raises(TrainingError) as error:
        train(small_run(root, "data.workers=2"))
    text = str(error.value)
    assert "While training a process that loads images died" in text
    for part in ("memory", "Set data.workers to less than 2", "resume="):
        assert part in text
    assert "Traceback" not in text


def test_a_loader_that_dies_while_features_are_extracted_is_one_error(root, monkeypatch):
    kill_loaders(monkeypatch, TestImages)
    with pytest.raises(ConfigError) as error:
        extract(Folder(root).query, lambda images: images.flatten(1), workers=1)
    text = str(error.value)
    assert "While features were extracted a process that loads images died" in text
    assert "memory" in text
    assert "data.workers, or evaluation.workers, to less than 1" in text


def extract(samples, embed, **settings):
    return extract_features(
        embed, samples, TestTransform(16, 8), device=torch.device("cpu"), batch_size=4, **settings
    )


def cuda_is_full(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nGPU 0 has ...")


FULL = {
    "host, torch": lambda *_: torch.empty(2**58, dtype=torch.uint8),  # more than can be addressed
    "host, numpy": lambda *_: np.empty(2**58, dtype=np.uint8),
    "device": cuda_is_full,
}


@pytest.mark.parametrize("where", FULL)
def test_no_memory_for_a_batch_names_the_setting(root, where):
    with pytest.raises(ConfigError, match=r"(?s)Memory ran out.*evaluation\.batch_size below 4"):
        extract(Folder(root).query, FULL[where])


@pytest.mark.parametrize("where", FULL)
def test_no_memory_to_rank_names_the_way_out(monkeypatch, where):
    monkeypatch.setattr(ranking, "normalised", FULL[where])
    ids = {"query_pid": [0, 1], "gallery_pid": [0, 1, 1], "rule": "none"}
    with pytest.raises(ConfigError, match=r"(?s)Memory ran out while ranking 2 × 3.*device=cpu"):
        rank_features(torch.eye(3)[:2], torch.eye(3), **ids)


def test_no_memory_in_the_last_evaluation_keeps_the_training(root, monkeypatch):
    monkeypatch.setattr(Baseline, "embed", FULL["device"])
    with pytest.raises(ConfigError, match=r"(?s)evaluation\.batch_size.*last checkpoint is whole"):
        train(small_run(root))
    assert list(root.parent.rglob("last.ckpt"))


def test_no_memory_to_train_names_the_settings(root, monkeypatch):
    monkeypatch.setattr(Baseline, "losses", FULL["device"])
    with pytest.raises(ConfigError, match=r"(?s)ran out while training.*identities_per_batch"):
        train(small_run(root))


def test_another_failure_is_not_taken_for_a_lack_of_memory(root):
    def broken(images):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        extract(Folder(root).query, broken)


FEATURES = torch.nn.functional.normalize(
    torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
)
PIDS = torch.arange(120) // 60
SETTINGS = {"eps": 0.6, "k1": 10, "k2": 3}


def broken_gpu():
    raise RuntimeError("Error in void allocMemory: CUDA error 2 out of memory\nat line 7")


@pytest.mark.parametrize("gpus", [0, 1])
def test_faiss_without_a_gpu_that_works_searches_on_the_cpu(monkeypatch, caplog, gpus):
    faiss = import_module("faiss")
    searches = []

    def knn(*arguments):
        searches.append(len(arguments))
        return faiss.knn(*arguments)

    fake = SimpleNamespace(
        get_num_gpus=lambda: gpus, StandardGpuResources=broken_gpu, knn=knn, knn_gpu=None
    )
    expected = neighbours.nearest_neighbours(FEATURES, 10, backend="torch")
    monkeypatch.setitem(sys.modules, "faiss", fake)
    neighbours._gpu_resources.cache_clear()
    with caplog.at_level(logging.WARNING):
        found = neighbours.nearest_neighbours(FEATURES, 10, backend="faiss")
    assert torch.equal(found, expected)
    assert searches
    assert ("FAISS cannot use the GPU" in caplog.text) is bool(gpus)
    assert "at line 7" not in caplog.text


def test_without_faiss_the_same_clusters_are_found(monkeypatch):
    expected = fine_grained_labels(FEATURES, PIDS, **SETTINGS)
    assert len(expected[1]) > 2
    monkeypatch.setitem(sys.modules, "faiss", None)
    for one, other in zip(fine_grained_labels(FEATURES, PIDS, **SETTINGS), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("setting", ["hydra.run.dir", "output_dir"])
def test_a_second_run_in_a_folder_is_refused_and_leaves_the_first_ones_files(
    setting, root, tmp_path
):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "overrides.yaml").write_text("- seed=7\n")
    command = [sys.executable, "-m", "ccreid.train", "method=baseline", "data=folder"]
    with hold(run) as free:
        assert free
        second = subprocess.run(
            [*command, f"data.root={root}", f"{setting}={run}", "trainer=cpu"],
            capture_output=True,
            text=True,
            timeout=250,
            env=os.environ | {"COLUMNS": "160"},
            cwd=tmp_path,
        )
    assert second.returncode == 2
    assert "Another run is writing into" in second.stderr
    assert "Traceback" not in second.stderr
    assert (run / ".hydra" / "overrides.yaml").read_text() == "- seed=7\n"
    assert {path.name for path in run.iterdir()} <= {".hydra", ".lock"}


@pytest.mark.parametrize(
    "typed",
    [
        "hydra.run.dir={}",
        "++hydra.run.dir={}",
        "hydra.run.dir='{}'",
        'hydra.run.dir="{}"',
        "hydra.run.dir=${{oc.env:RUN_FOLDER}}",
        "hydra.run.dir=run${{seed}}",
        "hydra.run.dir=${{hydra:runtime.choices.method}}",
        "hydra.run.dir=${{hydra:job.name}}",
    ],
)
def test_a_folder_with_a_run_is_refused_before_hydra_writes_however_it_is_typed(
    typed, tmp_path, monkeypatch
):
    name = {
        "run${{seed}}": "run7",
        "${{hydra:runtime.choices.method}}": "baseline",
        "${{hydra:job.name}}": "train",
    }
    run = tmp_path / name.get(typed.partition("=")[2], "run")
    checkpoint = run / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    monkeypatch.setenv("RUN_FOLDER", str(run))
    monkeypatch.chdir(tmp_path)

    def looked_at(*others):
        command = ["method=baseline", "data=virtual", "seed=7", typed.format(run), *others]
        return require_usable_folder(compose("train", command, with_hydra=True))

    strange = ("null", "5", "true", "[a]", "{a:1}", "${nothing}", tmp_path / "other.ckpt")
    for others in ([], *([f"resume={value}"] for value in strange)):
        with pytest.raises(ConfigError, match="hydra\\.run\\.dir=<"):
            looked_at(*others)
    own = "resume=${output_dir}/checkpoints/last.ckpt"
    for others in (["resume=auto"], [f"resume='{checkpoint}'"], [own]):
        assert looked_at(*others).resolve() == run
    assert {path.name for path in tmp_path.iterdir()} == {run.name}


def test_a_new_folder_is_looked_at_and_not_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def looked_at(folder):
        command = ["method=baseline", "data=virtual", f"hydra.run.dir={folder}"]
        return require_usable_folder(compose("train", command, with_hydra=True))

    assert looked_at("a/b/c") == Path("a/b/c")
    assert not list(tmp_path.iterdir())
    Path("file").touch()
    with pytest.raises(ConfigError, match=r"Cannot write into \S+/file"):
        looked_at("file/run")
    with pytest.raises(ConfigError, match="cannot be told"):
        looked_at("${nothing}")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody may write into")
def test_a_folder_that_is_only_read_is_refused():
    with pytest.raises(ConfigError, match=r"Cannot write into /proc/\S+: .*hydra\.run\.dir"):
        require_usable(Path("/proc/self"))
