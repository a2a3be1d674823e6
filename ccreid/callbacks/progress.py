"""The progress bar of a training run, with the loss terms of the step shown."""

from __future__ import annotations

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class LossProgressBar(RichProgressBar):
    """One bar an epoch that stays on the screen; loss terms are read only when it is redrawn."""

    def __init__(self, refresh_rate: int = 5) -> None:
        super().__init__(refresh_rate=refresh_rate, leave=True)

    def _get_train_description(self, current_epoch: int) -> str:
        # People, papers and our settings count epochs from 1; Lightning shows its own counter.
        return f"Epoch {current_epoch + 1}/{self.trainer.max_epochs}"

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Return the latest step's loss terms by name."""
        losses = getattr(pl_module, "last_losses", {})
        return {name: f"{float(loss):.2f}" for name, loss in losses.items()}
