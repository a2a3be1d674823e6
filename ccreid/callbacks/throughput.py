"""Measures what a run costs: seconds per epoch, images per second, peak memory."""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Times the training batches and the whole epochs (mining included, evaluation not)."""

    def __init__(self) -> None:
        self._epoch_began = self._batches_began = 0.0
        self._epochs, self._images = 0, 0
        self._epoch_seconds, self._batch_seconds = 0.0, 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock; callbacks run before the method's own hook, so mining counts."""
        self._epoch_began = time.perf_counter()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the batches' clock at the first batch."""
        if batch_idx == 0:
            self._batches_began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the images of all ranks; stop the batches' clock at the last batch."""
        self._images += len(batch["index"]) * trainer.world_size
        if trainer.is_last_batch:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self._batch_seconds += time.perf_counter() - self._batches_began

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the epoch's clock and log."""
        self._epochs += 1
        self._epoch_seconds += time.perf_counter() - self._epoch_began
        pl_module.log("images_per_second", self.summary()["images_per_second"], sync_dist=True)

    def summary(self) -> dict[str, float]:
        """Return means over the epochs run here, and the peak memory so far in GiB."""
        costs = {
            "seconds_per_epoch": self._epoch_seconds / max(self._epochs, 1),
            "images_per_second": self._images / max(self._batch_seconds, 1e-9),
            "peak_memory_gib": _peak_memory_kib() / 2**20,
        }
        if torch.cuda.is_available():
            costs["peak_gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        return costs


def _peak_memory_kib() -> int:
    """Return this process's own peak; `ru_maxrss` begins at that of the one that started it."""
    with contextlib.suppress(OSError):  # Linux only
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
