import json
import math
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from ccreid.errors import CheckpointError, ConfigError
from ccreid.runs.jobs import (
    FAILURE,
    METRICS,
    SETTINGS,
    goes_on_in,
    hold,
    job_folder,
    job_settings,
    job_status,
    objective,
    run_job,
)


def test_a_folder_is_named_after_the_swept_values_in_any_order():
    fixed = ["method", "data"]
    one = job_folder(["method=fire2", "method.epsilon=0.1", "method.tau=0.5", "seed=2"], fixed, 2)
    two = job_folder(["seed=2", "method.tau=0.5", "+method.epsilon=0.1", "data=prcc"], fixed, 2)
    assert one == two == "epsilon-0.1_tau-0.5_seed-2"
    assert job_folder(["method=fire2"], fixed, 0) == "seed-0"
    assert job_folder(["a.eps=1", "b.eps=2"]) == "a.eps-1_b.eps-2"


def test_a_folder_name_is_safe_and_stays_distinct():
    names = {job_folder([f"backbone.weights={path}"]) for path in ("/a/b", "a b", "'a b'", "a=b,c")}
    names |= {job_folder([f"x={'1' * 300}"]), job_folder([f"x={'1' * 301}"])}
    assert len(names) == 6
    for name in names:
        assert len(name) < 120
        assert set("/=,' ").isdisjoint(name)


@pytest.fixture
def job(tmp_path):
    """A fake job that records how it was called; `job.act` is what it does."""

    class FakeJob:
        folder = tmp_path / "epsilon-1_seed-0"
        cfg = OmegaConf.create({"epsilon": 1, "seed": 0, "resume": None, "output_dir": "here"})
        calls, shown = [], []

        def act(self, cfg):
            (self.folder / METRICS).write_text(json.dumps({"test/virtual/cc/mAP": 0.25}))

        def run(self):
            def task(cfg):
                self.calls.append(cfg.resume)
                self.act(cfg)

            return run_job(task, self.cfg, self.folder, self.shown.append)

        def leave_checkpoint(self):
            (self.folder / "checkpoints").mkdir()
            checkpoint = self.folder / "checkpoints" / "last.ckpt"
            checkpoint.touch()
            (self.folder / SETTINGS).write_text(job_settings(self.cfg))
            return checkpoint

    job = FakeJob()
    job.calls, job.shown = [], []
    job.folder.mkdir()
    return job


def test_a_done_job_is_not_run_again(job):
    assert job_status(job.folder) == "missing"
    assert job.run() == 0.25
    assert job_status(job.folder) == "done"
    job.cfg.output_dir = "moved"
    assert job.run() == 0.25
    assert job.calls == [None]


def test_a_failure_is_written_down_and_the_next_try_forgets_it(job):
    def fail(cfg):
        raise RuntimeError("out of memory")

    good, job.act = job.act, fail
    assert math.isnan(job.run())
    assert job_status(job.folder) == "failed"
    text = (job.folder / FAILURE).read_text()
    assert text.startswith("RuntimeError: out of memory\n")
    assert "Traceback" in text
    job.act = good
    assert job.run() == 0.25
    assert job_status(job.folder) == "done"


def test_a_user_error_is_shown(job):
    def fail(cfg):
        raise ConfigError("no")

    job.act = fail
    job.run()
    assert [str(error) for error in job.shown] == ["no"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_stops_the_sweep(job, stop):
    def interrupt(cfg):
        raise stop

    job.act = interrupt
    with pytest.raises(stop):
        job.run()
    assert job_status(job.folder) == "unfinished"


def test_a_stopped_job_goes_on_from_its_checkpoint(job):
    checkpoint = job.leave_checkpoint()
    assert job_status(job.folder) == "unfinished"
    assert job.run() == 0.25
    assert job.calls == [str(checkpoint)]
    assert job.cfg.resume is None


def test_a_broken_checkpoint_means_a_new_beginning(job):
    checkpoint, good = job.leave_checkpoint(), job.act

    def broken(cfg):
        if cfg.resume is not None:
            raise CheckpointError("half a file")
        good(cfg)

    job.act = broken
    assert job.run() == 0.25
    assert job.calls == [str(checkpoint), None]
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt.unusable"]


def test_a_sweep_that_was_told_to_go_on_is_the_sweep_that_was_not(job):
    job.leave_checkpoint()
    job.cfg.resume = "auto"
    assert job.run() == 0.25
    assert job.run() == 0.25
    assert len(job.calls) == 1
    job.cfg.resume = None
    assert job.run() == 0.25
    assert len(job.calls) == 1


@pytest.mark.parametrize("state", ["done", "stopped"])
def test_results_of_other_settings_are_neither_used_nor_lost(job, state):
    if state == "done":
        job.run()
    else:
        job.leave_checkpoint()
    before, job.cfg.epsilon = len(job.calls), 2
    assert math.isnan(job.run())
    assert "epsilon: 1 → 2" in (job.folder / FAILURE).read_text()
    assert len(job.calls) == before
    job.cfg.epsilon = 1
    assert job.run() == 0.25


def test_a_failed_job_without_results_may_change_its_settings(job):
    good, job.act = job.act, lambda cfg: 1 / 0
    job.run()
    job.act, job.cfg.epsilon = good, 2
    assert job.run() == 0.25
    assert json.loads((job.folder / SETTINGS).read_text())["epsilon"] == 2


def test_a_job_of_another_process_is_left_to_it(job):
    code = (
        f"import filelock, time; lock = filelock.FileLock({str(job.folder / '.lock')!r}); "
        "lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        assert job_status(job.folder) == "running"
        assert math.isnan(job.run())
        assert job.calls == []
    finally:
        other.kill()
        other.communicate()
    with hold(job.folder) as free:  # the lock died with its process
        assert free


def test_a_sampler_maximises_the_cloth_changing_protocol():
    metrics = {"test/v/general/mAP": 0.5, "test/v/cc/mAP": 0.25, "test/v/cc/rank1": 0.75, "seed": 0}
    assert objective(metrics) == 0.25
    assert objective(metrics, "test/v/cc/rank1") == 0.75
    assert objective({"test/v/general/mAP": 0.5}) == 0.5
    with pytest.raises(ConfigError, match="test/v/cc/mAP"):
        objective(metrics, "mAP")


def test_a_run_goes_on_in_its_own_folder_and_not_above_it(tmp_path):
    run = tmp_path / "run"
    own = run / "checkpoints" / "last.ckpt"
    assert goes_on_in(run, str(own))
    assert goes_on_in(run, str(run / "copy.ckpt"))
    assert goes_on_in(run, "auto")
    assert not goes_on_in(tmp_path, str(own))
    assert not goes_on_in(tmp_path / "other", str(own))
    assert not any(goes_on_in(run, none) for none in (None, "null"))
