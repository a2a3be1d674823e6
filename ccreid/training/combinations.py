"""Combinations of settings that cannot be, refused before any data is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from omegaconf import DictConfig, ListConfig

from ccreid.build import method_class, require_even_shares
from ccreid.data.benchmarks.base import Benchmark
from ccreid.errors import ConfigError, require
from ccreid.methods.base import Method
from ccreid.settings.kinds import require_arguments, require_sound
from ccreid.settings.targets import class_of

_NAMES = {
    "clothes": "clothes labels of the train images",
    "cameras": "the cameras of the train images",
    "parsing": "masks of the train images",
    "captions": "captions of the train images",
}


def require_possible(cfg: DictConfig) -> None:
    """Raise a ConfigError for settings of a training that contradict each other.

    What only the listing of the images shows (whether a list of your own labels clothes, how many
    people there are) is looked at when the data is read.

    Args:
        cfg: composed from `conf/train.yaml`.
    """
    require_sound(cfg)
    for node in (cfg.method, cfg.data.benchmark):
        require_arguments(node)
    strategy = str(cfg.trainer.get("strategy"))
    fork = any(word in strategy for word in ("spawn", "fork", "notebook"))
    wanted = "ddp or auto: processes that start the same command, which a stopped run goes on from"
    require(not fork, "trainer.strategy", strategy, wanted)
    for name in ("throughput", "evaluation"):
        require(name in cfg.callbacks, f"callbacks.{name}", None, "there: a run needs it")
    kind: type[Benchmark] = class_of(cfg.data.benchmark)
    lacking = _lacking(cfg, kind)
    _require_side_information(cfg, method_class(cfg), kind.name, lacking)
    _require_outfits(cfg, kind.name, lacking)
    _require_reachable_phases(cfg)
    require_even_shares(cfg, _known_devices(cfg.trainer))


def _lacking(cfg: DictConfig, kind: type[Benchmark]) -> dict[str, str]:
    """Return what the run's data lacks, and how to get it; what the user brings is there."""
    lacking = dict(kind.lacks(cfg.data.benchmark))
    if cfg.data.parsing is not None and cfg.data.parsing.root is not None:
        lacking.pop("parsing", None)
    if cfg.data.captions is not None and cfg.data.captions.layout != "benchmark":
        lacking.pop("captions", None)
    return lacking


def _require_side_information(
    cfg: DictConfig, method: type[Method], data: str, lacking: Mapping[str, str]
) -> None:
    for need in sorted(method.needs(cfg.method) & lacking.keys()):
        remedies = [lacking[need], method.does_without.get(need, "")]
        raise ConfigError(
            f"{method.__name__} with these settings needs {_NAMES[need]}, and {data} has none. "
            f"{' '.join(filter(None, remedies)) or 'Choose another benchmark, or method.'}"
        )


def _require_outfits(cfg: DictConfig, data: str, lacking: Mapping[str, str]) -> None:
    if cfg.data.sampler == "cross_clothes" and "clothes" in lacking:
        raise ConfigError(
            f"data.sampler=cross_clothes spreads a batch over outfits, and {data} labels none. Set "
            f"data.sampler=pk. {lacking['clothes']}".strip()
        )


def _require_reachable_phases(cfg: DictConfig) -> None:
    """Refuse a phase that would begin after the last epoch; one right after it is switched off."""
    last = cfg.trainer.max_epochs
    for name, epoch in _start_epochs(cfg.method, "method"):
        if isinstance(epoch, int) and isinstance(last, int) and last >= 1:
            wanted = f"at most trainer.max_epochs={last}: it would never be reached"
            require(epoch <= last, name, epoch, wanted)


def _start_epochs(node: DictConfig, place: str) -> Iterator[tuple[str, object]]:
    for key, value in node.items():
        if key == "start_epoch":
            yield f"{place}.start_epoch", value
        elif isinstance(value, DictConfig):
            yield from _start_epochs(value, f"{place}.{key!s}")


def _known_devices(trainer: DictConfig) -> int:
    """Return how many processes a run has where the config says it; 1 where the machine decides."""
    devices, nodes = trainer.get("devices"), trainer.get("num_nodes", 1)
    number = len(devices) if isinstance(devices, ListConfig) else devices
    known = isinstance(number, int) and isinstance(nodes, int) and number > 0 and nodes > 0
    return number * nodes if known else 1
