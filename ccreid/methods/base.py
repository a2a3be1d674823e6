"""Method: what every cloth-changing re-identification method implements."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.sample import Batch
from ccreid.errors import ConfigError, TrainingError
from ccreid.methods.finite import HostFlag, first_not_finite
from ccreid.models import Backbone

ParameterGroups = list[dict[str, Any]]
OptimizerFactory = Callable[[ParameterGroups], Optimizer]
SchedulerFactory = Callable[[Optimizer], LRScheduler]


class Method(LightningModule, ABC):
    """A network and its losses; a subclass implements `embed` and `losses`.

    At test time a method receives images and nothing else, unless it declares `uses_camera`.

    Args:
        optimizer: makes the optimiser from parameter groups.
        scheduler: makes the learning-rate schedule, stepped once an epoch; None for none.
        gather: let losses that compare images see the batches of all ranks.

    Attributes:
        requires: side information for training, any of parsing, captions, clothes, cameras (see
            `needs`).
        does_without: the setting that makes one of these unnecessary, as a sentence.
        uses_camera: `embed` takes the cameras [B] as well, -1 where unknown; results say so.
        last_losses: the terms of the step before, detached.
        provenance: what a checkpoint keeps beside the weights (plain containers only).
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    does_without: ClassVar[Mapping[str, str]] = {}
    uses_camera: bool = False
    backbone: Backbone

    def __init__(
        self,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        gather: bool = False,
    ) -> None:
        super().__init__()
        self.gather = gather
        self._make_optimizer, self._make_scheduler = optimizer, scheduler
        self.last_losses: dict[str, Tensor] = {}
        self._last_index: Tensor | None = None
        self._last_is_finite: HostFlag | None = None
        self.provenance: dict[str, Any] = {}

    @classmethod
    def needs(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Return the side information that training with these settings (`cfg.method`) takes."""
        return cls.requires

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Return the retrieval features of images [B, 3, H, W] in [0, 1] as [B, D]."""

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted loss terms by name; their sum is minimised."""

    def knows_camera(self, camid: Tensor) -> Tensor:
        """Return of which of the cameras [B] `embed` makes use, [B] bool."""
        return (camid >= 0) & self.uses_camera

    def clusters(self) -> Tensor | None:
        """Return the cluster of every train image, [N], of a method that has mined them."""
        return None

    def attention(self, images: Tensor) -> dict[str, Tensor]:
        """Return predicted attention in (0, 1) by stage, [B, 1, h, w], of a method that has it."""
        return {}

    def parameter_groups(self) -> ParameterGroups:
        """Return the optimiser's parameter groups; everything trainable in one by default."""
        return [{"params": [p for p in self.parameters() if p.requires_grad]}]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimiser and, if there is one, the schedule.

        Raises:
            ConfigError: settings they do not take.
        """
        try:
            optimizer = self._make_optimizer(self.parameter_groups())
            if self._make_scheduler is None:
                return optimizer
            scheduler = self._make_scheduler(optimizer)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"These settings of method.optimizer or method.scheduler do not work: {error}"
            ) from error
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "name": "learning_rate"},
        }

    @property
    def datamodule(self) -> ReIDDataModule:
        """The datamodule of the run."""
        datamodule: ReIDDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return datamodule

    def gathered(
        self, features: Tensor, *labels: Tensor, when: bool | None = None
    ) -> tuple[Tensor, ...]:
        """Return features [B, D] and what belongs to them, [B, ...], of all ranks.

        Every rank then computes the loss of the whole batch, with gradients to all ranks; DDP's
        average of the gradients is the gradient that one process would have.

        Args:
            features: of this rank, with a gradient.
            labels: without one.
            when: False for those of this rank alone; None for what the setting `gather` says.
        """
        if not (self.gather if when is None else when) or self.trainer.world_size == 1:
            return features, *labels
        everyone = (self.all_gather(features, sync_grads=True), *map(self.all_gather, labels))
        return tuple(cast("Tensor", part).flatten(0, 1) for part in everyone)

    def log_means(self, values: Mapping[str, Tensor], size: int) -> None:
        """Log means over `size` images as `train/<name>`, averaged over the epoch and all ranks."""
        named = {f"train/{name}": value.float() for name, value in values.items()}
        self.log_dict(named, on_step=False, on_epoch=True, sync_dist=True, batch_size=size)

    def on_train_epoch_start(self) -> None:
        """Make this epoch's randomness a function of seed, epoch and rank."""
        entropy = [self.datamodule.seed, self.current_epoch, self.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Sum the loss terms and log each."""
        self._require_finite()
        losses = self.losses(batch)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        self.last_losses = {name: loss.detach() for name, loss in losses.items()}
        self._last_index = batch["index"]
        self._last_is_finite = HostFlag(torch.isfinite(total.detach()))
        self.log_means({**self.last_losses, "loss": total.detach()}, len(batch["pid"]))
        return total

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Look at the last step of an epoch before anything evaluates or saves what it left."""
        if not self.trainer.is_last_batch:
            return
        self._require_finite()
        # A loss of finite value can have a gradient of none. Asked of the gradients this would cost
        # something every step, and the loss scaling of fp16 needs some that are not finite.
        if name := first_not_finite(self.state_dict()):
            raise TrainingError(f"{name} of the network is {self._what_happened()}")

    def _require_finite(self) -> None:
        # Asked one step later, so that the host need not wait for the device every step.
        if self._last_is_finite is not None and not self._last_is_finite.read():
            raise TrainingError(f"The loss is {self._what_happened()}")

    def _what_happened(self) -> str:
        terms = ", ".join(f"{name}={float(loss):g}" for name, loss in self.last_losses.items())
        indices = [] if self._last_index is None else self._last_index.tolist()
        paths = "\n".join(f"  {self.datamodule.train[i].path}" for i in indices)
        return (
            f"no longer finite ({terms}) in epoch {self.current_epoch + 1}. Lower "
            f"method.optimizer.lr, or use precision=fp32. {self._last_good_checkpoint()}"
            f"The batch was\n{paths}"
        )

    def _last_good_checkpoint(self) -> str:
        """Say where the last checkpoint is: none is ever written that is not finite."""
        saved = [
            str(getattr(callback, "best_model_path", ""))
            for callback in self.trainer.checkpoint_callbacks
            if getattr(callback, "monitor", None) is None
        ]
        resumed = str(self.trainer.ckpt_path or "")
        for path in (*saved, resumed):
            if path and os.path.isfile(path):
                return f"The last good checkpoint is {path}\n"
        return "There is no checkpoint yet.\n"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is needed to rebuild this method from the checkpoint alone.

        Raises:
            TrainingError: weights, or what the optimiser keeps, are not finite; nothing is written.
        """
        for part in ("state_dict", "optimizer_states"):
            if name := first_not_finite(checkpoint.get(part), part):
                raise TrainingError(f"No checkpoint is written: {name} is {self._what_happened()}")
        checkpoint["ccreid"] = self.provenance
