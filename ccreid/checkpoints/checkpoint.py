"""Checkpoints that rebuild their method: weights, the resolved config and the sizes it needs."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from ccreid.build import build_method
from ccreid.checkpoints.admission import admitted_config, admitted_sizes, admitted_weights
from ccreid.checkpoints.exported import SUFFIX, read_exported
from ccreid.data.benchmarks.base import Benchmark
from ccreid.errors import CheckpointError, ConfigError, require
from ccreid.methods.base import Method
from ccreid.runs.jobs import changed_settings, flat
from ccreid.settings.targets import class_of

_FREE_OF_TRAINER = (
    *("_target_", "max_epochs", "default_root_dir", "log_every_n_steps", "profiler"),
    *("accelerator", "devices", "num_nodes", "strategy"),  # the number of processes counts
    *("enable_progress_bar", "enable_model_summary", "enable_checkpointing"),
)
"""What may be other when a run goes on; all else of the trainer may change what is trained."""
_DECISIVE_CALLBACKS = (
    *("WeightAveraging", "EMAWeightAveraging", "StochasticWeightAveraging"),
    *("GradientAccumulationScheduler", "BackboneFinetuning", "LambdaCallback"),
)
"""Lightning's that change what is trained; your own are not compared."""
_PLACES = ("root", "archive", "file", "folder", "workers", "cache", "cache_folder", "check_files")


@dataclass(frozen=True)
class Checkpoint:
    """What a run's checkpoint holds.

    Attributes:
        path: the file.
        config: the resolved config of the run.
        sizes: of the data the network was trained on, as `ReIDDataModule.sizes`.
        epoch: epochs done.
        state_dict: the weights.
        left_out: of an exported file, the names of the weights that only training needs and that it
            does without; None for a run's own checkpoint.
        train_checksum: checksum of the listing of the train split; empty where the file has none.
    """

    path: Path
    config: DictConfig
    sizes: dict[str, int]
    epoch: int
    state_dict: dict[str, Tensor]
    left_out: tuple[str, ...] | None = None
    train_checksum: str = ""

    def build_method(self) -> Method:
        """Rebuild the method with its trained weights; nothing is downloaded.

        Raises:
            CheckpointError: the weights do not fit the method of this version of the library.
        """
        config = self.config.copy()
        _without_weights(config)  # they come from the checkpoint
        method = build_method(config, self.sizes)
        drawn = method.state_dict()
        absent = {name: drawn[name] for name in self.left_out or () if name in drawn}
        try:
            method.load_state_dict({**absent, **self.state_dict})
        except RuntimeError as error:
            raise CheckpointError(f"{self.path} does not fit its own method: {error}") from None
        return method

    def complete(self, cfg: DictConfig) -> None:
        """Put the run's values where a verb's config has null in `input` and `evaluation`."""
        for name in ("input", "evaluation"):
            cfg[name] = filled_in(cfg[name], self.config[name])

    def data_node(self, cfg: DictConfig) -> DictConfig:
        """Return `cfg.data`, which is the run's if it was null, for images as `cfg.input` says."""
        if cfg.get("data") is None:
            with open_dict(cfg):
                cfg.data = self.config.data
        return for_input(cfg.data, cfg.input)

    def is_trained_on(self, data: DictConfig) -> bool:
        """Return whether a `data` node is the benchmark the network was trained on.

        A published one is the same wherever it lies; own images and archives are not.
        """
        return _identity(data) == _identity(self.config.data)

    def require_method(self, method: DictConfig) -> None:
        """Raise a CheckpointError unless the config node `method` names this one's method."""
        own, asked = self.config.method._target_, method._target_
        if own != asked:
            raise CheckpointError(
                f"{self.path} was trained with {_short(own)}, not with {_short(asked)}. "
                f"Name that method's option of method=, or the checkpoint of {_short(asked)}."
            )

    def require_same_run(self, config: DictConfig) -> None:
        """Raise unless a run with `config` can go on from here as if it had never stopped.

        The number of epochs, the folder, the loggers and where the data lies may differ.

        Raises:
            CheckpointError: another method, or an exported file.
            ConfigError: other settings, which would be recorded but not be true.
        """
        if self.left_out is not None:
            raise CheckpointError(
                f"{self.path} was exported: it holds what embeds images and not what training goes "
                "on from. Resume from <run folder>/checkpoints/last.ckpt"
            )
        self.require_method(config.method)
        old, new = (
            _decisive(OmegaConf.to_container(c, resolve=True)) for c in (self.config, config)
        )
        if changed := changed_settings(old, new):
            raise ConfigError(
                f"A resumed run goes on with its own settings; other ones were given ({changed}). "
                "Leave them out, or begin a new run."
            )

    def require_same_data(self, sizes: Mapping[str, int], train_checksum: str) -> None:
        """Raise a ConfigError unless the train split is the one the network was trained on.

        Args:
            sizes: of the train split, as `ReIDDataModule.sizes`.
            train_checksum: checksum of its listing, as `ReIDDataModule.train_checksum`.
        """
        if sizes == self.sizes and self.train_checksum not in ("", train_checksum):
            raise ConfigError(
                f"{self.path} was trained on other images of as many people. Give the images it "
                "was trained on, or begin a new run."
            )
        if sizes != self.sizes:
            before, now = (
                ", ".join(f"{name}={each[name]}" for name in sorted(each))
                for each in (self.sizes, dict(sizes))
            )
            raise ConfigError(
                f"{self.path} was trained on other data: {before} there, {now} now. Give the data "
                "it was trained on, or begin a new run."
            )


def _without_weights(node: Any) -> None:
    """Let every backbone below a node begin without weights of its own."""
    if isinstance(node, DictConfig):
        if str(node.get("_target_")).endswith(".Backbone"):
            node.weights = "none"
        for name in node:
            _without_weights(node.get(name))


def filled_in(asked: DictConfig, own: DictConfig) -> dict[str, Any]:
    """Return the settings asked for, and the run's own where these are null."""
    return {str(key): own[key] if value is None else value for key, value in asked.items()}


def for_input(data: DictConfig, size: DictConfig) -> DictConfig:
    """Let the test transform of a `data` node make images of this size, and return the node."""
    for setting, value in size.items():  # a checkpoint's are resolved, not references
        data.test_transform[setting] = value
    return data


def _identity(data: DictConfig) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(data.benchmark, resolve=True)
    kind: type[Benchmark] = class_of(data.benchmark)
    moved = ("clips", "root") if kind.counts else ("clips",)
    return {key: value for key, value in settings.items() if key not in moved}


def _decisive(config: Any) -> dict[str, Any]:
    """The settings that decide a result; where files lie and who watches or reads does not."""
    names = ("method", "backbone", "data", "input", "seed", "precision")
    kept = {name: dict(config[name]) if name == "data" else config[name] for name in names}
    trainer = config["trainer"]
    kept["trainer"] = {k: v for k, v in trainer.items() if k not in _FREE_OF_TRAINER}
    kept["trainer"]["processes"] = _processes(trainer)
    kept["callbacks"] = {
        name: callback
        for name, callback in config["callbacks"].items()
        if callback["_target_"].rpartition(".")[2] in _DECISIVE_CALLBACKS
    }
    parts = ("benchmark", "parsing", "captions")
    kept["data"] |= {part: dict(kept["data"][part]) for part in parts}
    for node in (kept["data"], *(kept["data"][part] for part in parts)):
        for name in _PLACES:
            node.pop(name, None)
    return kept


def _processes(trainer: Mapping[str, Any]) -> int | str:
    """Return how many processes share a batch, or what is written where that is not a number."""
    devices = trainer.get("devices", 1)
    on_node = len(devices) if isinstance(devices, list) else devices
    counts = type(on_node) is int and on_node >= 0
    return on_node * trainer.get("num_nodes", 1) if counts else f"{devices} devices"


def decisive_settings(config: DictConfig) -> list[str]:
    """Return the settings that decide a result, and those of the trainer, as `key: value`."""
    whole: Any = OmegaConf.to_container(config, resolve=True)
    trainer = {k: v for k, v in whole["trainer"].items() if k != "default_root_dir"}
    values = flat({**_decisive(whole), "trainer": trainer})
    return [f"{key}: {values[key]}" for key in sorted(values)]


def provenance(
    config: DictConfig, sizes: Mapping[str, int], train_checksum: str = ""
) -> dict[str, Any]:
    """Return what a checkpoint keeps beside its weights, in plain containers."""
    return {
        "config": OmegaConf.to_container(config, resolve=True),
        "sizes": dict(sizes),
        "train_list": train_checksum,
    }


def load_checkpoint(path: Path | str, allow_targets: Sequence[str] = ()) -> Checkpoint:
    """Read a checkpoint, or what `ccreid.export` made of one, without executing anything in it.

    Args:
        path: the file.
        allow_targets: modules beyond this library's that its config may name, see
            `ccreid.settings.targets`; what the run itself was allowed counts for nothing here.

    Raises:
        CheckpointError: no such file, not whole, or not written by ccreid.
        ConfigError: its method is of a module that is not allowed.
    """
    require(isinstance(path, str | Path), "checkpoint", path, "the path of one file")
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(
            f"No checkpoint at {path.absolute()}. "
            "A run writes <run folder>/checkpoints/last.ckpt after every epoch."
        )
    try:
        return _read(path, allow_targets)
    except (KeyError, TypeError, AttributeError, ValueError, OmegaConfBaseException) as error:
        lacks = type(error) is KeyError
        reason = f"it lacks {error}" if lacks else str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"{path} is not what ccreid writes ({reason}): another version wrote it, or it was "
            "altered. Take another file."
        ) from None


def _read(path: Path, allow_targets: Sequence[str]) -> Checkpoint:
    """Read a file of either kind; what is odd about its content raises what it raises."""
    if path.suffix == SUFFIX:
        file = read_exported(path)
        config = admitted_config(file.config, allow_targets)
        sizes = admitted_sizes(file.sizes)
        return Checkpoint(path, config, sizes, 0, file.tensors, tuple(file.left_out))
    content = _plain_content(path)
    own = content["ccreid"]
    # Lightning's "epoch" differs between a checkpoint at an epoch's end and one after fit.
    epoch = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
    return Checkpoint(
        path=path,
        config=admitted_config(own["config"], allow_targets),
        sizes=admitted_sizes(own["sizes"]),
        epoch=int(epoch),
        state_dict=admitted_weights(content["state_dict"]),
        train_checksum=str(own.get("train_list", "")),
    )


def _plain_content(path: Path) -> dict[str, Any]:
    """Return what a checkpoint holds: tensors and plain containers, ccreid's own among them."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} holds more than tensors and plain containers, so that reading it could run "
            "code, or it is no checkpoint at all. Nothing was run. Take one that ccreid wrote."
        ) from None
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint ({type(error).__name__}). "
            "Was it cut short? Take an earlier one."
        ) from None
    if not isinstance(content, dict) or "ccreid" not in content:
        raise CheckpointError(
            f"{path} was not written by ccreid. Weights of other projects can start a training "
            "as backbone.weights=<file>."
        )
    return content


def _short(target: str) -> str:
    return target.rsplit(".", 1)[-1]
