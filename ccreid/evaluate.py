"""Evaluate a checkpoint: `python -m ccreid.evaluate checkpoint=<file>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hydra

from ccreid.config import CONF_DIR, guarded, run_verb
from ccreid.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Rank the benchmark with the checkpoint's network; return the flat metrics.

    Whatever `cfg` leaves null (the benchmark, the input size, the evaluation's settings) is taken
    from the run that wrote the checkpoint.

    Raises:
        CCReIDError: the checkpoint or the benchmark is missing or not what was asked for.
    """
    from omegaconf import OmegaConf, open_dict
    from rich.progress import Progress

    from ccreid import report
    from ccreid.build import choose_device, instantiate
    from ccreid.callbacks.evaluation import EvaluationSettings, evaluate_method, flat_metrics
    from ccreid.callbacks.tables import metrics_table
    from ccreid.checkpoint import load_checkpoint
    from ccreid.data.datamodule import unanswerable_queries

    if OmegaConf.is_missing(cfg, "checkpoint"):
        raise ConfigError("Say which checkpoint: checkpoint=<run folder>/checkpoints/last.ckpt")
    checkpoint = load_checkpoint(cfg.checkpoint)
    if cfg.get("method") is not None:
        checkpoint.require_method(cfg.method)
    if cfg.get("data") is None:
        with open_dict(cfg):
            cfg.data = checkpoint.config.data
    for node in ("input", "evaluation"):
        for key, value in cfg[node].items():
            if value is None:
                cfg[node][key] = checkpoint.config[node][key]
    for side in ("height", "width"):  # those of a checkpoint are resolved, not references
        cfg.data.test_transform[side] = cfg.input[side]
    output_dir = report.prepare_run(cfg)
    benchmark = instantiate(cfg.data.benchmark)
    report.write_config(cfg, output_dir)
    transform = instantiate(cfg.data.test_transform)
    unanswerable_queries(benchmark)
    method = checkpoint.build_method().to(choose_device(cfg.device))
    settings = EvaluationSettings(**cfg.evaluation)
    with Progress(console=report.console, transient=True) as progress:
        results = evaluate_method(method, benchmark, transform, settings, progress)
    report.show(metrics_table(results, benchmark.name))
    metrics = flat_metrics(results, benchmark.name)
    report.write_metrics({**metrics, **report.provenance(cfg)}, output_dir)
    report.draw_pictures(results, benchmark, output_dir / "pictures")
    report.show(f"Everything of this evaluation is in {output_dir}")
    return metrics


@hydra.main(config_path=str(CONF_DIR), config_name="evaluate", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(evaluate, cfg)


if __name__ == "__main__":
    run_verb(main, "evaluate")
