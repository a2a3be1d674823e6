"""How the verbs turn a command line into a run, and show its errors."""

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

from ccreid.config import compose, list_groups, list_options, list_settings
from ccreid.errors import CCReIDError, ConfigError, TrainingError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_SWEPT = ("train", "evaluate", "diagnose")
"""The verbs that leave metrics, which a sweep reads."""
_SEVERAL = {
    "verify": "Several benchmarks are checked with benchmarks=[prcc,ltcc]",
    "visualize": "Several pictures are drawn with what=[ranked,clusters]",
}


def run_verb(main: Callable[[], Any], config_name: str) -> None:
    """Run a verb's Hydra `main` after a first look at its command line.

    Errors that a user can mend are shown without a traceback; the exit code is then 2. A multirun
    gets a folder that the same command finds again; the exit code is 1 if a job of it failed.
    """
    from hydra._internal.utils import get_args_parser
    from hydra.errors import HydraException

    from ccreid.runs.multirun import Sweep, plan_command

    arguments = get_args_parser().parse_args()
    overrides: list[str] = arguments.overrides
    own_config = arguments.config_dir or arguments.config_path or arguments.config_name
    planned = None
    try:
        if arguments.help:
            _show_help(config_name)
            return
        if arguments.multirun:
            _require_metrics_of(config_name)
        if not (own_config or arguments.hydra_help or arguments.info):
            composing = partial(compose, config_name, with_hydra=True)
            try:
                planned = plan_command(overrides, arguments.multirun, composing)
            except HydraException as error:
                remedy = "Give values with commas, choice(...) or range(...)."
                raise ConfigError(f"This cannot be swept: {error}. {remedy}") from None
        if isinstance(planned, Sweep):
            _require_metrics_of(config_name)  # hydra.mode=MULTIRUN says it without -m
            planned.write_plan()
            flags = [argument for argument in sys.argv[1:] if argument not in overrides]
            sys.argv[1:] = [*flags, *planned.overrides, *planned.arguments]  # flags come first
            _run_sweep(main, planned.problems)
        else:
            if not arguments.cfg:
                _require_free_folder(planned)
            sys.argv += _folder_of_a_later_rank(overrides)
            main()
    except CCReIDError as error:
        show_error(error)
        sys.exit(2)


def _require_metrics_of(config_name: str) -> None:
    """Refuse to sweep a verb that leaves no metrics."""
    if config_name not in _SWEPT:
        remedy = _SEVERAL.get(config_name, "Several runs are several commands")
        raise ConfigError(f"ccreid.{config_name} leaves no metrics to sweep. {remedy}, without -m.")


def _show_help(config_name: str) -> None:
    from rich.console import Console

    groups = [name for name in list_groups(config_name) if name != "recipe"]
    offers = [f"  {name}={' | '.join(list_options(name))}" for name in groups]
    offers.append(f"  settings: {', '.join(list_settings(config_name))}")
    text = [
        f"python -m ccreid.{config_name} [group=option ...] [setting=value ...]",
        *offers,
        "--cfg job shows every setting, -m runs every combination of values given with commas.",
    ]
    Console().print("\n".join(text), markup=False, highlight=False)


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
