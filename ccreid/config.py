"""Where `conf/` is, what it offers, and how the verbs turn a command line into a run."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccreid.errors import CCReIDError, ConfigError, TrainingError, nearest

if TYPE_CHECKING:
    from omegaconf import DictConfig

_package = Path(__file__).parent
CONF_DIR = _package / "conf" if (_package / "conf").is_dir() else _package.parent / "conf"
"""Inside the package in a wheel, beside it in a checkout."""


def list_options(group: str) -> list[str]:
    """Return what `conf/<group>/` offers, sorted; names that begin with `_` are shared parts."""
    folder = CONF_DIR / group.lstrip("+")
    return sorted(p.stem for p in folder.glob("*.yaml") if p.stem[0] != "_")


def list_methods() -> list[str]:
    """Return the names that `method=` takes."""
    return list_options("method")


def list_benchmarks() -> list[str]:
    """Return the names that `data=` takes."""
    return list_options("data")


def compose(
    config_name: str, overrides: Sequence[str] = (), with_hydra: bool = False
) -> DictConfig:
    """Compose a config as the command line would.

    Args:
        config_name: `train` or `evaluate`.
        overrides: as typed, for instance `["method=fire2", "data=virtual", "seed=1"]`.
        with_hydra: keep Hydra's own node.

    Raises:
        ConfigError: a group, option or key does not exist; the message names the nearest.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        try:
            return hydra_compose(config_name, list(overrides), return_hydra_config=with_hydra)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            problem: Exception = error
        try:
            parsed = OverridesParser.create().parse_overrides(list(overrides))
            keys = [override.key_or_group for override in parsed]
            groups = [text for text, key in zip(overrides, keys, strict=True) if _is_group(key)]
            known = _keys(hydra_compose(config_name, groups))
        except (HydraException, OmegaConfBaseException, ValueError):
            raise ConfigError(_explain_group(problem, overrides, config_name)) from None
    raise ConfigError(_explain_key(problem, known))


def compose_benchmarks(cfg: DictConfig) -> dict[str, DictConfig]:
    """Return the `data` node of each of `cfg.benchmarks`, each composed on its own.

    Args:
        cfg: of a verb. `benchmarks`: names as `data=` takes them, one name, or `all` that have
            published counts; `root`: where they lie, None for the environment variable CCREID_DATA.

    Raises:
        ConfigError: a name is unknown or given twice, there is none, or `data` is given too.
    """
    from ccreid.settings.targets import class_of

    if cfg.get("data") is not None:
        raise ConfigError("Give data=<one benchmark> or benchmarks=[several], not both.")
    names, root = cfg.benchmarks, cfg.root
    if every := names == "all":
        names = list_benchmarks()
    elif isinstance(names, str):
        names = [names]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"benchmarks={names}: name each benchmark once, and at least one.")
    nodes = {}
    for name in names:
        composed = compose("evaluate", [f"data={name}", "checkpoint=none"])
        composed.allow_targets = cfg.allow_targets
        node = composed.data
        if root is not None and "root" in node:
            node.root = root
        if not every or class_of(node.benchmark).counts:
            nodes[name] = node
    return nodes


def run_verb(main: Callable[[], Any], config_name: str) -> None:
    """Run a verb's Hydra `main` after a first look at its command line.

    Errors that a user can mend are shown without a traceback; the exit code is then 2. A multirun
    gets a folder that the same command finds again; the exit code is 1 if a job of it failed.
    """
    from hydra._internal.utils import get_args_parser

    from ccreid.runs.multirun import Sweep, plan_command

    arguments = get_args_parser().parse_args()
    overrides: list[str] = arguments.overrides
    own_config = arguments.config_dir or arguments.config_path or arguments.config_name
    planned = None
    try:
        if arguments.help:
            _show_help(config_name)
            return
        if not (own_config or arguments.hydra_help or arguments.info):
            composing = partial(compose, config_name, with_hydra=True)
            planned = plan_command(overrides, arguments.multirun, composing)
        if isinstance(planned, Sweep):
            planned.write_plan()
            flags = [argument for argument in sys.argv[1:] if argument not in overrides]
            sys.argv[1:] = [*flags, *overrides, *planned.arguments]  # argparse wants flags first
            _run_sweep(main, planned.problems)
        else:
            if not arguments.cfg:
                _require_free_folder(planned)
            sys.argv += _folder_of_a_later_rank(overrides)
            main()
    except CCReIDError as error:
        show_error(error)
        sys.exit(2)


def _show_help(config_name: str) -> None:
    from rich.console import Console

    groups = [name for name in _groups(config_name) if name != "recipe"]
    offers = [f"  {name}={' | '.join(list_options(name))}" for name in groups]
    offers.append(f"  settings: {', '.join(_settings(config_name))}")
    text = [
        f"python -m ccreid.{config_name} [group=option ...] [setting=value ...]",
        *offers,
        "--cfg job shows every setting, -m runs every combination of values given with commas.",
    ]
    Console().print("\n".join(text), markup=False, highlight=False)


def _groups(config_name: str) -> list[str]:
    """Return the groups of conf/ that a verb's defaults name, and those a train command adds."""
    from omegaconf import OmegaConf

    defaults = OmegaConf.load(CONF_DIR / f"{config_name}.yaml").defaults
    entries = [entry for entry in defaults if not isinstance(entry, str)]
    named = {str(key).removeprefix("override ") for entry in entries for key in entry}
    added = {"+sweep", "+launcher"} if config_name == "train" else set()
    return sorted(named & {p.name for p in CONF_DIR.iterdir() if p.is_dir()}) + sorted(added)


def _settings(config_name: str) -> list[str]:
    """Return the verb's own settings, those that must be given first."""
    from omegaconf import OmegaConf

    config = OmegaConf.load(CONF_DIR / f"{config_name}.yaml")
    names = [str(key) for key in config if key not in ("defaults", "hydra", "output_dir")]
    needed = [name for name in names if OmegaConf.is_missing(config, name)]
    return [*(f"{name}=???" for name in needed), *(n for n in names if n not in needed)]


def _require_free_folder(cfg: DictConfig | None) -> None:
    """Refuse a folder before Hydra, which would show a traceback, writes into it.

    Args:
        cfg: of the single run; None where only Hydra knows it, then the run itself refuses.
    """
    from ccreid.runs.multirun import require_usable_folder

    if cfg is None or {"RANK", "LOCAL_RANK", "NODE_RANK"} & set(os.environ):
        return  # with a rank, the first process may have begun
    folder = require_usable_folder(cfg)
    if folder.exists():
        with _alone_in(folder):
            pass  # Hydra would write its files over those of the run that is going on


def _folder_of_a_later_rank(overrides: Sequence[str]) -> list[str]:
    """Keep processes that torchrun or SLURM started beside the first from folders of their own."""
    if not {"RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"} & set(os.environ):
        return []
    from ccreid.runs.processes import process_rank

    settings = {
        "hydra.output_subdir": "null",
        "hydra.run.dir": str(Path(tempfile.gettempdir()) / f"ccreid-rank-{process_rank()}"),
    }
    typed = {override.partition("=")[0] for override in overrides}
    missing = [f"{key}={value}" for key, value in settings.items() if key not in typed]
    return missing if process_rank() else []


def _run_sweep(main: Callable[[], Any], problems: Callable[[], str]) -> None:
    try:
        main()
    finally:  # a launcher whose job was killed ends everything
        if text := problems():
            show_error(TrainingError(text))
    if text:
        sys.exit(1)


def guarded(task: Callable[[DictConfig], Any], cfg: DictConfig) -> float | None:
    """Run a verb's function inside Hydra, which would print a traceback for every exception.

    In a multirun a failure is written into the job's folder and the next job starts.

    Returns:
        In a multirun the metric that a sampler such as Optuna maximises, else None.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from ccreid.settings.kinds import require_sound

    def checked(cfg: DictConfig) -> Any:
        require_sound(cfg)
        return task(cfg)

    hydra = HydraConfig.get()
    if hydra.mode == RunMode.MULTIRUN:
        from ccreid.runs.jobs import run_job

        return run_job(checked, cfg, Path(hydra.runtime.output_dir), show_error)
    try:
        with _alone_in(Path(cfg.get("output_dir") or hydra.runtime.output_dir)):
            checked(cfg)
    except CCReIDError as error:
        show_error(error)
        sys.exit(2)
    return None


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the run's folder, so that no second run writes into it at the same time."""
    from ccreid.runs.jobs import hold
    from ccreid.runs.processes import process_rank

    if process_rank():
        yield  # the first process of the run holds it
        return
    with suppress(OSError):  # what is wrong with the folder is said when the run looks at it
        folder.mkdir(parents=True, exist_ok=True)
    with hold(folder, patience=0) as free:
        if not free:
            raise ConfigError(
                f"Another run is writing into {folder}. Choose another folder: "
                "hydra.run.dir=<folder>"
            )
        yield


def show_error(error: CCReIDError) -> None:
    """Put an error that a user can mend on the terminal."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    title = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    Console(stderr=True).print(Panel(Text(str(error)), title=title, border_style="red"))


def _is_group(key: str) -> bool:
    return (CONF_DIR / key).is_dir()


def _keys(cfg: Any, prefix: str = "") -> list[str]:
    from omegaconf import DictConfig

    keys = []
    for key in cfg:
        keys.append(f"{prefix}{key}")
        node = cfg._get_node(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            keys += _keys(node, f"{prefix}{key}.")
    return keys


def _explain_group(problem: Exception, overrides: Sequence[str], config_name: str) -> str:
    """A group's option is wrong or missing, or the text itself is no override."""
    for override in overrides:
        group, _, option = override.lstrip("+~").partition("=")
        if _is_group(group) and option not in (known := list_options(group)):
            return (
                f"There is no {group}={option}.{nearest(option, known)}\n"
                f"conf/{group}/ offers: {', '.join(known)}"
            )
    if absent := re.search(r"Could not find 'hydra/(launcher|sweeper)/(\w+)'", str(problem)):
        extra = "optuna" if absent[2] == "optuna" else "sweep"
        return f"The {absent[1]} {absent[2]} is not installed: pip install 'ccreid[{extra}]'"
    if missing := re.search(r"You must specify '(\w+)'", str(problem)):
        group = missing[1]
        settings = {name.partition("=")[0] for name in _settings(config_name)}
        strange = [text for text in overrides if text.partition("=")[0] not in settings]
        typed = next((text for text in strange if nearest(text.partition("=")[0], [group])), "")
        hint = f" ('{typed}' names no setting.)" if typed else ""
        return f"Say which {group}: {group}=<one of: {', '.join(list_options(group))}>{hint}"
    return str(problem)


def _explain_key(problem: Exception, known: Sequence[str]) -> str:
    found = re.search(r"Could not override '([^']+)'|Could not find '([^']+)'", str(problem))
    if found is None:
        return str(problem)
    key = found[1] or found[2]
    name = key.rsplit(".", 1)[-1]
    same_name = [full for full in known if full.rsplit(".", 1)[-1] == name]
    hint = nearest(key, same_name, cutoff=0) or nearest(key, known)
    return f"There is no setting '{key}'.{hint}\nAdd --cfg job to the command to see every setting."
