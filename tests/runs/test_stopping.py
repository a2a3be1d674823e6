"""Signals: which are listened to, for how long, and what SLURM is told."""

import os
import signal
import threading

import pytest

from ccreid.runs.stopping import Stopped, StopSignals, requeue_slurm_job


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """Put a false scontrol on the PATH that writes down what it is told."""

    def install(exit_code=0):
        program = tmp_path / "scontrol"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/told\necho no >&2\nexit {exit_code}'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "77")
        return lambda: (tmp_path / "told").read_text() if (tmp_path / "told").exists() else ""

    return install


def test_sigterm_is_an_exception_with_the_shells_exit_code():
    with pytest.raises(Stopped) as stop, StopSignals():
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.code == 143
    assert str(stop.value) == "SIGTERM"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_second_signal_does_not_disturb_what_the_first_began():
    with StopSignals() as signals:
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert signals.asked


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_that_python_dropped_is_raised_later():
    class Loader:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with StopSignals() as signals:
        signals.raise_if_asked()
        loader = Loader()
        del loader
        with pytest.raises(Stopped):
            signals.raise_if_asked()


def test_a_handler_of_somebody_else_stays_also_when_a_library_replaced_it():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("theirs"))
    try:
        with StopSignals() as signals:
            signal.signal(signal.SIGTERM, lambda *_: heard.append("the library's"))
            signals.take()
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["theirs", "theirs"]


def test_another_thread_than_the_main_one_is_left_alone():
    found = []

    def enter():
        with StopSignals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def test_slurms_notice_asks_once_for_another_start_and_lets_the_run_go_on(scontrol):
    told = scontrol()
    with StopSignals(may_requeue=True) as signals:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGUSR1)
        assert not signals.asked
    assert told() == "requeue 77\n"


def test_ranks_but_the_first_and_forked_loaders_outlive_the_notice_and_ask_for_nothing(scontrol):
    told = scontrol()
    with StopSignals():
        signal.raise_signal(signal.SIGUSR1)
    with StopSignals(may_requeue=True):
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGUSR1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert told() == ""


def test_outside_of_slurm_its_signal_is_nobodys_business(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with StopSignals(may_requeue=True):
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_a_task_of_an_array_asks_for_itself(scontrol, monkeypatch):
    told = scontrol()
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue_slurm_job()
    assert told() == "requeue 70_3\n"


def test_a_refusal_is_told_and_ends_nothing(scontrol, caplog, monkeypatch):
    scontrol(exit_code=1)
    assert not requeue_slurm_job()
    assert "will not start job 77 again: no" in caplog.text
    monkeypatch.setenv("PATH", "")
    assert not requeue_slurm_job()
    assert "there is no command scontrol" in caplog.text
