"""Whether a run begins, goes on from a checkpoint, or has nothing left to do."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import ccreid
from ccreid.checkpoints.checkpoint import Checkpoint, decisive_settings, load_checkpoint
from ccreid.errors import ConfigError
from ccreid.runs.jobs import AUTO, CONFIG, LAST_CHECKPOINT, METRICS

Metrics = dict[str, float | int | str]


def find_checkpoint(cfg: DictConfig) -> Checkpoint | None:
    """Return what `cfg.resume` names, or for `auto` the folder's last checkpoint, if there is one.

    Raises:
        CheckpointError: there is none at the path given, or it is not whole.
        ConfigError: it was made with other settings, or `auto` cannot find the folder again.
    """
    if cfg.resume is None:
        return None
    path = Path(cfg.resume)
    if cfg.resume == AUTO:
        _require_lasting_folder(cfg)
        path = Path(cfg.output_dir) / LAST_CHECKPOINT
        if not path.exists():
            return None
    checkpoint = load_checkpoint(path, cfg.allow_targets)
    checkpoint.require_same_run(cfg)
    return checkpoint


def finished_metrics(cfg: DictConfig, checkpoint: Checkpoint | None) -> Metrics | None:
    """Return the metrics of a run that `resume=auto` finds finished, else None.

    A job that is started again when it had just ended, as schedulers do, then has nothing to do. A
    run that has its metrics but fewer epochs than are asked for now is trained on.
    """
    metrics = Path(cfg.output_dir) / METRICS
    if cfg.resume != AUTO or not metrics.exists():
        return None
    if checkpoint is None:
        _require_own_config(cfg)
    elif checkpoint.epoch < cfg.trainer.max_epochs:
        return None
    content: Metrics = json.loads(metrics.read_text())
    return content


def _require_own_config(cfg: DictConfig) -> None:
    """Raise a ConfigError unless what the folder holds was made by a training with these settings.

    Its checkpoint is gone, perhaps to save room.
    """
    path = Path(cfg.output_dir) / CONFIG
    try:
        own = OmegaConf.load(path)
        same = isinstance(own, DictConfig) and decisive_settings(own) == decisive_settings(cfg)
    except (OSError, KeyError, AttributeError, OmegaConfBaseException):
        same = False  # of another verb or version, or no config at all
    if not same:
        raise ConfigError(
            f"{cfg.output_dir} holds results of something else, and no checkpoint. Choose another "
            "folder: hydra.run.dir=<folder>"
        )


def settings_of_all_ranks(cfg: DictConfig, checkpoint: Checkpoint | None) -> list[str]:
    """Return what must be the same on every rank, one line each: start, version and settings."""
    epoch = 0 if checkpoint is None else checkpoint.epoch
    versions = [f"ccreid {ccreid.__version__}", f"torch {torch.__version__}"]
    return [f"start after epoch {epoch}", *versions, *decisive_settings(cfg)]


def _require_lasting_folder(cfg: DictConfig) -> None:
    """Raise a ConfigError if the same command would look for its checkpoint in another folder."""
    if not HydraConfig.initialized():
        return  # composed in Python, where the folder had to be given
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN or cfg.output_dir != hydra.runtime.output_dir:
        return
    written = OmegaConf.to_container(hydra.run, resolve=False)
    if isinstance(written, dict) and "${now:" in str(written["dir"]):
        raise ConfigError(
            "resume=auto goes on from checkpoints/last.ckpt of the run's folder, but the folder's "
            "name carries the time, so that the same command would never find it again. Name one: "
            "hydra.run.dir=<folder>"
        )
