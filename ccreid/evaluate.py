"""Evaluate a checkpoint: `python -m ccreid.evaluate checkpoint=<file>`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hydra

from ccreid.config import CONF_DIR, compose_benchmarks, guarded, run_verb
from ccreid.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Rank one benchmark, or several, with the checkpoint's network; return the flat metrics.

    Whatever `cfg` leaves null (the benchmark, the input size, the evaluation's settings) is taken
    from the run that wrote the checkpoint.

    Raises:
        CCReIDError: the checkpoint or a benchmark is missing or not what was asked for.
    """
    from omegaconf import OmegaConf
    from rich.progress import Progress

    from ccreid import report
    from ccreid.build import choose_device, instantiate
    from ccreid.callbacks.evaluation import EvaluationSettings, evaluate_method, flat_metrics
    from ccreid.callbacks.tables import camera_note, matrix_table, metrics_table
    from ccreid.checkpoint import load_checkpoint
    from ccreid.data.cache import image_reader
    from ccreid.data.cache_files import Resizing
    from ccreid.data.datamodule import unanswerable_queries
    from ccreid.viz.protocols import draw_protocols

    if OmegaConf.is_missing(cfg, "checkpoint"):
        raise ConfigError("Say which checkpoint: checkpoint=<run folder>/checkpoints/last.ckpt")
    checkpoint = load_checkpoint(cfg.checkpoint)
    if cfg.get("method") is not None:
        checkpoint.require_method(cfg.method)
    for node in ("input", "evaluation"):
        for key, value in cfg[node].items():
            if value is None:
                cfg[node][key] = checkpoint.config[node][key]
    trained_on = checkpoint.config.data
    nodes = _data_nodes(cfg, trained_on)
    output_dir = report.prepare_run(cfg)
    benchmarks = [instantiate(node.benchmark) for node in nodes]
    report.write_config(cfg, output_dir)
    transforms = [instantiate(node.test_transform) for node in nodes]
    for benchmark in benchmarks:
        unanswerable_queries(benchmark)
    method = checkpoint.build_method().to(choose_device(cfg.device))
    settings = EvaluationSettings(**cfg.evaluation)
    readers = [
        image_reader(
            benchmark,
            "disk" if node.get("cache") == "disk" else "none",  # every image is read only once
            Resizing(**cfg.input),
            (transform,),
            node.get("cache_folder"),
            splits=("query", "gallery"),
        )
        for node, benchmark, transform in zip(nodes, benchmarks, transforms, strict=True)
    ]
    everything = {}
    same = [_people_and_cameras(node) == _people_and_cameras(trained_on) for node in nodes]
    with Progress(console=report.console, transient=True) as progress:
        for given in zip(benchmarks, transforms, readers, same, strict=True):
            benchmark, transform, read, cameras = given
            everything[benchmark.name] = evaluate_method(
                method, benchmark, transform, settings, progress, read, cameras
            )
    metrics: dict[str, float] = {}
    for benchmark in benchmarks:
        results = everything[benchmark.name]
        report.show(metrics_table(results, benchmark.name))
        report.show("\n".join(map(str, benchmark.protocols)))
        metrics |= flat_metrics(results, benchmark.name)
        name = "" if len(benchmarks) == 1 else benchmark.name
        report.write_queries(results, benchmark, output_dir / f"{name}_queries.npz".lstrip("_"))
        draw_protocols(results, benchmark, output_dir / "pictures" / name)
    if len(benchmarks) > 1:
        report.show(matrix_table(everything))
    if method.uses_camera:
        told = [benchmark.name for benchmark, known in zip(benchmarks, same, strict=True) if known]
        report.show(camera_note(told))
    report.write_metrics({**metrics, **report.provenance(cfg)}, output_dir)
    report.show(f"Everything of this evaluation is in {output_dir}")
    return metrics


def _people_and_cameras(node: DictConfig) -> dict[str, object]:
    """Return what tells a benchmark from another; a published one is the same wherever it lies."""
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    settings = OmegaConf.to_container(node.benchmark, resolve=True)
    assert isinstance(settings, dict)
    is_published = bool(get_class(node.benchmark._target_).counts)  # type: ignore[attr-defined]
    return {str(key): v for key, v in settings.items() if not (is_published and key == "root")}


def _data_nodes(cfg: DictConfig, trained_on: DictConfig) -> list[DictConfig]:
    """Return the config node of every benchmark to evaluate, with the input size of `cfg`."""
    from omegaconf import open_dict

    if cfg.benchmarks is not None:
        if cfg.get("data") is not None:
            raise ConfigError("Give data=<one benchmark> or benchmarks=[several], not both.")
        nodes = list(compose_benchmarks(cfg.benchmarks, cfg.root).values())
    else:
        if cfg.get("data") is None:
            with open_dict(cfg):
                cfg.data = trained_on
        nodes = [cfg.data]
    for node in nodes:
        for setting, value in cfg.input.items():  # a checkpoint's are resolved, not references
            node.test_transform[setting] = value
    return nodes


@hydra.main(config_path=str(CONF_DIR), config_name="evaluate", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(evaluate, cfg)


if __name__ == "__main__":
    run_verb(main, "evaluate")
