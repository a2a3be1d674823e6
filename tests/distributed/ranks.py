"""Runs a function of `workers` in several processes that form one gloo group."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_ranks(function: str, folder: Path, world_size: int = 2, timeout: float = 120) -> list[Any]:
    """Run `workers.<function>()` on every rank and return what each returned."""
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world_size),
        "OMP_NUM_THREADS": "1",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.distributed.workers", function, str(folder)],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        for rank in ranks:
            _, errors = rank.communicate(timeout=timeout)
            assert rank.returncode == 0, errors
    finally:
        for rank in ranks:
            end_group(rank)
    return [torch.load(folder / f"{rank}.pt") for rank in range(world_size)]


def end_group(process: subprocess.Popen) -> None:
    """Kill a process and all it started (it must lead a session of its own)."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def start_verb(
    *arguments: str,
    verb: str = "train",
    command: tuple[str, ...] = (),
    cwd: Path | None = None,
    **environment: str,
) -> subprocess.Popen:
    """Start a verb as a user would, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", *command, f"ccreid.{verb}", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


def finish(process: subprocess.Popen, timeout: float = 120) -> tuple[int, str]:
    """Wait for a started verb; return its exit code and what it and its children said."""
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    finally:
        end_group(process)
