"""The loggers of a run: TensorBoard's, and the end of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lightning.pytorch.loggers import Logger, TensorBoardLogger

from ccreid.callbacks.wandb_logger import WandbRunLogger
from ccreid.errors import ConfigError


def tensorboard_logger(save_dir: str) -> TensorBoardLogger:
    """Return a logger that writes event files into `<save_dir>/tensorboard`.

    Raises:
        ConfigError: tensorboard is not installed.
    """
    try:
        return TensorBoardLogger(save_dir, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise ConfigError(
            'logger=tensorboard needs the package tensorboard: pip install "ccreid[tensorboard]"\n'
            "logger=csv does without it."
        ) from None


@contextmanager
def finishing(loggers: Iterable[Logger]) -> Iterator[None]:
    """Finish the loggers when the block is left, in whatever way."""
    failed = True
    try:
        yield
        failed = False
    finally:
        finish_loggers(loggers, failed)


def finish_loggers(loggers: Iterable[Logger], failed: bool) -> None:
    """End what outlives the trainer: wandb's run; to be called in every exit path.

    Files of the other loggers are closed by the trainer itself. A second call changes nothing.

    Args:
        loggers: of the run.
        failed: the run ended with an exception, KeyboardInterrupt and SystemExit included.
    """
    for logger in loggers:
        if isinstance(logger, WandbRunLogger):
            logger.finish(failed)
