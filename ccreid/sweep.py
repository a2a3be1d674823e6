"""What came out of a sweep: one table of its jobs, and its metrics drawn against each value."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback

from ccreid.runs.jobs import METRICS, SETTINGS, clean_name, job_failure, job_status, short_key
from ccreid.runs.multirun import PLAN
from ccreid.writing import unwritable, write_whole

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

_unwritable = partial(unwritable, setting="hydra.sweep.dir")


@dataclass(frozen=True)
class Job:
    """One job of a sweep as its folder tells.

    Attributes:
        folder: its folder's name.
        status: done, failed, running, unfinished or missing.
        values: the swept values as typed, by key.
        seed: empty where it is not known yet.
        error: the first line of why it failed.
        method: the method's class name; empty where it is not known yet.
        metrics: the test metrics; empty unless done.
    """

    folder: str
    status: str
    values: Mapping[str, str]
    seed: str
    error: str = ""
    method: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


def summarise(sweep_dir: Path | str) -> Path:
    """Write `summary.csv` and the pictures of a sweep from what its jobs have left so far.

    Args:
        sweep_dir: the sweep's folder.

    Returns:
        The CSV file: a row per job with the swept values, the seed, the status and, once it is
        done, every test metric as a fraction. A picture for each swept key lies beside it, and for
        each value of the other keys where several are swept.
    """
    jobs = read_jobs(sweep_dir)
    draw_pictures(jobs, Path(sweep_dir))
    return write_table(jobs, Path(sweep_dir))


def read_jobs(sweep_dir: Path | str) -> list[Job]:
    """Return the planned jobs and those of earlier commands, by value and seed."""
    sweep_dir = Path(sweep_dir)
    plan = json.loads((sweep_dir / PLAN).read_text())
    names = {*plan["jobs"], *(path.parent.name for path in sweep_dir.glob(f"*/{SETTINGS}"))}
    keys = [key for key in plan["swept"] if key != "seed"]
    jobs = [_read_job(sweep_dir / name, keys, plan["jobs"].get(name, {})) for name in names]
    return sorted(
        jobs, key=lambda job: [_order(job.values.get(k, "")) for k in keys] + [_order(job.seed)]
    )


def write_table(jobs: Sequence[Job], sweep_dir: Path) -> Path:
    """Write `summary.csv`, whole or not at all; return its path."""
    keys = list(dict.fromkeys(key for job in jobs for key in job.values))
    metrics = sorted({name for job in jobs for name in job.metrics})
    path = sweep_dir / "summary.csv"
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow([*keys, "seed", "status", *metrics, "folder", "error"])
    for job in jobs:
        values = [job.values.get(key, "") for key in keys]
        numbers = [job.metrics.get(name, "") for name in metrics]
        table.writerow([*values, job.seed, job.status, *numbers, job.folder, job.error])
    with write_whole(path, _unwritable, shared=True) as file:
        file.write(text.getvalue().encode())
    return path


def draw_pictures(jobs: Iterable[Job], sweep_dir: Path) -> list[Path]:
    """Draw the metrics against each swept value; return the files, none without a comparison."""
    from ccreid.viz.curves import draw_curves
    from ccreid.viz.plots import caution
    from ccreid.viz.swept import notation

    done = [job for job in jobs if job.status == "done"]
    keys = list(dict.fromkeys(key for job in done for key in job.values))
    files = []
    for key in keys:
        others = [other for other in keys if other != key]
        for held, group in _grouped(done, others).items():
            words = [f"{short_key(k, keys)}-{v}" for k, v in zip(others, held, strict=True)]
            method = "/".join(sorted({job.method for job in group}))
            said = [f"{notation(k, method).name} = {v}" for k, v in zip(others, held, strict=True)]
            for benchmark, curves in _curves(group, key).items():
                if len({job.values[key] for job in group}) < 2:
                    continue
                title = ", ".join([f"{method} on {benchmark}", *said])
                figure = draw_curves(curves, notation(key, method), title, caution(benchmark))
                name = "_".join([benchmark, short_key(key, keys), *words])
                files.append(sweep_dir / f"{clean_name(name)}.png")
                with write_whole(files[-1], _unwritable, shared=True) as file:
                    figure.savefig(file, dpi=150, format="png")
    return files


class SweepSummary(Callback):
    """Hydra's callback that keeps the summary up to date: after each job, and at the end."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Write the table, so that a sweep that is stopped later has one."""
        folder = Path(config.hydra.sweep.dir)
        if (folder / PLAN).exists():  # absent in a single run
            write_table(read_jobs(folder), folder)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table and draw the pictures."""
        folder = Path(config.hydra.sweep.dir)
        if (folder / PLAN).exists():
            log.info("The sweep's results: %s", summarise(folder))


def _read_job(folder: Path, keys: Sequence[str], planned: Mapping[str, str]) -> Job:
    values, seed, method, status = dict(planned), planned.get("seed", ""), "", job_status(folder)
    if (folder / SETTINGS).exists():
        settings = json.loads((folder / SETTINGS).read_text())
        seed, method = str(settings.get("seed", "")), _method_name(settings)
    metrics = {}
    if not planned and (typed := folder / ".hydra" / "overrides.yaml").exists():
        from omegaconf import OmegaConf

        pairs = (str(text).lstrip("+").partition("=") for text in OmegaConf.load(typed))
        values = {key: value for key, _, value in pairs}
    if status == "done":
        content = json.loads((folder / METRICS).read_text())
        metrics = {name: value for name, value in content.items() if name.startswith("test/")}
    values = {key: values.get(key, "") for key in keys}
    return Job(folder.name, status, values, seed, job_failure(folder), method, metrics)


def _method_name(settings: Mapping[str, Any]) -> str:
    method = settings.get("method") or {}
    return str(method.get("_target_", "")).rsplit(".", 1)[-1]


def _grouped(jobs: Iterable[Job], keys: Sequence[str]) -> dict[tuple[str, ...], list[Job]]:
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.values[key] for key in keys), []).append(job)
    return groups


def _curves(jobs: Iterable[Job], key: str) -> dict[str, Any]:
    """Return benchmark → protocol → metric → value → the metric of every seed."""
    curves: dict[str, Any] = {}
    for job in jobs:
        for name, number in job.metrics.items():
            if found := re.fullmatch(r"test/([^/]+)/([^/]+)/(rank1|mAP)", name):
                points = curves.setdefault(found[1], {}).setdefault(found[2], {})
                points = points.setdefault(found[3], {})
                points.setdefault(_number(job.values[key]), []).append(number)
    return curves


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _order(text: str) -> tuple[bool, float, str]:
    value = _number(text)
    return (True, 0.0, value) if isinstance(value, str) else (False, value, "")
