"""Check a benchmark before training on it: `python -m ccreid.verify data=prcc`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR, compose_benchmarks, list_benchmarks
from ccreid.errors import ConfigError, require

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.progress import Progress, TaskID

    from ccreid.data.benchmarks.base import Benchmark


def verify(cfg: DictConfig) -> bool:
    """Check the benchmarks and show what was found; return whether training on them is right.

    `benchmarks=all` means every benchmark with published counts; of these, one that is not found
    is told but is not wrong, as long as another one is found beside the shipped one.

    Raises:
        CCReIDError: an unknown benchmark or impossible setting, or a manifest cannot be written.
    """
    from rich.console import Console
    from rich.progress import Progress

    from ccreid import report
    from ccreid.build import instantiate
    from ccreid.data.verification.checks import verify_benchmark
    from ccreid.tables.verification import verification_report

    require(isinstance(cfg.workers, int) and cfg.workers >= 0, "workers", cfg.workers, "at least 0")
    nodes = _data_nodes(cfg)
    kinds = {name: _kind(node) for name, node in nodes.items()}
    every = cfg.benchmarks == "all"
    results = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name, kind in kinds.items():
            bar = progress.add_task(f"Reading {name}", total=None)
            results.append(
                verify_benchmark(
                    name,
                    kind,
                    partial(instantiate, nodes[name].benchmark),
                    Path(cfg.manifest) if cfg.images else None,
                    cfg.workers,
                    partial(_move, progress, bar),
                )
            )
            progress.remove_task(bar)
    fine = {"right", "not found"} if every else {"right"}
    on_disk = {name: node.root for name, node in nodes.items() if "root" in node}
    nothing = ""
    if every and all(r.status == "not found" for r in results if r.name in on_disk):
        nothing = _nothing_found(next(iter(on_disk.values())))
    right = all(result.status in fine for result in results) and not nothing
    if cfg.json:
        faults = [nothing] if nothing else []
        told = [result.as_dict() for result in results]
        found = {"right": right, "faults": faults, "benchmarks": told}
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        report.show(verification_report(results, every, nothing))
    return right


def _data_nodes(cfg: DictConfig) -> dict[str, DictConfig]:
    """Return the config node of every benchmark to check."""
    if cfg.benchmarks is None:
        if cfg.get("data") is None:
            offered = ", ".join(list_benchmarks())
            raise ConfigError(
                f"Say which: data=<one of: {offered}>, benchmarks=[several] or benchmarks=all"
            )
        return {_kind(cfg.data).name: cfg.data}
    return compose_benchmarks(cfg)


def _kind(node: DictConfig) -> type[Benchmark]:
    from ccreid.settings.targets import class_of

    kind: type[Benchmark] = class_of(node.benchmark)
    return kind


def _nothing_found(root: str) -> str:
    return (
        f"Nothing was found in {Path(root).expanduser().absolute()}. Say where the benchmarks lie: "
        "root=<folder>, or once for all export CCREID_DATA=<folder>."
    )


def _move(progress: Progress, bar: TaskID, done: int, total: int) -> None:
    progress.update(bar, completed=done, total=total)


def _check(cfg: DictConfig) -> None:
    if not verify(cfg):
        sys.exit(1)


@hydra.main(config_path=str(CONF_DIR), config_name="verify", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(_check, cfg)


if __name__ == "__main__":
    sys.argv = ["json=true" if argument == "--json" else argument for argument in sys.argv]
    run_verb(main, "verify")
