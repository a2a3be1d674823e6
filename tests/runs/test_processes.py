"""A process that died is named; Lightning's own watch is left nothing to kill for."""

import signal
import subprocess
import sys

import pytest

from ccreid.runs.processes import RankWatch


@pytest.fixture
def sleepers():
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_the_rank_that_died_is_named_and_the_others_are_ended(sleepers):
    started: list[subprocess.Popen[bytes]] = []
    watch = RankWatch(lambda: started, report=pytest.fail)
    for process in sleepers:  # as Lightning does it, one after the other
        started.append(process)
        assert watch.death() is None
        assert started == []
    sleepers[1].kill()
    sleepers[1].wait()
    pid = sleepers[1].pid
    assert watch.death() == f"Rank 2 (process {pid}) died: killed by signal {signal.SIGKILL}."
    watch.end_children()
    assert [process.returncode for process in sleepers] == [-signal.SIGKILL] * 3


def test_a_rank_that_ended_well_is_no_death():
    watch = RankWatch(lambda: started, report=pytest.fail)
    started = [subprocess.Popen([sys.executable, "-c", ""])]
    (process,) = watch.children()
    process.wait()
    assert watch.death(patience=0.3) is None


@pytest.mark.parametrize("by_handler", [True, False])
def test_sigterm_is_known_from_other_deaths(sleepers, by_handler):
    watch = RankWatch(lambda: sleepers_taken, report=pytest.fail)
    sleepers_taken = list(sleepers)
    assert not watch.was_stopped()
    sleepers[0].kill()
    sleepers[0].wait()
    assert not watch.was_stopped()
    if by_handler:
        code = f"raise SystemExit({128 + signal.SIGTERM})"
        sleepers_taken.append(subprocess.Popen([sys.executable, "-c", code]))
        sleepers_taken[-1].wait()
    else:
        sleepers[1].terminate()
        sleepers[1].wait()
    assert watch.was_stopped()


def test_a_rank_that_failed_is_named_with_its_exit_code():
    started = [subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])]
    pid = started[0].pid
    watch = RankWatch(lambda: started, report=pytest.fail)
    assert watch.death(patience=60.0) == f"Rank 1 (process {pid}) died: exit code 7."
