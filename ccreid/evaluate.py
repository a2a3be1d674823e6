"""Evaluate a checkpoint: `python -m ccreid.evaluate checkpoint=<file>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR, compose_benchmarks
from ccreid.errors import BenchmarkNotFound, ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ccreid.checkpoints.checkpoint import Checkpoint


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Rank one benchmark, or several, with the checkpoint's network; return the flat metrics.

    Whatever `cfg` leaves null (the benchmark, the input size, the evaluation's settings) is taken
    from the run that wrote the checkpoint. Of `benchmarks=all` those that are not found are told
    and left out.

    Raises:
        CCReIDError: the checkpoint or a benchmark is missing or not what was asked for.
    """
    from omegaconf import OmegaConf
    from rich.progress import Progress

    from ccreid import report
    from ccreid.build import choose_device, instantiate
    from ccreid.callbacks.evaluation import (
        EvaluationSettings,
        camera_counts,
        evaluate_method,
        flat_cameras,
        flat_metrics,
    )
    from ccreid.checkpoints.checkpoint import load_checkpoint
    from ccreid.data.cache import image_reader
    from ccreid.data.cache_files import Resizing
    from ccreid.data.datamodule import unanswerable_queries
    from ccreid.tables.results import camera_note, matrix_table, metrics_table
    from ccreid.viz.protocols import draw_protocols

    if OmegaConf.is_missing(cfg, "checkpoint"):
        raise ConfigError("Say which checkpoint: checkpoint=<run folder>/checkpoints/last.ckpt")
    checkpoint = load_checkpoint(cfg.checkpoint, cfg.allow_targets)
    if cfg.get("method") is not None:
        checkpoint.require_method(cfg.method)
    checkpoint.complete(cfg)
    nodes = _data_nodes(cfg, checkpoint)
    output_dir = report.prepare_run(cfg)
    opened, absent = [], []
    for name, node in nodes.items():
        try:
            opened.append((node, instantiate(node.benchmark)))
        except BenchmarkNotFound:
            if cfg.benchmarks != "all":
                raise
            absent.append(name)
    if absent:
        report.show(f"not found and left out: {', '.join(absent)}")
    for _, benchmark in opened:
        unanswerable_queries(benchmark)
    report.write_config(cfg, output_dir)
    method = checkpoint.build_method().to(choose_device(cfg.device))
    settings = EvaluationSettings(**cfg.evaluation)
    everything = {}
    metrics: dict[str, float] = {}
    told: dict[str, int] = {}
    with Progress(console=report.console, transient=True) as progress:
        for node, benchmark in opened:
            transform = instantiate(node.test_transform)
            read = image_reader(
                benchmark,
                "disk" if node.get("cache") == "disk" else "none",  # every image is read only once
                Resizing(**cfg.input),
                (transform,),
                node.get("cache_folder"),
                splits=("query", "gallery"),
            )
            cameras = checkpoint.is_trained_on(node)
            results = evaluate_method(
                method, benchmark, transform, settings, progress, read, cameras
            )
            folder = output_dir if len(opened) == 1 else output_dir / benchmark.name
            folder.mkdir(parents=True, exist_ok=True)
            report.write_queries(results, benchmark, folder / "queries.npz")
            draw_protocols(results, benchmark, folder / "pictures")
            report.show(metrics_table(results, benchmark.name))
            report.show("\n".join(map(str, benchmark.protocols)))
            if known := camera_counts(method, benchmark, told=cameras):
                report.show(camera_note(method, benchmark.name, **known))
            everything[benchmark.name] = results
            metrics |= flat_metrics(results, benchmark.name)
            told |= flat_cameras(known, benchmark.name)
    if len(opened) > 1:
        report.show(matrix_table(everything))
    report.write_metrics({**metrics, **told, **report.origin(cfg)}, output_dir)
    report.show(f"Everything of this evaluation is in {output_dir}")
    return metrics


def _data_nodes(cfg: DictConfig, checkpoint: Checkpoint) -> dict[str, DictConfig]:
    """Return the config node of every benchmark to evaluate, for images as `cfg.input` says."""
    from ccreid.checkpoints.checkpoint import for_input

    if cfg.benchmarks is None:
        return {"data": checkpoint.data_node(cfg)}
    return {name: for_input(node, cfg.input) for name, node in compose_benchmarks(cfg).items()}


@hydra.main(config_path=str(CONF_DIR), config_name="evaluate", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(evaluate, cfg)


if __name__ == "__main__":
    run_verb(main, "evaluate")
