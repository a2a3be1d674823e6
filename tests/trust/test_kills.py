"""Runs that are ended at the worst moment: they lose one epoch at most, and no number changes."""

import errno
import json
import os
import time
from pathlib import Path

import pytest
import torch
from lightning.fabric.loggers.csv_logs import _ExperimentWriter

from ccreid import writing
from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.errors import TrainingError
from ccreid.runs.jobs import METRICS
from tests.distributed.ranks import end_group, finish, start_verb
from tests.trust.runs import (
    SMALL,
    assert_same_checkpoint,
    assert_same_record,
    ended,
    recorded,
    run,
)

METHOD = ("method=baseline", "data.workers=0")


def start(folder, few_people, *more, trainer="cpu", **environment):
    settings = [*SMALL, few_people, *METHOD, f"trainer={trainer}", *recorded(folder)]
    threads = str(torch.get_num_threads())  # sums depend on how many they are split over
    environment = {"OMP_NUM_THREADS": threads} | environment
    return start_verb(*settings, f"hydra.run.dir={folder}", "resume=auto", *more, **environment)


def assert_goes_on(folder, few_people, straight):
    """One epoch is kept, and the same command makes of it the run that was never ended."""
    assert load_checkpoint(folder / "checkpoints" / "last.ckpt", ["tests.trust"]).epoch == 1
    assert not (folder / METRICS).exists()
    run(folder, few_people, *METHOD, "resume=auto")
    whole = straight(*METHOD)
    for epoch in (0, 1):
        assert_same_record(whole, folder, epoch)
    assert_same_checkpoint(whole, folder)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("moment", [pytest.param("SIGKILL", marks=pytest.mark.slow), "write"])
def test_a_killed_run_goes_on_from_its_last_whole_epoch(moment, tmp_path, few_people, straight):
    folder = tmp_path / "run"
    code, output = finish(start(folder, few_people, *ended(moment)))
    assert code == -9, output
    part = folder / "checkpoints" / "last.ckpt.ccreid-part"
    assert part.exists() is (moment == "write")
    assert_goes_on(folder, few_people, straight)


def test_sigterm_ends_a_run_cleanly(tmp_path, few_people, straight):
    folder = tmp_path / "run"
    code, output = finish(start(folder, few_people, *ended("SIGTERM")))
    assert code == 143, output
    assert "Traceback" not in output
    assert "Stopped by SIGTERM. The last whole epoch is kept." in output
    assert f"hydra.run.dir={folder} resume=auto" in output.replace("\n", "")
    assert len((folder / "metrics.csv").read_text().splitlines()) > 1  # its logger was closed
    assert_goes_on(folder, few_people, straight)


def test_slurm_starts_the_job_again_after_its_notice(tmp_path, few_people, straight):
    """A false `scontrol` does what SLURM does: it takes note, and ends the job by SIGTERM."""
    folder, program = tmp_path / "run", tmp_path / "scontrol"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/told\nkill -TERM $PPID\n')
    program.chmod(0o755)
    place = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS": "1"}
    job = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "ccreid", "SLURM_NODELIST": "127.0.0.1"}
    path = f"{tmp_path}:{os.environ['PATH']}"
    code, output = finish(start(folder, few_people, *ended("SIGUSR1"), PATH=path, **place, **job))
    assert code == 143, output
    assert (tmp_path / "told").read_text() == "requeue 77\n"
    assert "SLURM is asked to start job 77 again" in output
    assert not list(folder.rglob("hpc_ckpt*"))  # Lightning's, of the middle of an epoch
    assert_goes_on(folder, few_people, straight)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["the first", "all"])
def test_sigterm_ends_two_processes(asked, tmp_path, few_people):
    """Half a minute: schedulers signal one process, or every one."""
    folder = tmp_path / "run"
    process = start(folder, few_people, "trainer.max_epochs=2000", trainer="ddp_cpu")
    try:
        until = time.monotonic() + 200
        while not (folder / "checkpoints" / "last.ckpt").exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < until
            time.sleep(0.2)
        os.kill(process.pid, 15) if asked == "the first" else os.killpg(process.pid, 15)
        output, _ = process.communicate(timeout=60)  # the pipe closes when all ranks have ended
    finally:
        end_group(process)
    assert process.returncode == 143, output
    assert "Stopped by SIGTERM. The last whole epoch is kept." in output
    load_checkpoint(folder / "checkpoints" / "last.ckpt", ["tests.trust"])


def full_now(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_in_the_second_epoch(tmp_path, few_people, straight, monkeypatch):
    folder = tmp_path / "run"
    sync, save = os.fsync, _ExperimentWriter.save
    written = []

    def fill_up(descriptor):
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if name == "last.ckpt.ccreid-part" and name in written:
            monkeypatch.setattr(_ExperimentWriter, "save", full_now)  # the log is refused, too
            full_now()
        written.append(name)
        sync(descriptor)

    monkeypatch.setattr(writing.os, "fsync", fill_up)
    with pytest.raises(TrainingError) as error:
        run(folder, few_people, *METHOD, "resume=auto")
    assert f"Cannot write {folder}/checkpoints/last.ckpt: No space left" in str(error.value)
    assert f"go on with resume={folder}/checkpoints/last.ckpt" in str(error.value)
    monkeypatch.setattr(writing.os, "fsync", sync)
    monkeypatch.setattr(_ExperimentWriter, "save", save)
    assert_goes_on(folder, few_people, straight)


def test_a_disk_that_is_full_for_the_log(tmp_path, few_people, monkeypatch):
    folder = tmp_path / "run"
    monkeypatch.setattr(_ExperimentWriter, "save", full_now)
    with pytest.raises(TrainingError, match=rf"Cannot write {folder}: No space left on device"):
        run(folder, few_people, *METHOD)


def test_a_run_that_was_killed_after_its_last_epoch_is_only_evaluated(
    tmp_path, few_people, straight, monkeypatch
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("ccreid.report.write_metrics", full_now)
        with pytest.raises(OSError, match="No space"):
            run(folder, few_people, *METHOD)
    result = run(folder, few_people, *METHOD, "resume=auto")
    whole = json.loads((straight(*METHOD) / METRICS).read_text())
    tests = {name: value for name, value in whole.items() if name.startswith("test/")}
    assert tests.items() <= result.metrics.items()
    assert "seconds_per_epoch" not in result.metrics  # nothing was trained
