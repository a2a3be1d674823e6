"""The progress bar of a training run, with the loss terms of the step shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TimeRemainingColumn
from rich.progress import TextColumn as Words
from rich.table import Column

_BAR, _TIME, _GAPS = 8, 7, 4  # columns of the terminal


class LossProgressBar(RichProgressBar):
    """One bar an epoch that stays on the screen, in one line however narrow the terminal.

    Loss terms are read only when the bar is redrawn; their names are cut to what there is room for.
    What the run says during an epoch stands below the epoch's bar.
    """

    def __init__(self, refresh_rate: int = 5) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=True)
        self._said: list[str] = []

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        """Return epoch, bar, batches and the time that is left; when done, the time it took."""
        return [
            Words("{task.description}", table_column=Column(no_wrap=True)),
            BarColumn(_BAR, complete_style=self.theme.progress_bar),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TimeRemainingColumn(elapsed_when_finished=True, table_column=Column(no_wrap=True)),
        ]

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the latest step's loss terms by name, cut to the terminal's width."""
        losses = getattr(pl_module, "last_losses", {})
        terms = {name: f"{float(loss):.2f}" for name, loss in losses.items()}
        batches = 2 * len(f"{self.total_train_batches:.0f}") + 1
        epoch = len(self._get_train_description(trainer.current_epoch))
        width = self._console.width if self._console is not None else 80
        return {**shortened(terms, width - epoch - batches - _BAR - _TIME - _GAPS)}

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Keep a line until the epoch's bar is complete, and say it below."""
        self._said.append(" ".join(map(str, args)))
        if self.progress is None or self._progress_stopped:
            self._say()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the bar, and say what was kept."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._said:
            self._stop_progress()
            self._say()

    def _say(self) -> None:
        for line in self._said:
            if self._console is None:
                super().print(line)
            else:
                self._console.print(line, markup=False, highlight=False)
        self._said.clear()

    def _init_progress(self, trainer: Trainer) -> None:
        super()._init_progress(trainer)
        if self._metric_component is not None:  # Lightning gives it no column of its own to set
            self._metric_component._table_column = Column(no_wrap=True, overflow="ellipsis")

    def _stop_progress(self) -> None:
        if not self._progress_stopped:  # rich ends the line again each time it is stopped
            super()._stop_progress()

    def _get_train_description(self, current_epoch: int) -> str:
        # People, papers and our settings count epochs from 1; Lightning shows its own counter.
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"


def shortened(terms: Mapping[str, str], room: int) -> dict[str, str]:
    """Cut the names of terms alike until `name: value name: value ...` fits, if it can.

    Args:
        terms: value by name.
        room: characters.

    Returns:
        The same values in order; names stay different from each other.
    """
    shown = dict(terms)
    for letters in range(max(map(len, terms), default=0), 1, -1):
        cut = {name[:letters]: value for name, value in terms.items()}
        if len(cut) < len(terms):
            break
        shown = cut
        if len(" ".join(f"{name}: {value}" for name, value in cut.items())) <= room:
            break
    return shown
