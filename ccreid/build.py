"""From a config to objects: the datamodule, the method and the precision they compute in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from ccreid.data.datamodule import ReIDDataModule
from ccreid.errors import ConfigError, TrainingError
from ccreid.methods.base import Method
from ccreid.processes import RankWatch

_GO_ON = (
    "The checkpoint of the last whole epoch is in the run's folder: go on with "
    "resume=<folder>/checkpoints/last.ckpt."
)

LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def build_datamodule(cfg: DictConfig, requires: Iterable[str] = ()) -> ReIDDataModule:
    """Read the benchmark of `cfg.data` and wrap it for training.

    Raises:
        DataError: the benchmark, or side information in `requires`, is missing.
    """
    return ReIDDataModule(
        benchmark=instantiate(cfg.data.benchmark),
        train_transform=instantiate(cfg.data.train_transform),
        test_transform=instantiate(cfg.data.test_transform),
        identities_per_batch=cfg.data.identities_per_batch,
        images_per_identity=cfg.data.images_per_identity,
        workers=cfg.data.workers,
        seed=cfg.seed,
        requires=requires,
    )


def method_class(cfg: DictConfig) -> type[Method]:
    """Return the class that `cfg.method` names."""
    cls: type[Method] = get_class(cfg.method._target_)
    return cls


def build_method(cfg: DictConfig, num_identities: int) -> Method:
    """Build the network and its losses; what is not pretrained is drawn from `cfg.seed`."""
    torch.manual_seed(cfg.seed)
    method: Method = instantiate(cfg.method, num_identities=num_identities)
    if cfg.get("compile", False):
        method.backbone.compile()
    return method


def build_trainer(cfg: DictConfig, callbacks: Iterable[Callback]) -> Trainer:
    """Build the trainer with its loggers.

    Raises:
        ConfigError: the devices asked for do not exist, or cannot share a batch's identities.
    """
    loggers = list(instantiate(cfg.logger).values())
    try:
        trainer: Trainer = instantiate(
            cfg.trainer,
            precision=LIGHTNING_PRECISION[cfg.precision],
            logger=loggers,
            callbacks=list(callbacks),
        )
    except (MisconfigurationException, InstantiationException) as error:
        raise ConfigError(
            f"No trainer for accelerator={cfg.trainer.accelerator}, devices={cfg.trainer.devices}: "
            f"{error}\nThis machine has {torch.cuda.device_count()} GPUs; trainer=cpu needs none."
        ) from None
    if cfg.data.identities_per_batch % trainer.world_size:
        raise ConfigError(
            f"{trainer.world_size} devices cannot share the {cfg.data.identities_per_batch} "
            "identities of a batch evenly. Set data.identities_per_batch to a multiple of "
            f"{trainer.world_size}, or trainer.devices to a divisor."
        )
    return trainer


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
            if "EADDRINUSE" in str(error) or "address already in use" in str(error).lower():
                raise ConfigError(
                    f"The port where the processes meet is taken: {error}\n"
                    "Unset MASTER_PORT, or set it to a free port."
                ) from None
            if death is None and trainer.world_size > 1 and "closed by peer" in str(error):
                death = f"Rank {trainer.global_rank} lost contact to another rank: it died."
            if death is None:
                raise
            raise TrainingError(f"{death} {_GO_ON}") from error


def choose_precision(name: str, accelerator: str) -> str:
    """Turn `auto` into bf16 where the hardware computes in it, else fp32.

    Args:
        name: auto, fp32, bf16 or fp16.
        accelerator: Lightning's trainer.accelerator.

    Raises:
        ConfigError: an unknown name, or fp16 without a GPU.
    """
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if name == "fp16" and not on_gpu:
        raise ConfigError("precision=fp16 needs a GPU. On a CPU take precision=bf16 or fp32.")
    if name in LIGHTNING_PRECISION:
        return name
    if name != "auto":
        raise ConfigError(
            f"precision={name} should be one of auto, {', '.join(LIGHTNING_PRECISION)}."
        )
    if on_gpu:
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has_bf16: Any = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if has_bf16() else "fp32"
