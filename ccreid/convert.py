"""Use the authors' weights: `python -m ccreid.convert method=differ data=ltcc weights=<file>`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR
from ccreid.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from omegaconf import DictConfig

    from ccreid.models.converters import Converted

_AT_MOST = 20  # names of tensors in a message


def convert(cfg: DictConfig) -> Path:
    """Read an official checkpoint and write an exported file, which every verb takes; return it.

    The method's and the benchmark's recipe says all that weights do not: image size, statistics,
    evaluation. What such a file lacks (how many people and cameras) is read off its shapes.

    Raises:
        CCReIDError: there is no such file, it could run code, it does not fit the method, or the
            output is there.
    """
    from omegaconf import OmegaConf

    from ccreid import report
    from ccreid.build import build_method, choose_precision
    from ccreid.checkpoints.checkpoint import Checkpoint
    from ccreid.checkpoints.exporting import SETTINGS, export_checkpoint
    from ccreid.data.files import sha256
    from ccreid.models.weights import misfit, read_tensors

    converter = _converter(cfg)
    if OmegaConf.is_missing(cfg, "weights"):
        raise ConfigError("Say which file: weights=<the authors' checkpoint>")
    source = Path(cfg.weights).expanduser()
    if not source.is_file():
        raise ConfigError(f"weights={cfg.weights}: there is no file {source.absolute()}.")
    content = read_tensors(source)
    if not isinstance(content, dict):
        raise ConfigError(f"{source} holds no state dict but a {type(content).__name__}.")
    converted = _for_benchmark(converter(content), cfg)
    cfg.precision = choose_precision(cfg.precision, cfg.trainer.accelerator)
    for name, value in converted.settings.items():
        cfg.method[name] = value
    cfg.backbone.weights = "none"  # they are in the file
    nodes = {name: cfg[name] for name in SETTINGS}
    resolved = OmegaConf.create(
        {
            name: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for name, node in nodes.items()
        }
    )
    checkpoint = Checkpoint(source, resolved, converted.sizes, 0, converted.state)
    origin = {**report.origin(cfg), "converted_from": source.name, "sha256": sha256(source)}
    try:
        path = export_checkpoint(checkpoint, cfg.output, origin)
    except CheckpointError:
        own = build_method(resolved, converted.sizes).state_dict()
        raise ConfigError(
            f"{source} does not fit {cfg.method._target_} with backbone.name={cfg.backbone.name}. "
            f"Tensors under the names they have here: {misfit(converted.state, own, _AT_MOST)}. "
            "Change the settings to those it was trained with, or give another file."
        ) from None
    report.show(f"{path}\nUse it as any checkpoint: python -m ccreid.evaluate checkpoint={path}")
    return path


def _converter(cfg: DictConfig) -> Callable[[Mapping[str, Any]], Converted]:
    from ccreid.models.converters import from_differ, from_fire2

    known = {
        "ccreid.methods.differ.DIFFER": from_differ,
        "ccreid.methods.fire2.FIRe2": from_fire2,
    }
    target = cfg.method._target_
    if target not in known:
        raise ConfigError(
            f"There is no reader for official checkpoints of {target}; there are: "
            f"{', '.join(known)}. Say method=differ or method=fire2."
        )
    return known[target]


def _for_benchmark(converted: Converted, cfg: DictConfig) -> Converted:
    """Make weights that know one camera, the authors' of images without, fit images without."""
    from ccreid.data.benchmarks.base import Benchmark
    from ccreid.models.converters import without_cameras
    from ccreid.settings.targets import class_of

    kind: type[Benchmark] = class_of(cfg.data.benchmark)
    if "num_cameras" not in converted.sizes or "cameras" not in kind.lacks(cfg.data.benchmark):
        return converted
    state = without_cameras(converted.state, cfg.single_camera_factor)
    return converted._replace(state=state, sizes={**converted.sizes, "num_cameras": 0})


@hydra.main(config_path=str(CONF_DIR), config_name="convert", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(convert, cfg)


if __name__ == "__main__":
    run_verb(main, "convert")
