"""Ask which factor hurts a checkpoint: `python -m ccreid.diagnose checkpoint=<file>`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR
from ccreid.errors import ConfigError
from ccreid.writing import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from omegaconf import DictConfig
    from torch import Tensor

    from ccreid.checkpoints.checkpoint import Checkpoint
    from ccreid.data.factors import ControlledImages
    from ccreid.retrieval.factors import FactorSimilarities


def diagnose(cfg: DictConfig) -> dict[str, float]:
    """Measure what a change of clothes, camera, yaw or pose alone costs the feature.

    Every checkpoint is given the images of `controlled_images` under the evaluation settings of
    its own run, where `cfg` leaves them null; what is measured says `FactorSimilarities`.

    Returns:
        Flat metrics: `diagnose/<checkpoint>/<change>/{kept,ranked_right,cosine}` with the ends of
        their intervals (`_low`, `_high`), and for a factor `cosine_<level>_<level>` of every two
        levels; `person/cosine` and `person+camera/cosine` are those with other people.

    Raises:
        CCReIDError: a checkpoint is missing, or the images are.
    """
    from omegaconf import OmegaConf

    from ccreid import report
    from ccreid.checkpoints.checkpoint import load_checkpoint
    from ccreid.data.factors import LEVELS, controlled_images
    from ccreid.retrieval.factors import factor_similarities
    from ccreid.tables.diagnosis import diagnosis_report
    from ccreid.viz.factors import draw_factors

    if OmegaConf.is_missing(cfg, "checkpoint") or not cfg.checkpoint:
        raise ConfigError(
            "Say which checkpoint: checkpoint=<run folder>/checkpoints/last.ckpt, or several: "
            "checkpoint=[<first>,<second>]"
        )
    files = [cfg.checkpoint] if isinstance(cfg.checkpoint, str) else list(cfg.checkpoint)
    checkpoints = name_checkpoints([load_checkpoint(file, cfg.allow_targets) for file in files])
    output_dir = report.prepare_run(cfg)
    images = controlled_images()
    report.write_config(cfg, output_dir)
    results = {
        name: factor_similarities(_features(checkpoint, images, cfg), images.levels, images.others)
        for name, checkpoint in checkpoints.items()
    }
    report.show(diagnosis_report(results, LEVELS))
    title = "What the feature loses when one factor of the image changes"
    figure = draw_factors(results, title)
    with write_whole(output_dir / "factors.png") as file:
        figure.savefig(file, dpi=150, format="png")
    _write_people(results, images, output_dir / "people.npz")
    metrics = _flat(results)
    report.write_metrics({**metrics, **report.origin(cfg)}, output_dir)
    report.show(f"Everything of this diagnosis is in {output_dir}")
    return metrics


def name_checkpoints(checkpoints: Sequence[Checkpoint]) -> dict[str, Checkpoint]:
    """Return checkpoints by name: the method's, or as much of the run's folder as tells them apart.

    Raises:
        ConfigError: a checkpoint is given twice.
    """
    methods = [each.config.method._target_.split(".")[-2] for each in checkpoints]
    paths = [each.path.absolute() for each in checkpoints]
    runs = [path.parent.parent if path.parent.name == "checkpoints" else path for path in paths]
    depth = max(len(path.parts) for path in runs)
    folders = (["/".join(path.parts[-n:]) for path in runs] for n in range(1, depth + 1))
    whole = ([str(path) for path in paths],)  # two checkpoints of one run
    for names in (methods, *folders, *whole):
        if len(set(names)) == len(names):
            return dict(zip(names, checkpoints, strict=True))
    raise ConfigError(f"checkpoint={[str(path) for path in paths]}: give each checkpoint once.")


def _features(checkpoint: Checkpoint, images: ControlledImages, cfg: DictConfig) -> Tensor:
    """Return the features of all images as the checkpoint's own evaluation computes them."""
    from ccreid.build import choose_device, instantiate
    from ccreid.callbacks.evaluation import EvaluationSettings
    from ccreid.checkpoints.checkpoint import filled_in
    from ccreid.features import evaluating, extract_features

    settings = EvaluationSettings(**filled_in(cfg.evaluation, checkpoint.config.evaluation))
    method = checkpoint.build_method().to(choose_device(cfg.device))
    with evaluating(method):
        return extract_features(  # without cameras: to any method they are unknown
            method.embed,
            images.samples,
            instantiate(checkpoint.config.data.test_transform),
            device=method.device,
            mirror=settings.mirror,
            precision=settings.precision,
            batch_size=settings.batch_size,
            workers=settings.workers,
        )


def _flat(results: Mapping[str, FactorSimilarities]) -> dict[str, float]:
    metrics = {}
    for name, similarities in results.items():
        intervals = {
            "person/cosine": similarities.another_person("clothes"),
            "person+camera/cosine": similarities.another_person("clothes+camera"),
        }
        for change in similarities.changes:
            intervals[f"{change}/kept"] = similarities.kept(change)
            intervals[f"{change}/ranked_right"] = similarities.ranked_right(change)
            intervals[f"{change}/cosine"] = similarities.cosine(change)
        for key, (mean, low, high) in intervals.items():
            metrics[f"diagnose/{name}/{key}"] = mean
            metrics[f"diagnose/{name}/{key}_low"] = low
            metrics[f"diagnose/{name}/{key}_high"] = high
        for factor in similarities.between:
            for (k, m), cosine in similarities.pairs(factor).items():
                metrics[f"diagnose/{name}/{factor}/cosine_{k}_{m}"] = cosine
    return metrics


def _write_people(
    results: Mapping[str, FactorSimilarities], images: ControlledImages, path: Path
) -> None:
    """Write what each person adds, from which paired differences can be computed.

    The file is a NumPy archive of arrays [P]: `pid`, and under `<checkpoint>/<change>/` the
    `cosine` under the change, with the image `unchanged`, with `others`, and `ranked_right`.
    """
    import numpy as np

    arrays: dict[str, Any] = {"pid": images.pids}
    for name, similarities in results.items():
        for change in similarities.changes:
            for what, values in (
                ("cosine", similarities.cosines(change)),
                ("unchanged", similarities.unchanged(change)),
                ("others", similarities.others(change)),
                ("ranked_right", similarities.right(change)),
            ):
                arrays[f"{name}/{change}/{what}"] = values
    with write_whole(path) as file:
        np.savez_compressed(file, **arrays)


@hydra.main(config_path=str(CONF_DIR), config_name="diagnose", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(diagnose, cfg)


if __name__ == "__main__":
    run_verb(main, "diagnose")
