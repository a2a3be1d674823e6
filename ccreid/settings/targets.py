"""What a config may build: `_target_` names this library's parts, and what the user allows.

A config can come with somebody else's file, a checkpoint above all, and a `_target_` is called with
arguments of that config's choice. So every one is looked at before anything is built, and a file
may name less than a command: what rebuilds a network and its images. Hydra's own node is not meant:
no verb takes it from a file.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from ccreid.errors import ConfigError

_CLASSES = (
    "ccreid.annotation",
    "ccreid.callbacks",
    "ccreid.data.benchmarks",
    "ccreid.data.clips",
    "ccreid.data.transforms",
    "ccreid.methods",
    "ccreid.models",
    "lightning.pytorch.callbacks",
    "lightning.pytorch.loggers",
    "lightning.pytorch.plugins",
    "lightning.pytorch.profilers",
    "lightning.pytorch.strategies",
    "timm.optim",
    "torch.optim",
)
"""Packages whose own classes may be built."""

_FUNCTIONS = ("ccreid.methods.schedules",)
"""Modules whose own functions may be called."""

_NAMES = (
    "ccreid.callbacks.loggers.tensorboard_logger",
    "lightning.Trainer",
    "lightning.pytorch.Trainer",
)

_IN_FILES = (
    "ccreid.data.benchmarks",
    "ccreid.data.clips",
    "ccreid.data.transforms",
    "ccreid.methods",
    "ccreid.models",
    "timm.optim",
    "torch.optim",
)
"""Of these, where the parts come from that a checkpoint's config may name."""

_NOT_IN_FILES = ("ccreid.models.parsers", "ccreid.models.text_encoders")
"""They fetch a model by its name."""

_DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def require_allowed(node: Any) -> None:
    """Refuse a config node that names anything else, itself or in whatever it holds.

    What the user allows is `allow_targets` at the top of the config that the node belongs to:
    modules, of which everything that is defined in them may be used, and full names. A config that
    was read from a file never brings its own, see `ccreid.checkpoints.checkpoint.load_checkpoint`.

    Raises:
        ConfigError: a `_target_` is not allowed, or there is no such thing.
    """
    allowed: tuple[str, ...] = ()
    prefix = ""
    if OmegaConf.is_config(node):
        allowed, prefix = _allowed_by_user(node), node._get_full_key(None)
        node = OmegaConf.to_container(node, resolve=True)
    for key, target in _targets(node, prefix):
        _find(key, target, allowed)


def require_allowed_in_file(node: DictConfig) -> None:
    """Refuse a node of a checkpoint's config that names more than a checkpoint has to.

    What writes files, talks to servers or watches a training is no part of a network.

    Raises:
        ConfigError: a `_target_` is not allowed, or there is no such thing.
    """
    allowed, prefix = _allowed_by_user(node), node._get_full_key(None)
    for key, target in _targets(OmegaConf.to_container(node), prefix):
        home = str(_find(key, target, allowed).__module__)
        own = any(_is_within(home, place) for place in _IN_FILES)
        fetches = any(_is_within(home, place) for place in _NOT_IN_FILES)
        if (fetches or not own) and not any(_is_within(target, name) for name in allowed):
            raise ConfigError(
                f"{key}={target} is nothing that a checkpoint may build. Take a file that ccreid "
                f"wrote, or, if you trust it, allow_targets=[{target}]"
            )


def class_of(node: DictConfig) -> type[Any]:
    """Return the class that a config node names.

    Raises:
        ConfigError: it is not allowed, there is no such thing, or it is no class.
    """
    key, target = node._get_full_key("_target_"), node.get("_target_")
    found = _find(key, target, _allowed_by_user(node))
    if not inspect.isclass(found):
        raise ConfigError(f"{key}={target} should be a class.")
    return found


def _allowed_by_user(node: Any) -> tuple[str, ...]:
    root = node._get_root()
    given = root.get("allow_targets") if isinstance(root, DictConfig) else None
    names = [given] if isinstance(given, str) else list(given or ())
    if not all(isinstance(name, str) and _DOTTED_NAME.fullmatch(name) for name in names):
        raise ConfigError(
            f"allow_targets={names} should be a list of modules, for instance [plain] where the "
            "config names plain.Plain."
        )
    return tuple(names)


def _targets(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield where in a plain container a `_target_` stands, and what it is."""
    if isinstance(value, dict):
        for name, inner in value.items():
            place = f"{key}.{name}" if key else str(name)
            if name == "_target_":
                yield place, inner
            yield from _targets(inner, place)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _targets(inner, f"{key}[{number}]")


def _find(key: str, target: Any, allowed: Sequence[str]) -> Any:
    """Return what a target names; nothing is imported for one whose name alone is refused."""
    places = (*_CLASSES, *_FUNCTIONS, *_NAMES, *allowed)
    if not isinstance(target, str) or not any(_is_within(target, place) for place in places):
        raise ConfigError(_refusal(key, target))
    try:
        found = get_object(target)
    except (ImportError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{key}={target} cannot be had: {error}\nA module of your own "
            "is looked for in the folder you start from and on PYTHONPATH."
        ) from None
    if target not in (*_NAMES, *allowed) and not _is_at_home(target, found, allowed):
        raise ConfigError(_refusal(key, target))
    return found


def _is_at_home(target: str, found: Any, allowed: Sequence[str]) -> bool:
    """Say whether a thing was defined where its name says: modules lead to all they import."""
    home = getattr(found, "__module__", None) or ""
    places = [*allowed]
    if inspect.isclass(found):
        places += _CLASSES
    elif inspect.isfunction(found):
        places += _FUNCTIONS
    return any(_is_within(target, place) and _is_within(home, place) for place in places)


def _is_within(name: str, place: str) -> bool:
    return name == place or name.startswith(f"{place}.")


def _refusal(key: str, target: Any) -> str:
    module = str(target).rpartition(".")[0] or target
    return (
        f"{key}={target} is nothing that a config may build. It may name the classes of "
        f"{', '.join(_CLASSES)}, and the schedules of {', '.join(_FUNCTIONS)}.\n"
        f"If you wrote or read that code, say so on the command line: allow_targets=[{module}]. "
        "If it came with somebody else's file, do not: it would run with your rights."
    )
