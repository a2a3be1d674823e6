"""The jobs of a sweep: the folder of each, which are done, and how one is run and written down."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf, open_dict

from ccreid.errors import CCReIDError, CheckpointError, ConfigError
from ccreid.writing import write_whole

CONFIG, LAST_CHECKPOINT = "config.yaml", "checkpoints/last.ckpt"
SETTINGS, FAILURE, METRICS = "settings.json", "failed.txt", "metrics.json"
"""What a job leaves in its folder: what it was made with, why it failed, what came out."""
AUTO = "auto"
"""The value of `resume` for a run that goes on from its own last checkpoint, if it has one."""

log = logging.getLogger(__name__)


def clean_name(text: str, limit: int = 100) -> str:
    """Return `text` as a file name that needs no quotes anywhere; what is lost becomes a hash."""
    cleaned = re.sub(r"[^A-Za-z0-9._+-]+", "-", text)[:limit]
    return cleaned if cleaned == text else f"{cleaned}-{short_hash(text)}"


def short_hash(text: str) -> str:
    """Return eight characters that tell texts apart."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def short_key(key: str, keys: Sequence[str]) -> str:
    """Return the last word of a key, or the whole key where another of `keys` ends alike."""
    word = _last_word(key)
    alike = sum(_last_word(other) == word for other in keys)
    return word if alike <= 1 else key.replace("/", ".")


def job_folder(overrides: Sequence[str], fixed: Sequence[str] = (), seed: int | None = None) -> str:
    """Name a job's folder after what is swept, whatever the order of the command line.

    In the config it is the resolver `${ccreid.job_folder:<overrides>,<keys>,<seed>}`.

    Args:
        overrides: of the job, as `["method=fire2", "method.epsilon=0.1", "seed=2"]`.
        fixed: keys that are the same in all jobs and stay out of the name.
        seed: always part of the name, so that further seeds find the first one's folder.

    Returns:
        For instance `epsilon-0.1_seed-2`.
    """
    pairs = [text.lstrip("+").partition("=")[::2] for text in overrides]
    swept = sorted((key, value) for key, value in pairs if key not in {*fixed, "seed"})
    keys = [key for key, _ in swept]
    parts = [f"{short_key(key, keys)}-{value}" for key, value in swept]
    parts += [] if seed is None else [f"seed-{seed}"]
    return clean_name("_".join(parts) or "job")


OmegaConf.register_new_resolver("ccreid.job_folder", job_folder, replace=True)


def job_settings(cfg: DictConfig) -> str:
    """Return as JSON whatever decides a job's result: not its folder, its loggers or a cache."""
    settings = cfg.copy()
    with open_dict(settings):
        settings.pop("hydra", None)
        settings.pop("logger", None)
        if settings.get("resume") == AUTO:  # a job goes on by itself, whether told so or not
            settings.resume = None
        if "output_dir" in settings:
            settings.output_dir = "."
        for name in ("cache", "cache_folder", "check_files"):
            settings.get("data", {}).pop(name, None)
    return json.dumps(OmegaConf.to_container(settings, resolve=True), indent=1, sort_keys=True)


def job_status(folder: Path) -> str:
    """Return done, failed, running, unfinished (it died, or was stopped) or missing."""
    if not folder.is_dir():
        return "missing"
    with hold(folder, patience=0) as free:
        if not free:
            return "running"
    if (folder / FAILURE).exists():
        return "failed"
    if (folder / METRICS).exists():
        return "done"
    return "unfinished" if (folder / SETTINGS).exists() else "missing"


def job_failure(folder: Path) -> str:
    """Return the first line of why a job failed; empty if it did not."""
    path = folder / FAILURE
    return path.read_text().split("\n", 1)[0] if path.exists() else ""


@contextmanager
def hold(folder: Path, patience: float = 3.0) -> Iterator[bool]:
    """Hold a job's folder against other processes; False where one of them holds it.

    The hold ends with the process, however that ends. A `patience` above 0 outlasts a look at the
    folder by `job_status`.
    """
    lock = FileLock(folder / ".lock", timeout=patience)
    try:
        lock.acquire()
        free = True
    except Timeout:
        free = False
    except (NotImplementedError, OSError):
        free = True  # a file system without locks, or one that is only read
    try:
        yield free
    finally:
        lock.release()


def require_same_settings(folder: Path, settings: str) -> None:
    """Raise a ConfigError if a folder holds results that were made with other settings."""
    checkpoint = folder / LAST_CHECKPOINT
    if not (folder / METRICS).exists() and not checkpoint.exists():
        return
    remedy = "Take another folder (hydra.sweep.dir=<folder>), or remove this one."
    try:
        earlier = (folder / SETTINGS).read_text()
    except FileNotFoundError:
        raise ConfigError(f"{folder} holds a run that no sweep has made. {remedy}") from None
    if earlier == settings:
        return
    try:
        changed = changed_settings(json.loads(earlier), json.loads(settings))
    except json.JSONDecodeError:
        changed = f"its {SETTINGS} cannot be read"
    raise ConfigError(f"{folder} was made with other settings ({changed}). {remedy}")


def changed_settings(old: Any, new: Any) -> str:
    """Return the settings that differ as `key: old → new`, the first four; empty if none do."""
    before, after = flat(old), flat(new)
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    shown = ", ".join(
        f"{key}: {before.get(key, 'absent')} → {after.get(key, 'absent')}" for key in keys[:4]
    )
    return f"{shown} and {len(keys) - 4} more" if len(keys) > 4 else shown


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of nested settings under their keys as a command line writes them."""
    if not isinstance(node, dict):
        return {prefix: node}
    return {
        k: v for name in node for k, v in flat(node[name], f"{prefix}.{name}".strip(".")).items()
    }


def goes_on_in(folder: Path, resume: str | None) -> bool:
    """Return whether the run that is gone on with is the one whose folder this is."""
    if resume in (None, "null", AUTO):
        return resume == AUTO
    place = Path(resume).expanduser().resolve().parent
    return place in (folder.resolve(), (folder / LAST_CHECKPOINT).resolve().parent)


def require_usable(folder: Path, resumed: bool = False) -> None:
    """Make a run's folder and make sure that nothing in it would be lost.

    Args:
        folder: of the run.
        resumed: the run that it holds is gone on with.

    Raises:
        ConfigError: the folder holds another run, or cannot be written.
    """
    if not resumed and any((folder / name).exists() for name in (METRICS, LAST_CHECKPOINT)):
        raise ConfigError(
            f"{folder} already holds a run, which would be overwritten. Choose another folder "
            "(hydra.run.dir=<folder>), or go on from its last checkpoint (resume=auto)."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(
            f"Cannot write into {folder.absolute()}: {error}. "
            "Choose another folder: hydra.run.dir=<folder>"
        ) from None


def run_job(
    task: Callable[[DictConfig], Any],
    cfg: DictConfig,
    folder: Path,
    show: Callable[[CCReIDError], None],
) -> float:
    """Run one job of a sweep unless it is done; a failure is written down and not raised.

    A job that was stopped goes on from its last checkpoint. KeyboardInterrupt and SystemExit stop
    the whole sweep.

    Args:
        task: the verb's function.
        cfg: the job's config.
        folder: the job's folder; Hydra has made it.
        show: puts an error on the terminal.

    Returns:
        What a sampler such as Optuna maximises, see `objective`; NaN for a failed job.
    """
    with hold(folder) as free:
        if not free:
            log.info("%s runs in another process and is left to it", folder.name)
            return math.nan
        try:
            (folder / FAILURE).unlink(missing_ok=True)
            _run_or_go_on(task, cfg, folder)
            return objective(json.loads((folder / METRICS).read_text()), cfg.get("objective"))
        except Exception as error:  # noqa: BLE001 - whatever befalls one job, the others go on
            text = "".join(traceback.format_exception(error))
            with contextlib.suppress(OSError):  # a full disk must not end the jobs to come
                (folder / FAILURE).write_text(f"{type(error).__name__}: {error}\n\n{text}")
            if isinstance(error, CCReIDError):
                show(error)
            else:
                log.error("%s failed: %s", folder.name, job_failure(folder))
            return math.nan


def _run_or_go_on(task: Callable[[DictConfig], Any], cfg: DictConfig, folder: Path) -> None:
    settings = job_settings(cfg)
    require_same_settings(folder, settings)
    if (folder / METRICS).exists():
        log.info("%s is done and not run again", folder.name)
        return
    checkpoint = folder / LAST_CHECKPOINT
    if checkpoint.exists() and "resume" in cfg:
        log.info("%s goes on from %s", folder.name, checkpoint)
        resumed = cfg.copy()
        resumed.resume = str(checkpoint)
        try:
            task(resumed)
        except CheckpointError as error:  # damaged, or of another version
            log.warning("%s begins anew: %s", folder.name, error)
            checkpoint.replace(checkpoint.with_name(f"{checkpoint.name}.unusable"))
        else:
            return
    with write_whole(folder / SETTINGS) as file:
        file.write(settings.encode())
    task(cfg)


def objective(metrics: Mapping[str, float], name: str | None = None) -> float:
    """Return the metric a sampler maximises: `name`, or else mAP, of the protocol `cc` if any.

    Raises:
        ConfigError: there is no such metric.
    """
    known = sorted(key for key in metrics if key.endswith("/mAP"))
    if name is None:
        if not known:
            return math.nan
        name = next((key for key in known if "/cc/" in key), known[0])
    if name not in metrics:
        raise ConfigError(f"There is no metric '{name}'; objective could be: {', '.join(known)}")
    return float(metrics[name])


def _last_word(key: str) -> str:
    return re.split(r"[./@]", key)[-1]
