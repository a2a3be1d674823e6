"""Where `conf/` is, what it offers, and how its files and a command line become one config."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccreid.errors import ConfigError, nearest

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
        config_name: a verb's config, such as `train`.
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
    with initialize_config_dir(str(CONF_DIR), job_name=config_name, version_base="1.3"):
        try:
            cfg = hydra_compose(config_name, list(overrides), return_hydra_config=with_hydra)
            _require_choices(cfg, config_name)
            return cfg
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


def _require_choices(cfg: DictConfig, config_name: str) -> None:
    """Refuse a group that was emptied, `method=[]`, where one of its options must be chosen."""
    for group, must_be_chosen in _default_groups(config_name).items():
        if must_be_chosen and group not in cfg:
            raise ConfigError(_which(group))


def _default_groups(config_name: str) -> dict[str, bool]:
    """Return the groups that a verb's defaults name, and whether each must be chosen (`???`)."""
    from omegaconf import OmegaConf

    defaults = OmegaConf.load(CONF_DIR / f"{config_name}.yaml").defaults
    return {
        str(key).removeprefix("override "): OmegaConf.is_missing(entry, key)
        for entry in defaults
        if not isinstance(entry, str)
        for key in entry
    }


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


def list_groups(config_name: str) -> list[str]:
    """Return the groups of conf/ that a verb's defaults name, and those a train command adds."""
    named = _default_groups(config_name).keys()
    added = {"+sweep", "+launcher"} if config_name == "train" else set()
    return sorted(named & {p.name for p in CONF_DIR.iterdir() if p.is_dir()}) + sorted(added)


def list_settings(config_name: str) -> list[str]:
    """Return the verb's own settings, those that must be given first."""
    from omegaconf import OmegaConf

    config = OmegaConf.load(CONF_DIR / f"{config_name}.yaml")
    names = [str(key) for key in config if key not in ("defaults", "hydra", "output_dir")]
    needed = [name for name in names if OmegaConf.is_missing(config, name)]
    return [*(f"{name}=???" for name in needed), *(n for n in names if n not in needed)]


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
        settings = {name.partition("=")[0] for name in list_settings(config_name)}
        strange = [text for text in overrides if text.partition("=")[0] not in settings]
        typed = next((text for text in strange if nearest(text.partition("=")[0], [group])), "")
        hint = f" ('{typed}' names no setting.)" if typed else ""
        return f"{_which(group)}{hint}"
    return str(problem)


def _which(group: str) -> str:
    return f"Say which {group}: {group}=<one of: {', '.join(list_options(group))}>"


def _explain_key(problem: Exception, known: Sequence[str]) -> str:
    found = re.search(r"Could not override '([^']+)'|Could not find '([^']+)'", str(problem))
    if found is None:
        return str(problem)
    key = found[1] or found[2]
    name = key.rsplit(".", 1)[-1]
    same_name = [full for full in known if full.rsplit(".", 1)[-1] == name]
    hint = nearest(key, same_name, cutoff=0) or nearest(key, known)
    return f"There is no setting '{key}'.{hint}\nAdd --cfg job to the command to see every setting."
