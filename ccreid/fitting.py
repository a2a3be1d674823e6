"""Runs the trainer; what several processes can do to each other ends in one clear sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lightning import Trainer
from torch.distributed import DistError

from ccreid.callbacks.loggers import finish_loggers
from ccreid.data.datamodule import ReIDDataModule
from ccreid.errors import ConfigError, TrainingError
from ccreid.methods.base import Method
from ccreid.processes import RankWatch

_GO_ON = (
    "The checkpoint of the last whole epoch is in the run's folder: go on with "
    "resume=<folder>/checkpoints/last.ckpt."
)


def fit(
    trainer: Trainer, method: Method, data: ReIDDataModule, checkpoint: Path | None = None
) -> None:
    """Train; when another rank dies or the processes cannot meet, say so.

    Args:
        trainer: runs the epochs.
        method: is trained.
        data: gives the batches.
        checkpoint: to go on from.

    Raises:
        TrainingError: a rank died, or contact to the others was lost.
        ConfigError: the port where processes meet is taken.
    """

    def children() -> list[subprocess.Popen[bytes]]:
        return getattr(trainer.strategy.launcher, "procs", [])

    def report_death(death: str) -> None:
        sys.stderr.write(f"{death} {_GO_ON}\n")
        finish_loggers(trainer.loggers, failed=True)

    path = None if checkpoint is None else str(checkpoint)
    with RankWatch(children, report_death) as watch:
        try:
            trainer.fit(method, datamodule=data, ckpt_path=path, weights_only=True)
        except BaseException as error:
            death = watch.death(patience=2.0 if children() else 0.0)
            for child in children():  # they would wait for this process for ever
                child.kill()
            if not isinstance(error, RuntimeError):
                raise
            text = str(error)
            if "EADDRINUSE" in text or "address already in use" in text.lower():
                raise ConfigError(
                    f"The port where the processes meet is taken: {text}\n"
                    "Unset MASTER_PORT, or set it to a free port."
                ) from None
            if death is None and trainer.world_size > 1 and _is_lost_contact(error):
                death = f"Rank {trainer.global_rank} lost contact to another rank: it died."
            if death is None:
                raise
            raise TrainingError(f"{death} {_GO_ON}") from error


def _is_lost_contact(error: RuntimeError) -> bool:
    # gloo and NCCL raise bare RuntimeErrors: closed, reset, refused, timed out, ...
    words = ("gloo", "nccl", "peer", "connection", "socket")
    return isinstance(error, DistError) or any(word in str(error).lower() for word in words)
