"""What a command line will do, found out before its run or a multirun's first job starts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccreid.errors import ConfigError
from ccreid.runs.jobs import (
    SETTINGS,
    clean_name,
    goes_on_in,
    job_failure,
    job_settings,
    job_status,
    require_same_settings,
    require_usable,
    short_hash,
    short_key,
)
from ccreid.writing import unwritable, write_whole

if TYPE_CHECKING:
    from omegaconf import DictConfig

PLAN = "sweep.json"
"""In the sweep's folder: what is swept, what is fixed, and the jobs of the latest command."""

Compose = Callable[[Sequence[str]], "DictConfig"]


@dataclass(frozen=True)
class Sweep:
    """A multirun that may start.

    Attributes:
        folder: holds a folder per job; the same for the same command, also with further values.
        swept: keys with several values.
        fixed: the other settings of the command line.
        jobs: the swept values by folder name; empty where a sampler chooses them as it goes.
        overrides: the command line for Hydra, which first composes without the groups that are
            swept: fixed settings in them are sweeps of one value.
        arguments: what Hydra is told beside it.
    """

    folder: Path
    swept: tuple[str, ...]
    fixed: tuple[str, ...]
    jobs: Mapping[str, Mapping[str, str]]
    overrides: tuple[str, ...]
    arguments: tuple[str, ...]

    def write_plan(self) -> None:
        """Make the sweep's folder and say in it what belongs there.

        Raises:
            ConfigError: the folder holds another sweep.
        """
        keys = [key for key in self.swept if key != "seed"]  # more seeds make no other sweep
        own = {"swept": keys, "fixed": list(self.fixed)}
        try:
            plan = json.loads((self.folder / PLAN).read_text())
        except FileNotFoundError:
            pass
        else:
            if {key: plan[key] for key in own} != own:
                raise ConfigError(
                    f"{self.folder} holds another sweep, of {', '.join(plan['swept'])} with "
                    f"{' '.join(plan['fixed'])}. Take another folder: hydra.sweep.dir=<folder>"
                )
        self.folder.mkdir(parents=True, exist_ok=True)
        refuse = partial(unwritable, setting="hydra.sweep.dir")
        with write_whole(self.folder / PLAN, refuse, shared=True) as file:
            file.write(f"{json.dumps({**own, 'jobs': self.jobs}, indent=2)}\n".encode())

    def problems(self) -> str:
        """Return a text about the jobs that are not done; empty if all are."""
        names = self.jobs or sorted(path.parent.name for path in self.folder.glob(f"*/{SETTINGS}"))
        status = {name: job_status(self.folder / name) for name in names}
        open_jobs = [name for name in names if status[name] not in ("done", "running")]
        if not open_jobs:
            return ""
        lines = [f"{len(open_jobs)} of {len(names)} jobs are not done:"]
        for name in open_jobs:
            lines.append(f"- {name}: {status[name]}. {job_failure(self.folder / name)}".rstrip())
        lines.append("The same command again runs only these.")
        if "failed" in status.values():
            lines.append(f"What failed is told in {self.folder}/<job>/failed.txt.")
        return "\n".join(lines)


def plan_command(overrides: Sequence[str], multirun: bool, compose: Compose) -> Sweep | DictConfig:
    """Look at a command line as Hydra's basic sweeper will.

    Args:
        overrides: as typed, without flags.
        multirun: whether `-m` was typed; a sweep file says so itself.
        compose: composes one job's config, with the node `hydra`.

    Returns:
        The sweep, or the config of the single run.

    Raises:
        ConfigError: a mistake in any job, a job that would start several processes, or a folder
            that holds results of other settings.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from hydra.types import RunMode

    parser = OverridesParser.create()
    try:
        typed = parser.parse_overrides(list(overrides))
    except HydraException:
        compose(overrides)  # its error names the culprit
        raise
    first = compose([_first_value(override) for override in typed])
    if not (multirun or first.hydra.mode == RunMode.MULTIRUN):
        if any(override.is_sweep_override() for override in typed):
            compose(overrides)  # its error says how to sweep
        return first
    options = [str(o.input_line) for o in typed if _is_launching(o.key_or_group)]
    tasks = [str(o.input_line) for o in typed if not _is_launching(o.key_or_group)]
    grid = [f"{key}={value}" for key, value in (first.hydra.sweeper.get("params") or {}).items()]
    parsed = {o.get_key_element(): o for o in parser.parse_overrides(grid + tasks)}
    swept = sorted(o.key_or_group for o in parsed.values() if o.is_sweep_override())
    others = [o for o in parsed.values() if not o.is_sweep_override()]
    told = tuple(_as_sweep(o) if _is_in(o, swept) else str(o.input_line) for o in typed)
    fixed = sorted(str(o.input_line) for o in others if o.key_or_group != "seed")
    quoted = ",".join(["launcher", *sorted(o.key_or_group for o in others)])
    arguments = [f"hydra.job.config.override_dirname.exclude_keys=[{quoted}]"]
    folder = Path(first.hydra.sweep.dir)
    if not any(option.startswith("hydra.sweep.dir=") for option in options):
        folder /= _sweep_name(swept, fixed, first.hydra.runtime.choices)
        arguments.append(f"hydra.sweep.dir={folder}")
    if "basic_sweeper" not in first.hydra.sweeper._target_:
        starts = [_first_value(override) for override in parsed.values()]
        _look_at([*starts, *options, *arguments], 0, compose)
        return Sweep(folder, tuple(swept), tuple(fixed), {}, told, tuple(arguments))
    jobs: dict[str, Mapping[str, str]] = {}
    for number, job in enumerate(BasicSweeper.split_arguments(list(parsed.values()), None)[0]):
        name, settings = _look_at([*job, *options, *arguments], number, compose)
        typed_values = {k.lstrip("+"): v for k, _, v in (text.partition("=") for text in job)}
        values = {key: value for key, value in typed_values.items() if key in swept}
        if "seed" in (decided := json.loads(settings)):
            values["seed"] = str(decided["seed"])
        if jobs.setdefault(name, values) != values:
            raise ConfigError(f"Two jobs would share the folder {name}: check hydra.sweep.subdir.")
        require_same_settings(folder / name, settings)
    return Sweep(folder, tuple(swept), tuple(fixed), jobs, told, tuple(arguments))


def require_usable_folder(cfg: DictConfig) -> Path:
    """Return the folder that Hydra will make for a single run, or refuse it; nothing is made here.

    Args:
        cfg: the run's config, with the node `hydra`.

    Raises:
        ConfigError: the folder holds another run or cannot be made or written.
    """
    from omegaconf.errors import OmegaConfBaseException

    try:
        with _as_hydras(cfg):
            folder = Path(str(cfg.hydra.run.dir))
    except OmegaConfBaseException as error:
        raise ConfigError(f"hydra.run.dir cannot be told: {error}") from None
    if os.path.lexists(folder):
        require_usable(folder, resumed=goes_on_in(folder, _resumed(cfg, folder)))
    else:
        above = next(path for path in folder.absolute().parents if os.path.lexists(path))
        require_usable(above, resumed=True)  # whatever runs it holds, the new one is beside them
    return folder


def _resumed(cfg: DictConfig, folder: Path) -> str | None:
    """Return `resume` of a run in this folder; None for what is no path, which the run refuses."""
    from omegaconf import flag_override
    from omegaconf.errors import OmegaConfBaseException

    with flag_override(cfg.hydra, ["readonly", "struct"], [False, False]):
        cfg.hydra.runtime.output_dir = str(folder.absolute())  # as Hydra will
    with suppress(OmegaConfBaseException), _as_hydras(cfg):
        return value if isinstance(value := cfg.get("resume"), str) else None
    return None


def require_one_process(cfg: DictConfig) -> None:
    """Raise a ConfigError if a job of a sweep would start several processes.

    Lightning starts its further processes with the command line of the first; that of a multirun
    would make each of them a sweep of its own, and all would wait for each other for ever.
    """
    trainer: Any = cfg.get("trainer")
    if trainer is None:
        return
    devices, nodes = trainer.get("devices", 1), trainer.get("num_nodes", 1)
    one = str(devices) == "1" or (not isinstance(devices, str | int) and len(devices) == 1)
    one = one or (str(devices) == "auto" and trainer.get("accelerator") == "cpu")
    if one and nodes == 1 and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return
    raise ConfigError(
        f"The jobs of a sweep run in one process each, but trainer.devices={devices} with "
        f"trainer.num_nodes={nodes} may start several, and the sweep would hang. Ways out:\n"
        "- one device a job: trainer.devices=1. To use every GPU start the same command once for "
        "each, with its own CUDA_VISIBLE_DEVICES: they share the jobs among them;\n"
        "- single runs in a loop of the shell: for e in 0.05 0.1; do python -m ccreid.train "
        "method.epsilon=$e ...; done\n"
        "- torchrun for each of these single runs."
    )


def _look_at(overrides: Sequence[str], number: int, compose: Compose) -> tuple[str, str]:
    """Compose a job's config; return the name of its folder and its settings."""
    from omegaconf.errors import OmegaConfBaseException

    cfg = compose([*overrides, f"hydra.job.num={number}", f"hydra.job.id={number}"])
    require_one_process(cfg)
    try:
        with _as_hydras(cfg):
            return str(cfg.hydra.sweep.subdir), job_settings(cfg)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{' '.join(overrides)}: {error}") from None


@contextmanager
def _as_hydras(cfg: DictConfig) -> Iterator[None]:
    """Let `${hydra:...}` refer to the node `hydra` of a config that does not run yet."""
    from hydra.core.hydra_config import HydraConfig

    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(cfg)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _sweep_name(swept: Sequence[str], fixed: Sequence[str], choices: Mapping[str, Any]) -> str:
    """Name a sweep after what is swept; more values of the same keys make no other sweep."""
    keys = [key for key in swept if key != "seed"]
    picked = [choices.get(group) for group in ("method", "data") if group not in swept]
    words = [str(choice) for choice in picked if choice is not None]
    words += [short_key(key, keys) for key in keys] or ["seeds"]
    return f"{clean_name('_'.join(words))}_{short_hash(json.dumps([keys, fixed]))}"


def _is_launching(key: str) -> bool:
    """Whether a key says how jobs are run, and nothing of what they compute."""
    return key == "launcher" or key.startswith(("hydra.", "hydra/"))


def _is_in(override: Any, swept: Sequence[str]) -> bool:
    """Whether a single value is given to a setting inside a group that is swept."""
    inside = any(override.key_or_group.startswith(f"{group}.") for group in swept)
    return inside and not override.is_sweep_override() and not override.is_delete()


def _as_sweep(override: Any) -> str:
    return f"{override.get_key_element()}=choice({override.get_value_element_as_str()})"


def _first_value(override: Any) -> str:
    """Return the override with the first of its values."""
    if not override.is_sweep_override():
        return str(override.input_line)
    if override.is_discrete_sweep():
        value = next(override.sweep_string_iterator())
    else:
        value = override.value().start
    return f"{override.get_key_element()}={value}"
