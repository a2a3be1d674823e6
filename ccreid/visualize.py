"""Pictures of a trained network: `python -m ccreid.visualize checkpoint=<file> what=[ranked]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR
from ccreid.errors import ConfigError, nearest, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig

    from ccreid.data.benchmarks.base import Benchmark


def visualize(cfg: DictConfig) -> list[Path]:
    """Draw what `cfg.what` names and return the files.

    Whatever `cfg` leaves null of the data, the input and the evaluation is taken from the run that
    wrote the checkpoint.

    Raises:
        CCReIDError: the checkpoint or the benchmark is missing or not what was asked for.
    """
    from omegaconf import OmegaConf
    from rich.progress import Progress

    from ccreid import report
    from ccreid.build import choose_device, instantiate
    from ccreid.callbacks.evaluation import EvaluationSettings
    from ccreid.checkpoints.checkpoint import load_checkpoint
    from ccreid.pictures import PICTURES, Subject

    if OmegaConf.is_missing(cfg, "checkpoint"):
        raise ConfigError("Say which checkpoint: checkpoint=<run folder>/checkpoints/last.ckpt")
    what = _require_possible(cfg)
    checkpoint = load_checkpoint(cfg.checkpoint, cfg.allow_targets)
    checkpoint.complete(cfg)
    node = checkpoint.data_node(cfg)
    output_dir = report.prepare_run(cfg)
    benchmark = instantiate(node.benchmark)
    _require_there(cfg, what, benchmark)
    report.write_config(cfg, output_dir)
    with Progress(console=report.console, transient=True) as progress:
        subject = Subject(
            cfg=cfg,
            trained=checkpoint.config,
            method=checkpoint.build_method().to(choose_device(cfg.device)),
            benchmark=benchmark,
            transform=instantiate(node.test_transform),
            settings=EvaluationSettings(**cfg.evaluation),
            cameras=checkpoint.is_trained_on(node),
            progress=progress,
        )
        files = [file for name in what for file in PICTURES[name](subject)]
    report.show("\n".join(str(file) for file in files))
    return files


def _require_possible(cfg: DictConfig) -> list[str]:
    """Return the names in `what`; refuse impossible settings before minutes go into features."""
    from typing import get_args

    from omegaconf import OmegaConf

    from ccreid.pictures import PICTURES
    from ccreid.viz.embedding import Projection
    from ccreid.viz.ranked_lists import Order

    what = [cfg.what] if isinstance(cfg.what, str) else list(cfg.what)
    for name in what:
        if name not in PICTURES:
            hint = nearest(str(name), PICTURES)
            raise ConfigError(f"what={name}: choose from {', '.join(PICTURES)}.{hint}")
    require(0 < len(what) == len(set(what)), "what", what, "one or more pictures, each once")
    for key, kind in (("order", Order), ("embedding.projection", Projection)):
        value = OmegaConf.select(cfg, key)
        require(value in get_args(kind), key, value, f"one of {', '.join(get_args(kind))}")
    numbers = ("rows", "places", "attention.images")
    for key in (*numbers, "attention.people", "clusters.people", "embedding.people"):
        value = OmegaConf.select(cfg, key)
        require(isinstance(value, int) and value >= 1, key, value, "a number of at least 1")
    require(0 <= cfg.seed < 2**32, "seed", cfg.seed, f"from 0 to {2**32 - 1}")
    return what


def _require_there(cfg: DictConfig, what: Sequence[str], benchmark: Benchmark) -> None:
    """Raise a ConfigError unless the benchmark has the protocol and the people asked for."""
    from ccreid.viz.protocols import choose_protocols
    from ccreid.viz.samples import require_people

    choose_protocols(benchmark, cfg.protocol)
    if cfg.people is None:
        return
    if "clusters" in what:
        require_people(benchmark.train, cfg.people, "train split")
    if {"attention", "embedding"} & set(what):
        require_people((*benchmark.query, *benchmark.gallery), cfg.people, "test splits")


@hydra.main(config_path=str(CONF_DIR), config_name="visualize", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(visualize, cfg)


if __name__ == "__main__":
    run_verb(main, "visualize")
