"""From a config to objects: the datamodule, the method and the precision they compute in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig

from ccreid.data.datamodule import ReIDDataModule
from ccreid.errors import ConfigError

if TYPE_CHECKING:
    from ccreid.methods.base import Method

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
    return method


def choose_precision(name: str, accelerator: str) -> str:
    """Turn `auto` into bf16 where the hardware computes in it, else fp32.

    Args:
        name: auto, fp32, bf16 or fp16.
        accelerator: Lightning's trainer.accelerator.

    Raises:
        ConfigError: an unknown name.
    """
    if name in LIGHTNING_PRECISION:
        return name
    if name != "auto":
        raise ConfigError(
            f"precision={name} should be one of auto, {', '.join(LIGHTNING_PRECISION)}."
        )
    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has_bf16: Any = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if has_bf16() else "fp32"
