"""What several processes must know of each other: who is first, whether all agree, who died."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import torch.distributed as dist

from ccreid.errors import CCReIDError, DataError

_RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def process_rank() -> int:
    """Return this process's rank as its launcher (torchrun, Lightning, SLURM) says; 0 if alone.

    Before the processes have met, Lightning's own launcher tells the node and the place on it
    apart; then any number but 0 only means: not the first.
    """
    if dist.is_initialized():
        return dist.get_rank()
    if "RANK" not in os.environ and int(os.environ.get("NODE_RANK", "0")) > 0:
        return int(os.environ["NODE_RANK"])
    return next((int(os.environ[name]) for name in _RANK_VARIABLES if name in os.environ), 0)


def require_same_on_all_ranks(
    lines: Sequence[str],
    what: str,
    remedy: str = "Give every node the same files, and the same data.root.",
    failure: type[CCReIDError] = DataError,
) -> None:
    """Compare what every rank has with what rank 0 has; all ranks raise together.

    Args:
        lines: this rank's listing, or its settings.
        what: what is listed, for the message.
        remedy: a sentence that says how to mend a difference.
        failure: the error to raise.

    Raises:
        CCReIDError: `failure`, when a rank's lines differ; the message names the rank and the first
            difference.
    """
    if not dist.is_initialized():
        return
    checksums: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(checksums, checksum(lines))
    if len(set(checksums)) == 1:  # so that lists of millions are sent only where they differ
        return
    first: list[list[str]] = [list(lines)]
    dist.broadcast_object_list(first, src=0)
    problems: list[str | None] = [None] * dist.get_world_size()
    dist.all_gather_object(problems, _first_difference(first[0], lines))
    for rank, problem in enumerate(problems):
        if problem is not None:
            raise failure(f"{what}: rank {rank} does not see what rank 0 sees: {problem}. {remedy}")


def checksum(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines in their order, hexadecimal."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _first_difference(theirs: Sequence[str], mine: Sequence[str]) -> str | None:
    for position, (their, my) in enumerate(zip(theirs, mine, strict=False)):
        if their != my:
            return f"entry {position} is '{my}' instead of '{their}'"
    if len(theirs) != len(mine):
        return f"{len(mine)} entries instead of {len(theirs)}"
    return None


class RankWatch:
    """Notices that a process started by this one died, and says which rank it was.

    The processes are taken out of Lightning's list: its own watch, which looks at that list, would
    kill this process before the death is told.

    Args:
        started: gives Lightning's list of the processes of ranks 1, 2, ... of this node.
        report: told of the first death, when no exception ends this process; it then ends.
    """

    def __init__(
        self,
        started: Callable[[], list[subprocess.Popen[bytes]]],
        report: Callable[[str], None],
    ) -> None:
        self._started, self._report = started, report
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="rank-watch")

    def __enter__(self) -> RankWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def children(self) -> list[subprocess.Popen[bytes]]:
        """Return the processes of ranks 1, 2, ... that were started so far."""
        with self._lock:
            started = self._started()
            while started:
                self._children.append(started.pop(0))
            return list(self._children)

    def was_stopped(self) -> bool:
        """Return whether SIGTERM ended one of the ranks; this process was sent it as well, then."""
        codes = (-signal.SIGTERM, 128 + signal.SIGTERM)
        return any(process.poll() in codes for process in self.children())

    def death(self, patience: float = 0.0) -> str | None:
        """Return a sentence about the first rank that died, waiting up to `patience` seconds."""
        until = time.monotonic() + patience
        while True:
            for rank, process in enumerate(self.children(), start=1):
                if process.poll():
                    return (
                        f"Rank {rank} (process {process.pid}) died: {_cause(process.returncode)}."
                    )
            if time.monotonic() >= until:
                return None
            time.sleep(0.1)

    def end_children(self) -> None:
        """End the other ranks of this node, which would wait for this one for ever."""
        for process in self.children():
            process.kill()
            process.wait()

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            if (death := self.death()) is not None:
                # This process may hang in a collective that never ends: no exception reaches it.
                # Its own SIGTERM is handled when a long computation in C has ended.
                stopped = self.was_stopped()
                if self._stop.wait(30.0 if stopped else 2.0):
                    return
                self._report(death)
                self.end_children()
                os._exit(128 + signal.SIGTERM if stopped else 1)


def _cause(returncode: int) -> str:
    return f"killed by signal {-returncode}" if returncode < 0 else f"exit code {returncode}"
