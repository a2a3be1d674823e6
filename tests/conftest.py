"""Shared by all tests; `ccreid` is imported before anything imports torchvision."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import DictConfig

import ccreid  # noqa: F401
from ccreid.config import compose

TINY = (
    "data=virtual",
    "backbone.name=test_efficientnet",  # timm's own test network, 0.2 M parameters
    "backbone.weights=none",
    "backbone.last_stride=null",
    "backbone.channels_last=false",
    "precision=fp32",
    "input.height=64",
    "input.width=32",
    "trainer=cpu",
    "data.workers=0",
)


def trainer_at(epoch: int, **attributes: object) -> SimpleNamespace:
    """Return what parts ask of the trainer of a single process that begins an epoch."""
    progress = SimpleNamespace(current=SimpleNamespace(processed=epoch))
    loop = SimpleNamespace(epoch_progress=progress)
    alone = {"global_rank": 0, "world_size": 1}
    return SimpleNamespace(**alone, current_epoch=epoch, fit_loop=loop, **attributes)


@pytest.fixture
def tiny_config(tmp_path: Path) -> Callable[..., DictConfig]:
    """Return a function that composes a run small enough for a test, into `tmp_path/<folder>`."""

    def build(*overrides: str, folder: str = "run", config_name: str = "train") -> DictConfig:
        settings = TINY if config_name == "train" else ()
        output = f"output_dir={tmp_path / folder}"
        return compose(config_name, [*settings, output, *overrides])

    return build
