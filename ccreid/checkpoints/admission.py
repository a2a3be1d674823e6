"""What must hold of a checkpoint's content before anything is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ccreid.build import method_class
from ccreid.callbacks.evaluation import EvaluationSettings
from ccreid.data.benchmarks.base import Benchmark
from ccreid.settings.targets import class_of, require_allowed_in_file

_NODES = ("method", "data", "input", "evaluation")


def admitted_config(values: Any, allow_targets: Sequence[str]) -> DictConfig:
    """Make a config of a file's settings; it allows itself nothing and refers to nothing.

    Raises:
        ConfigError: it names what a checkpoint may not build.
        ValueError: it is no config that ccreid writes. Errors of OmegaConf say the same.
    """
    if not isinstance(values, dict) or "${" in repr(values):
        raise ValueError("its config is no plain dictionary")
    config = OmegaConf.create(values)
    config.allow_targets = allow_targets
    if missing := OmegaConf.missing_keys(config):
        raise ValueError(f"its config lacks {', '.join(sorted(missing))}")
    for name in _NODES:
        _require_node(config, name)
    for name in ("benchmark", "train_transform", "test_transform"):
        _require_node(config.data, name)
    for name in ("height", "width"):
        _require_count(config.input.get(name), f"input.{name}", least=1)
    _require_count(config.get("seed"), "seed")
    for field in fields(EvaluationSettings):
        if field.name not in config.evaluation:
            raise ValueError(f"its config has no evaluation.{field.name}")
    for name in ("method", "data", "backbone"):
        if isinstance(config.get(name), DictConfig):
            require_allowed_in_file(config[name])
    method_class(config)
    if not issubclass(class_of(config.data.benchmark), Benchmark):
        raise ValueError(f"{config.data.benchmark._target_} is no benchmark")
    return config


def admitted_sizes(values: Any) -> dict[str, int]:
    """Return a file's sizes of the train split; anything but numbers could be read as settings.

    Raises:
        ValueError: they are not plain numbers by name.
    """
    if not isinstance(values, dict):
        raise ValueError("its sizes are no dictionary")
    for name, value in values.items():
        _require_count(value, f"size {name}")
        if not isinstance(name, str):
            raise ValueError(f"its size {name!r} has no name")
    return values


def admitted_weights(values: Any) -> dict[str, Tensor]:
    """Return a file's weights.

    Raises:
        ValueError: they are not tensors by name.
    """
    if not isinstance(values, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in values.items()
    ):
        raise ValueError("its weights are not tensors by name")
    return dict(values)


def _require_node(config: DictConfig, name: str) -> None:
    if not isinstance(config.get(name), DictConfig):
        raise ValueError(f"its config has no node {name}")


def _require_count(value: Any, name: str, least: int = 0) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"its {name} is {value!r} and no whole number from {least} on")
