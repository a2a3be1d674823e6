"""A run's folder, made ready and checked; its config, its metrics and what it says on the way."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console, RenderableType
from rich.progress import Progress

import ccreid
from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.sample import ids
from ccreid.data.whole_files import require_whole_files
from ccreid.errors import ConfigError
from ccreid.retrieval import RepeatedResults, RetrievalResults
from ccreid.runs.jobs import CONFIG, LAST_CHECKPOINT, METRICS, goes_on_in, require_usable
from ccreid.runs.processes import process_rank
from ccreid.runs.stopping import Stopped
from ccreid.writing import remove_parts, write_whole

console = Console()

_PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "timm",
    "numpy",
    "scikit-learn",
    "faiss-cpu",
    "faiss-gpu-cu12",
)


def quiet_libraries() -> None:
    """Keep Lightning's banners and advice off the terminal; its warnings that matter stay."""
    for name in (
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
        "faiss.loader",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        r"Experiment logs directory .* exists and is not empty",  # the run's folder holds more
        r".*isinstance\(treespec, LeafSpec\)",
        r"The number of training batches .* is smaller than the logging interval",
        r"The '\w+' does not have many workers",
        r"Checkpoint directory .* exists and is not empty",
        r"The dirpath has changed from",  # a resumed run has a folder of its own
    ):
        warnings.filterwarnings("ignore", message)


def show(content: RenderableType) -> None:
    """Put a table or a sentence on the terminal, once however many processes there are."""
    if process_rank() == 0:
        console.print(content)


def prepare_run(cfg: DictConfig) -> Path:
    """Make sure that the run's folder can be written and holds nothing that would be lost.

    What a run that was killed had begun to write there is removed.

    Raises:
        ConfigError: the folder already holds a run, or cannot be written.
    """
    quiet_libraries()
    output_dir = Path(cfg.output_dir)
    if process_rank() != 0:
        return output_dir
    require_usable(output_dir, resumed=goes_on_in(output_dir, cfg.get("resume")))
    for folder in (output_dir, (output_dir / LAST_CHECKPOINT).parent):
        remove_parts(folder)
    return output_dir


def check_files(data: ReIDDataModule) -> None:
    """Look at every file that training and its evaluation will read, with a bar; once, on rank 0.

    Raises:
        DataError: some are missing or cut short.
    """
    if process_rank() != 0:
        return
    benchmark = data.benchmark
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("look at all files", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, advance=done, total=total)

        require_whole_files((*data.train, *benchmark.query, *benchmark.gallery), advance)


@contextmanager
def stoppable(output_dir: Path) -> Iterator[None]:
    """Say what is kept, and how to go on, when a signal ends the block."""
    try:
        yield
    except Stopped as stop:
        if (output_dir / LAST_CHECKPOINT).exists():
            kept = "The last whole epoch is kept. The same command goes on after it with"
        else:
            kept = "No epoch was whole yet. The same command begins again, and may be stopped, with"
        show(f"Stopped by {stop}. {kept} hydra.run.dir={output_dir} resume=auto")
        raise


def require_unfinished(output_dir: Path, checkpoint: Path) -> None:
    """Raise a ConfigError if a run has all its epochs and its metrics: nothing is left to do."""
    if (output_dir / METRICS).exists():
        raise ConfigError(
            f"The run of {checkpoint} is complete. Evaluate it again with python -m "
            f"ccreid.evaluate checkpoint={checkpoint}, or train on: trainer.max_epochs=<more>"
        )


def write_config(cfg: DictConfig, output_dir: Path, keep_log: bool = False) -> None:
    """Write the resolved config.

    Args:
        cfg: of the run.
        output_dir: the run's folder.
        keep_log: rename the log of the epochs before, which the logger would begin anew, and the
            metrics of a run that is trained on, which would say that it is finished.
    """
    if process_rank() != 0:
        return
    with write_whole(output_dir / CONFIG) as file:
        file.write(OmegaConf.to_yaml(cfg, resolve=True).encode())
    for kept in (output_dir / "metrics.csv", output_dir / METRICS) if keep_log else ():
        if kept.exists():
            names = (output_dir / f"metrics.{number}{kept.suffix}" for number in count())
            kept.rename(next(name for name in names if not name.exists()))


def origin(cfg: DictConfig) -> dict[str, int | str]:
    """Return what a number needs to be believed: seed, commit, versions of what computed it."""
    facts: dict[str, int | str] = {"commit": _commit(), "versions/ccreid": ccreid.__version__}
    if "seed" in cfg:
        facts["seed"] = cfg.seed
    for package in _PACKAGES:
        try:
            facts[f"versions/{package}"] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return facts


def write_metrics(metrics: Mapping[str, float | int | str], output_dir: Path) -> None:
    """Write `metrics.json`, whose presence says that a run is finished."""
    with write_whole(output_dir / METRICS) as file:
        file.write(json.dumps(metrics, indent=2, sort_keys=True).encode() + b"\n")


def write_queries(
    results: Mapping[str, RetrievalResults | RepeatedResults], benchmark: Benchmark, path: Path
) -> None:
    """Write what became of each query, from which intervals by person can be computed.

    The file is a NumPy archive of int64 and float64 arrays [Q] under `<protocol>/pid`,
    `<protocol>/average_precision` and `<protocol>/first_hit_rank`, of the first trial where there
    are several; NaN and -1 mark a query without a match.
    """
    arrays: dict[str, Any] = {}
    for protocol in benchmark.protocols:
        first = results[protocol.name].trials[0]
        pids = ids([benchmark.query[i] for i in protocol.select_query(benchmark.query)], "pid")
        for name, values in (
            ("pid", pids),
            ("average_precision", first.average_precision),
            ("first_hit_rank", first.first_hit_rank),
        ):
            arrays[f"{protocol.name}/{name}"] = values
    with write_whole(path) as file:
        np.savez_compressed(file, **arrays)


def _commit() -> str:
    """The checkout's commit, `+` appended when it has uncommitted changes; empty for a wheel."""
    git = ["git", "-C", str(Path(ccreid.__file__).parent)]
    try:  # a wheel may lie in the checkout of something else, which does not track it
        own = [*git, "ls-files", "--error-unmatch", "__init__.py"]
        subprocess.run(own, capture_output=True, check=True)
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head.stdout.strip() + ("+" if changed else "")
