"""Callbacks that a test adds to a run: they write down what it did, or end it."""

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

import ccreid.writing

TARGETS = "allow_targets=[tests.trust]"


def digest(tensors: dict[str, Tensor]) -> str:
    """One text for the names, shapes and bits of tensors."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().contiguous()
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        whole.update(value.view(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


class Halt(Exception):
    """The end of a run, in the middle of an epoch."""


class Recorder(Callback):
    """Keeps per epoch and rank every batch, the mined labels, and the weights at the end.

    Written at once: what a killed run had recorded of its last epoch is there, too.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 0:
            self.kept = {"index": [], "batch": [], "steps": [], "cluster": None}
            found = getattr(pl_module, "attributes", None)
            if found is not None:
                self.kept["cluster"] = found.cluster.clone()
        self.kept["index"].append(batch["index"].clone())
        self.kept["batch"].append(digest(batch))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.kept["steps"].append(digest(pl_module.state_dict()))
        name = f"epoch{trainer.current_epoch}_rank{trainer.global_rank}.pt"
        torch.save(self.kept, self.folder / name)


class End(Callback):
    """Ends a run in its second epoch, whose checkpoint it then does not leave.

    Args:
        how: `halt` raises, a signal's name sends it to this process, both in the second batch;
            `write` kills this process when the bytes of the checkpoint are written and not yet in
            their place.
        rank: whose process ends.
    """

    def __init__(self, how: str = "halt", rank: int = 0) -> None:
        self.how, self.rank = how, rank

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if (trainer.current_epoch, batch_idx, trainer.global_rank) != (1, 1, self.rank):
            return
        if self.how == "halt":
            raise Halt
        if self.how == "write":
            ccreid.writing.os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        else:
            os.kill(os.getpid(), signal.Signals[self.how])
