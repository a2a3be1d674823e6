"""Train a method and evaluate it: `python -m ccreid.train method=fire2 data=virtual`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from omegaconf import DictConfig

    from ccreid.callbacks.evaluation import Evaluation, Results
    from ccreid.checkpoints.checkpoint import Checkpoint
    from ccreid.data.datamodule import ReIDDataModule
    from ccreid.methods.base import Method


@dataclass(frozen=True)
class TrainResult:
    """What a run leaves behind.

    Attributes:
        output_dir: the run's folder.
        checkpoint: the last epoch's checkpoint.
        metrics: the content of `metrics.json`.
    """

    output_dir: Path
    checkpoint: Path
    metrics: dict[str, float | int | str]


def train(cfg: DictConfig) -> TrainResult:
    """Train as `cfg` says, evaluate after the last epoch, and write everything into one folder.

    With `resume=auto` a finished run is left as it is.

    Args:
        cfg: composed from `conf/train.yaml`; resolved in place.

    Raises:
        CCReIDError: anything a user can mend, before the first epoch wherever possible.
        Stopped: SIGTERM came; what was kept at the end of the last epoch is whole.
    """
    from ccreid import report
    from ccreid.build import (
        build_method,
        build_trainer,
        choose_precision,
        instantiate,
        require_monitored,
    )
    from ccreid.callbacks.evaluation import camera_counts, flat_cameras, flat_metrics
    from ccreid.callbacks.loggers import finishing
    from ccreid.checkpoints.checkpoint import provenance
    from ccreid.runs.jobs import AUTO, LAST_CHECKPOINT
    from ccreid.runs.processes import process_rank
    from ccreid.runs.stopping import StopSignals
    from ccreid.tables.results import camera_note, metrics_table
    from ccreid.training.combinations import require_possible
    from ccreid.training.fitting import fit
    from ccreid.training.resuming import find_checkpoint, finished_metrics, settings_of_all_ranks

    require_possible(cfg)
    cfg.precision = choose_precision(cfg.precision, cfg.trainer.accelerator)
    begun = find_checkpoint(cfg)
    if (done := finished_metrics(cfg, begun)) is not None:
        report.show(f"The run in {cfg.output_dir} is finished: nothing is left to do")
        folder = Path(cfg.output_dir)
        return TrainResult(folder, folder / LAST_CHECKPOINT, done)
    output_dir = report.prepare_run(cfg)
    data = _open_data(cfg, begun)
    method = build_method(cfg, data.sizes)
    method.provenance = provenance(cfg, data.sizes, data.train_checksum)
    callbacks = instantiate(cfg.callbacks)
    require_monitored(callbacks.values(), data)
    trainer = build_trainer(cfg, callbacks.values())
    whole = begun if begun is not None and begun.epoch >= cfg.trainer.max_epochs else None
    if whole is not None:
        report.require_unfinished(output_dir, whole.path)
        report.show(
            f"{whole.path} has its {cfg.trainer.max_epochs} epochs: it is only evaluated. With "
            "trainer.max_epochs=<more> it is trained on, if its schedule does not depend on them"
        )
    elif begun is not None:
        report.show(f"going on after epoch {begun.epoch} of {begun.path}")
    report.write_config(cfg, output_dir, keep_log=whole is None)
    signals = StopSignals(may_requeue=cfg.resume == AUTO and process_rank() == 0)
    with report.stoppable(output_dir), signals, finishing(trainer.loggers):
        if whole is None:
            lines = settings_of_all_ranks(cfg, begun)
            fit(trainer, method, data, signals, None if begun is None else begun.path, lines)
            checkpoint, costs = output_dir / LAST_CHECKPOINT, callbacks.throughput.summary()
            results = callbacks.evaluation.results
        else:  # the run was stopped between its last epoch and its evaluation
            checkpoint, costs = whole.path, {}
            method, results = _evaluated(whole, data, callbacks.evaluation, trainer)
        cameras = camera_counts(method, data.benchmark)  # on every rank: they wait for each other
        metrics: dict[str, float | int | str] = {
            **flat_metrics(results, data.benchmark.name),
            **flat_cameras(cameras, data.benchmark.name),
            **costs,
            **report.origin(cfg),
        }
        if trainer.is_global_zero:
            report.show(metrics_table(results, data.benchmark.name))
            if cameras:
                report.show(camera_note(method, data.benchmark.name, **cameras))
            report.write_queries(results, data.benchmark, output_dir / "queries.npz")
            if "pictures" in callbacks:
                callbacks.pictures.draw(results, data, method, trainer.loggers, trainer.global_step)
            report.write_metrics(metrics, output_dir)  # with them a run is finished
            report.show(f"Everything of this run is in {output_dir}")
    return TrainResult(output_dir, checkpoint, metrics)


def _open_data(cfg: DictConfig, begun: Checkpoint | None) -> ReIDDataModule:
    """Open the benchmark and say what it holds; a run that was begun goes on with the same."""
    from ccreid import report
    from ccreid.build import build_datamodule, method_class
    from ccreid.tables.results import dataset_table

    data = build_datamodule(cfg, requires=method_class(cfg).needs(cfg.method))
    if begun is not None:
        begun.require_same_data(data.sizes, data.train_checksum)
    report.show(dataset_table(data))
    if cfg.data.check_files:
        report.check_files(data)
    report.show(
        f"recipe: {cfg.recipe_name}"
        if cfg.recipe_name
        else "no recipe for this method and benchmark: the settings are the method's own"
    )
    return data


def _evaluated(
    whole: Checkpoint, data: ReIDDataModule, evaluation: Evaluation, trainer: Trainer
) -> tuple[Method, Results]:
    """Rebuild a method that has all its epochs and evaluate it as training would have done."""
    from ccreid.callbacks.evaluation import evaluate_method, flat_metrics

    method = whole.build_method().to(trainer.strategy.root_device)
    results = evaluate_method(
        method, data.benchmark, data.test_transform, evaluation.settings, read=data.read
    )
    for logger in trainer.loggers:
        logger.log_metrics(flat_metrics(results, data.benchmark.name))
        logger.save()
    return method, results


@hydra.main(config_path=str(CONF_DIR), config_name="train", version_base="1.3")
def main(cfg: DictConfig) -> float | None:
    """Hydra's entry; a sampler such as Optuna maximises what it returns."""
    return guarded(train, cfg)


if __name__ == "__main__":
    run_verb(main, "train")
