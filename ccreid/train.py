"""Train a method and evaluate it: `python -m ccreid.train method=fire2 data=virtual`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from ccreid.config import CONF_DIR, guarded, run_verb

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
        build_datamodule,
        build_method,
        build_trainer,
        choose_precision,
        instantiate,
        method_class,
        require_monitored,
    )
    from ccreid.callbacks.evaluation import camera_counts, flat_cameras, flat_metrics
    from ccreid.callbacks.loggers import finishing
    from ccreid.checkpoints.checkpoint import provenance
    from ccreid.runs.jobs import AUTO, LAST_CHECKPOINT
    from ccreid.runs.processes import process_rank
    from ccreid.runs.stopping import StopSignals
    from ccreid.tables.results import camera_note, dataset_table, metrics_table
    from ccreid.training.combinations import require_possible
    from ccreid.training.fitting import fit
    from ccreid.training.resuming import find_checkpoint, finished_metrics, settings_of_all_ranks

    require_possible(cfg)
    cfg.precision = choose_precision(cfg.precision, cfg.trainer.accelerator)
    resume = find_checkpoint(cfg)
    if (done := finished_metrics(cfg, resume)) is not None:
        report.show(f"The run in {cfg.output_dir} is finished: nothing is left to do")
        folder = Path(cfg.output_dir)
        return TrainResult(folder, folder / LAST_CHECKPOINT, done)
    output_dir = report.prepare_run(cfg)
    data = build_datamodule(cfg, requires=method_class(cfg).needs(cfg.method))
    if resume is not None:
        resume.require_same_data(data.sizes, data.train_list)
    report.show(dataset_table(data))
    if cfg.data.check_files:
        report.check_files(data)
    report.show(
        f"recipe: {cfg.recipe_name}"
        if cfg.recipe_name
        else "no recipe for this method and benchmark: the settings are the method's own"
    )
    method = build_method(cfg, data.sizes)
    method.provenance = provenance(cfg, data.sizes, data.train_list)
    callbacks = instantiate(cfg.callbacks)
    require_monitored(callbacks.values(), data)
    trainer = build_trainer(cfg, callbacks.values())
    trained = resume is None or resume.epoch < cfg.trainer.max_epochs
    if resume is not None and not trained:
        report.require_unfinished(output_dir, resume.path)
        report.show(
            f"{resume.path} has its {cfg.trainer.max_epochs} epochs: it is only evaluated. With "
            "trainer.max_epochs=<more> it is trained on, if its schedule does not depend on them"
        )
    elif resume is not None:
        report.show(f"going on after epoch {resume.epoch} of {resume.path}")
    report.write_config(cfg, output_dir, keep_log=trained)
    evaluation = callbacks.evaluation
    signals = StopSignals(may_requeue=cfg.resume == AUTO and process_rank() == 0)
    with report.stoppable(output_dir), signals, finishing(trainer.loggers):
        if resume is None or trained:
            lines = settings_of_all_ranks(cfg, resume)
            fit(trainer, method, data, signals, None if resume is None else resume.path, lines)
            checkpoint = output_dir / LAST_CHECKPOINT
            results, costs = evaluation.results, callbacks.throughput.summary()
        else:  # the run was stopped between its last epoch and its evaluation
            checkpoint, costs = resume.path, {}
            method, results = _evaluated(resume, data, evaluation, trainer)
        cameras = camera_counts(method, data.benchmark)
        metrics: dict[str, float | int | str] = {
            **flat_metrics(results, data.benchmark.name),
            **flat_cameras(cameras, data.benchmark.name),
            **costs,
            **report.provenance(cfg),
        }
        if trainer.is_global_zero:
            report.show(metrics_table(results, data.benchmark.name))
            if cameras:
                report.show(camera_note(data.benchmark.name, **cameras))
            report.write_queries(results, data.benchmark, output_dir / "queries.npz")
            if "pictures" in callbacks:
                callbacks.pictures.draw(results, data, method, trainer.loggers, trainer.global_step)
            report.write_metrics(metrics, output_dir)  # with them a run is finished
            report.show(f"Everything of this run is in {output_dir}")
    return TrainResult(output_dir, checkpoint, metrics)


def _evaluated(
    resume: Checkpoint, data: ReIDDataModule, evaluation: Evaluation, trainer: Trainer
) -> tuple[Method, Results]:
    """Rebuild a method that has all its epochs and evaluate it as training would have done."""
    from ccreid.callbacks.evaluation import evaluate_method, flat_metrics

    method = resume.build_method().to(trainer.strategy.root_device)
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
