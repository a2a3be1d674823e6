"""Runs the trainer; what ends a run from outside, or between its processes, is one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from torch.distributed import DistError

from ccreid.callbacks.loggers import finish_loggers
from ccreid.data.datamodule import ReIDDataModule
from ccreid.errors import CCReIDError, ConfigError, TrainingError
from ccreid.faults import loading_images, within_memory
from ccreid.methods.base import Method
from ccreid.runs.processes import RankWatch, require_same_on_all_ranks
from ccreid.runs.stopping import StopSignals
from ccreid.writing import disk_error

_GO_ON = (
    "The checkpoint of the last whole epoch is in the run's folder: go on with the same command, "
    "hydra.run.dir=<that folder> and resume=auto."
)
_LESS_MEMORY = (
    "Set data.identities_per_batch, data.images_per_identity or input.height and input.width to "
    "less, or precision=bf16 on a GPU. These decide results: begin a new run with them."
)


class _Guard(Callback):
    """Lets the ranks agree before the first epoch, and the signals reach the run during it."""

    def __init__(self, signals: StopSignals, settings: Sequence[str]) -> None:
        self._signals, self._settings = signals, settings

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        remedy = "Start the same command, with the same version of ccreid, on every node; the "
        remedy += "run's folder must be one that all of them see."
        require_same_on_all_ranks(self._settings, "settings of the run", remedy, ConfigError)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning has installed handlers that talk to the other ranks from inside the signal, save
        # a checkpoint in the middle of an epoch, and end with exit code 0.
        self._signals.take()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._signals.raise_if_asked()


def fit(
    trainer: Trainer,
    method: Method,
    data: ReIDDataModule,
    signals: StopSignals,
    checkpoint: Path | None = None,
    settings: Sequence[str] = (),
) -> None:
    """Train; when another rank dies, the processes cannot meet or the disk is full, say so.

    Args:
        trainer: runs the epochs.
        method: is trained.
        data: gives the batches.
        signals: entered; they may end the run at any moment.
        checkpoint: to go on from.
        settings: lines that must be the same on all ranks.

    Raises:
        Stopped: a signal asked for it.
        TrainingError: a rank died, contact to the others was lost, or the disk is full.
        ConfigError: the port where processes meet is taken, or the ranks have other settings.
    """
    trainer.callbacks.append(_Guard(signals, settings))  # type: ignore[attr-defined]
    path = None if checkpoint is None else str(checkpoint)

    def started() -> list[subprocess.Popen[bytes]]:
        launcher = trainer.strategy.launcher
        return launcher.procs if isinstance(launcher, _SubprocessScriptLauncher) else []

    def report_death(death: str) -> None:
        sys.stderr.write(f"{death} {_GO_ON}\n")
        finish_loggers(trainer.loggers, failed=True)

    with RankWatch(started, report_death) as watch:
        try:
            with (
                loading_images("training", "data.workers", data.workers, TrainingError, _GO_ON),
                within_memory("training", _LESS_MEMORY),
            ):
                trainer.fit(method, datamodule=data, ckpt_path=path, weights_only=True)
        except BaseException as error:
            try:
                waits = bool(watch.children()) and not signals.asked
                death = watch.death(patience=2.0 if waits else 0.0)
            finally:
                watch.end_children()
            signals.raise_if_asked()  # whatever else befell a run that was to end
            if (told := _told(error, death, trainer)) is None:
                raise
            raise told from error


def _told(error: BaseException, death: str | None, trainer: Trainer) -> CCReIDError | None:
    """Return the sentence for what ended the training; None if the exception says it itself."""
    if isinstance(error, OSError) and (full := disk_error(error)) is not None:
        if isinstance(error.__context__, TrainingError):  # a logger that was to be closed after it
            return error.__context__
        place = full.filename or trainer.default_root_dir
        return TrainingError(f"Cannot write {place}: {full.strerror}. Make room. {_GO_ON}")
    if not isinstance(error, RuntimeError):
        return None
    text = str(error)
    if "EADDRINUSE" in text or "address already in use" in text.lower():
        return ConfigError(
            f"The port where the processes meet is taken: {text}\n"
            "Unset MASTER_PORT, or set it to a free port."
        )
    if death is None and trainer.world_size > 1 and _is_lost_contact(error):
        death = f"Rank {trainer.global_rank} lost contact to another rank: it died."
    return None if death is None else TrainingError(f"{death} {_GO_ON}")


def _is_lost_contact(error: RuntimeError) -> bool:
    # gloo and NCCL raise bare RuntimeErrors: closed, reset, refused, timed out, ...
    words = ("gloo", "nccl", "peer", "connection", "socket")
    return isinstance(error, DistError) or any(word in str(error).lower() for word in words)
