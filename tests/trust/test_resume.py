"""A run that is stopped and gone on with is the run that was never stopped, bit for bit."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.hydra_config import HydraConfig

from ccreid import list_methods
from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.config import compose
from ccreid.errors import ConfigError
from ccreid.retrieval import RetrievalResults
from ccreid.runs.jobs import METRICS
from ccreid.train import train
from ccreid.training.resuming import find_checkpoint
from tests.distributed.ranks import finish, start_verb
from tests.trust.runs import (
    SMALL,
    assert_same_checkpoint,
    assert_same_record,
    ended,
    record,
    recorded,
    run,
)

METHODS = list_methods()
LOADERS = [
    pytest.param(method, workers, marks=() if workers == 0 or method == "cre_bsga" else slow)
    for slow in [pytest.mark.slow]
    for method in METHODS
    for workers in (0, 2)
]
EVERY_METHOD_BUT_ONE_SLOW = [
    pytest.param(method, workers, marks=() if (method, workers) == ("fire2", 0) else slow)
    for slow in [pytest.mark.slow]
    for method in METHODS
    for workers in (0, 2)
]


@pytest.mark.parametrize(("method", "workers"), LOADERS)
def test_one_epoch_and_one_more_are_two_epochs(method, workers, straight, halted, few_people):
    settings = (f"method={method}", f"data.workers={workers}")
    whole, folder = straight(f"method={method}", "data.workers=0"), halted(*settings)
    resumed = run(folder, few_people, *settings, "resume=auto")
    for epoch in (0, 1):
        assert_same_record(whole, folder, epoch)
    assert_same_checkpoint(whole, folder)
    one, other = (json.loads((f / METRICS).read_text()) for f in (whole, folder))
    tests = {name: value for name, value in one.items() if name.startswith("test/")}
    assert tests
    assert tests.items() <= other.items()
    assert other == resumed.metrics


def test_what_is_compared_tells_runs_apart(straight, few_people):
    one, other = straight("method=fire2", "data.workers=0"), straight("method=fire2", "seed=1")
    with pytest.raises(AssertionError):
        assert_same_record(one, other, 0)
    with pytest.raises(AssertionError):
        assert_same_checkpoint(one, other)
    first, second = (record(one, epoch) for epoch in (0, 1))
    assert first["cluster"] is None
    assert second["cluster"] is not None  # mined in the epoch that is repeated
    assert first["steps"][-1] != second["steps"][-1]


@pytest.mark.slow
def test_averaged_weights_are_gone_on_with(straight, halted, few_people):
    """Slow because it is one more run of a method that others go on with."""
    settings = ("method=baseline", "callbacks=ema")
    whole, folder = straight(*settings), halted(*settings)
    run(folder, few_people, *settings, "resume=auto")
    assert "averaging_state" in torch.load(folder / "checkpoints" / "last.ckpt")
    assert_same_checkpoint(whole, folder)


@pytest.mark.parametrize("goes_on", ["in a copy", "in a new folder", "in place"])
def test_the_best_epoch_before_a_stop_is_remembered(
    goes_on, halted, few_people, tmp_path, monkeypatch
):
    settings = ("method=baseline", "callbacks=best", "data.validation=identities")
    settings += ("data.validation_people=0.5",)
    first, folder = halted(*settings), tmp_path / "run"
    of_the_first_epoch = (first / "checkpoints" / "best.ckpt").read_bytes()
    resume = "auto"
    if goes_on == "in a new folder":
        resume = first / "checkpoints" / "last.ckpt"
    elif goes_on == "in a copy":
        shutil.copytree(first, folder)
    else:
        folder = first
    metrics = RetrievalResults.metrics
    monkeypatch.setattr(RetrievalResults, "metrics", lambda self: dict.fromkeys(metrics(self), 0.0))
    run(folder, few_people, *settings, f"resume={resume}")  # the second epoch is worse
    assert (folder / "checkpoints" / "best.ckpt").read_bytes() == of_the_first_epoch
    monkeypatch.setattr(RetrievalResults, "metrics", lambda self: dict.fromkeys(metrics(self), 1.0))
    run(folder, few_people, *settings, "resume=auto", "trainer.max_epochs=3")
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}
    assert load_checkpoint(folder / "checkpoints" / "best.ckpt").epoch == 3


@pytest.mark.parametrize(("method", "workers"), EVERY_METHOD_BUT_ONE_SLOW)
def test_two_processes_of_which_the_first_is_killed(method, workers, tmp_path, few_people):
    settings = [*SMALL, "trainer=ddp_cpu", few_people, f"method={method}"]
    settings.append(f"data.workers={workers}")

    def start(folder, *more):
        own = [*recorded(folder), f"hydra.run.dir={folder}", "resume=auto"]
        return finish(start_verb(*settings, *own, *more))

    whole, folder = tmp_path / "whole", tmp_path / "killed"
    start(whole)
    code, output = start(folder, *ended("SIGKILL"))
    assert code == -9
    assert "lost contact to another rank" in output, output
    code, output = start(folder)
    assert code == 0, output
    assert "going on after epoch 1" in output
    for epoch in (0, 1):
        for rank in (0, 1):
            assert_same_record(whole, folder, epoch, rank)
        indices = [torch.cat(record(folder, epoch, rank)["index"]) for rank in (0, 1)]
        assert not torch.equal(*indices)
    assert_same_checkpoint(whole, folder)


def test_a_finished_run_is_left_as_it_is(straight, few_people):
    folder = straight("method=baseline", "data.workers=0")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    settings = ("method=baseline", "data.workers=0", "resume=auto")
    again = run(folder, few_people, *settings)
    assert again.metrics == json.loads((folder / METRICS).read_text())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    with pytest.raises(ConfigError, match="seed: 0 → 1"):
        run(folder, few_people, *settings, "seed=1")


def test_a_finished_run_is_trained_on_and_stays_unfinished_meanwhile(
    halted, few_people, monkeypatch
):
    settings = ("method=baseline", "data.workers=0", "seed=3")
    folder = halted(*settings)
    run(folder, few_people, *settings, "resume=auto")
    more = (few_people, *settings, "resume=auto", "trainer.max_epochs=3")
    with monkeypatch.context() as patch:
        patch.setattr("ccreid.report.write_queries", lambda *_: sys.exit("killed"))
        with pytest.raises(SystemExit):
            run(folder, *more)
    assert not (folder / METRICS).exists()  # those of two epochs would say that all is done
    assert (folder / "metrics.0.json").exists()
    run(folder, *more)
    assert (folder / METRICS).exists()


@pytest.mark.parametrize("typed", [None, "outputs/${now:%H}", "mine"])
def test_a_folder_that_carries_the_time_cannot_be_found_again(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = [] if typed is None else [f"hydra.run.dir={typed}"]
    settings = [*SMALL, "trainer=cpu", "method=baseline", "resume=auto", *more]
    cfg = compose("train", settings, with_hydra=True)
    monkeypatch.setattr(HydraConfig.instance(), "cfg", cfg)
    cfg.hydra.mode = "RUN"
    cfg.hydra.runtime.output_dir = "somewhere"
    if typed == "mine":
        assert find_checkpoint(cfg) is None
    else:
        with pytest.raises(ConfigError, match=r"hydra\.run\.dir=<folder>"):
            find_checkpoint(cfg)
    cfg.output_dir = "another"  # given by itself
    assert find_checkpoint(cfg) is None


def test_auto_begins_where_there_is_nothing_yet(tmp_path, few_people):
    folder = tmp_path / "new"
    settings = [*SMALL, "trainer=cpu", few_people, "method=baseline", "trainer.max_epochs=1"]
    result = train(compose("train", [*settings, f"output_dir={folder}", "resume=auto"]))
    assert Path(result.checkpoint).exists()
