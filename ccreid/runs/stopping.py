"""What ends a run from outside: SIGTERM, and SLURM's word that the time is almost up.

What a run keeps, it kept when its last epoch ended. A signal need not wait for the end of a batch,
of mining or of evaluation, which may take longer than a scheduler waits before it kills.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)


class Stopped(SystemExit):
    """A signal ends this process; its exit code says which one, as a shell would."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return signal.Signals(self.signum).name


class StopSignals:
    """While it is entered, SIGTERM raises `Stopped`, and SLURM's SIGUSR1 asks to be started again.

    A handler that somebody else installed before, such as submitit's, stays. A second signal does
    not disturb what the first one began. In any thread but the main one nothing happens.

    Args:
        may_requeue: whether this process may ask SLURM to start the job again: it is the run's
            first, and the same command would go on from the last checkpoint.
    """

    def __init__(self, may_requeue: bool = False) -> None:
        self._may_requeue, self._process = may_requeue, os.getpid()
        self._before: dict[signal.Signals, Any] = {}
        self._during: dict[signal.Signals, Any] = {}
        self._signum: int | None = None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            ours = {signal.SIGTERM: self._stop}
            if "SLURM_JOB_ID" in os.environ:
                ours[signal.SIGUSR1] = self._time_is_almost_up
            self._before = {signum: signal.getsignal(signum) for signum in ours}
            self._during = {
                signum: ours[signum] if before in (signal.SIG_DFL, None) else before
                for signum, before in self._before.items()
            }
        self.take()
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            if handler is not None:
                signal.signal(signum, handler)

    def take(self) -> None:
        """Install the handlers, again when a library has put its own in their place."""
        for signum, handler in self._during.items():
            signal.signal(signum, handler)

    @property
    def asked(self) -> bool:
        """Whether a signal asked this process to end."""
        return self._signum is not None

    def raise_if_asked(self) -> None:
        """Raise `Stopped` if a signal came; for where its exception may have been lost.

        Python drops what is raised inside `__del__`, for instance while a loader is put away.
        """
        if self._signum is not None:
            raise Stopped(self._signum)

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        first = self._signum is None
        self._signum = signum
        if first:
            raise Stopped(signum)

    def _time_is_almost_up(self, signum: int, frame: FrameType | None) -> None:
        # Training goes on until SLURM ends the requeued job by SIGTERM. Loaders inherit this, too.
        if self._may_requeue and os.getpid() == self._process:
            self._may_requeue = False
            requeue_slurm_job()


def requeue_slurm_job() -> bool:
    """Ask SLURM to start this job again; return whether it will."""
    environment = os.environ
    job = environment["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    log.info("The time is almost up: SLURM is asked to start job %s again", job)
    reason = "there is no command scontrol"
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        if not done.returncode:
            return True
        reason = done.stderr.strip() or f"scontrol ended with {done.returncode}"
    log.warning("SLURM will not start job %s again: %s", job, reason)
    return False
