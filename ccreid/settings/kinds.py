"""Whether a config's values are of the kind that their consumers declare.

What is given to a `_target_` is compared with its signature, the other settings with `PLAIN`; so a
text where a number belongs is one sentence that names the setting, and not a failure in the depth.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ccreid.errors import ConfigError, nearest, require
from ccreid.settings.plain import PLAIN
from ccreid.settings.targets import require_allowed

_LARGEST = 2**63 - 1  # what is counted in is an int64
_LARGEST_REAL = 1e30  # products of settings must stay within float32, 3.4e38


_GROUPS = (
    *("method", "backbone", "trainer", "callbacks", "logger", "prompts", "captioner", "parser"),
    *("data.benchmark", "data.train_transform", "data.test_transform"),
)
_FROM_THE_RUN = ("input.", "evaluation.", "clusters.mining.")  # null where a verb has a checkpoint


def require_sound(cfg: DictConfig) -> None:
    """Look at all settings of a verb before anything is read or built.

    Raises:
        ConfigError: a reference leads nowhere, or a setting of `PLAIN` is of another kind.
    """
    for name in (name for name in map(str, cfg) if not OmegaConf.is_missing(cfg, name)):
        with resolving(name):
            cfg[name]
    has_checkpoint = "checkpoint" in list(cfg)
    may_be_open = has_checkpoint or "benchmarks" in cfg
    groups = {key.rpartition(".")[0] for key in PLAIN} - {""}
    for name in sorted({*groups, *_GROUPS}):
        group = _find(cfg, name)
        left_open = group is None and may_be_open and name in ("data", "method")
        fits = group is _ABSENT or isinstance(group, DictConfig) or left_open
        require(fits, name, group, "a group of settings")
    for place in ("callbacks", "logger"):
        if (objects := _find(cfg, place)) is not _ABSENT:
            _require_objects(objects, place)
    # One network's images have one size; where none is asked for (diagnose) several are compared.
    plain = {**PLAIN, "checkpoint": str} if "input" in cfg else PLAIN
    for name, kind in plain.items():
        value = _find(cfg, name)
        left_open = value is None and has_checkpoint and name.startswith(_FROM_THE_RUN)
        if value is not _ABSENT and not left_open:
            require(fits_kind(_plain(value), kind), name, value, describe(kind))


def _require_objects(group: DictConfig, place: str) -> None:
    for name in map(str, group):
        child = _followed(group, name)
        fits = isinstance(child, DictConfig) and not child._is_none() and "_target_" in child
        wanted = f"a group of settings with a _target_; ~{place}.{name} leaves it out"
        require(fits, f"{place}.{name}", _plain(child), wanted)


def require_arguments(node: Any) -> None:
    """Compare a node, and what is below it, with the signatures that its `_target_`s have.

    Raises:
        ConfigError: a `_target_` that a config may not name or that does not exist, a setting that
            it does not take (the message names the nearest), or one of another kind.
    """
    with resolving("A setting"):
        require_allowed(node)
    _require_signatures(node)


def _require_signatures(node: Any) -> None:
    if isinstance(node, ListConfig) and not node._is_none():
        for child in node:
            _require_signatures(child)
    if not isinstance(node, DictConfig) or node._is_none():
        return
    children = {str(key): _followed(node, key) for key in node}
    if "_target_" in children:
        _require_signature(node, children)
    for child in children.values():
        _require_signatures(child)


def _require_signature(node: DictConfig, children: Mapping[str, Any]) -> None:
    place = node._get_full_key(None)
    name = node._target_
    target = get_object(name)
    partial = node.get("_partial_", False)
    require(isinstance(partial, bool), f"{place}._partial_", partial, "true or false")
    kinds = _kinds(target)
    for key, child in children.items():
        if key.startswith("_"):
            continue
        if key in kinds:
            fits = _fits(child, kinds[key])
            require(fits, child._get_full_key(None), _plain(child), describe(kinds[key]))
        elif "**" not in kinds:
            known = list(kinds)[1:] if partial else list(kinds)  # the first is given by the code
            raise ConfigError(
                f"There is no setting '{place}.{key}': {name} takes {', '.join(known)}."
                f"{nearest(f'{place}.{key}', [f'{place}.{each}' for each in known])}"
            )


def _kinds(target: Any) -> dict[str, Any]:
    """Return the kind of every parameter, and `**` where any further one is taken."""
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return {"**": Any}  # compiled, without a signature
    function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        hints = {}  # names that exist for a type checker only
    return {
        "**" if each.kind is each.VAR_KEYWORD else each.name: hints.get(each.name, Any)
        for each in parameters
        if each.kind is not each.VAR_POSITIONAL
    }


def _fits(child: Any, kind: Any) -> bool:
    if isinstance(child, DictConfig) and not child._is_none() and "_target_" in child:
        return True  # becomes an object
    return fits_kind(_plain(child), kind)


def fits_kind(value: Any, kind: Any) -> bool:
    """Return whether a plain value is what a type hint says; NaN is no number."""
    if kind in (Any, inspect.Parameter.empty) or isinstance(kind, TypeVar):
        return True
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return fits_kind(value, inner[0]) and value in inner[1]
    if origin in (Union, UnionType):
        return any(fits_kind(value, each) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if kind in (None, NoneType):
        return value is None
    if kind is int:
        return type(value) is int and abs(value) <= _LARGEST
    if kind is float:
        return fits_kind(value, int) or (type(value) is float and abs(value) <= _LARGEST_REAL)
    return _fits_class(value, origin or kind, inner)


def _fits_class(value: Any, kind: Any, inner: tuple[Any, ...]) -> bool:
    if not isinstance(kind, type):
        return True  # nothing that could be asked about a plain value
    if issubclass(kind, str | bool | Mapping):
        return isinstance(value, kind)
    if issubclass(kind, Path):
        return isinstance(value, str)
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        is_list = isinstance(value, list) and len(value) == len(inner)
        return is_list and all(map(fits_kind, value, inner))
    if issubclass(list, kind) or kind is tuple:
        return isinstance(value, list) and all(fits_kind(v, inner[0]) for v in value if inner)
    return isinstance(value, kind)


def describe(kind: Any) -> str:
    """Say what a type hint wants, for people."""
    return " or ".join(dict.fromkeys(_words(kind)))


def _words(kind: Any) -> Iterator[str]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for each in inner:
            yield from _words(each)
    elif origin is Annotated:
        yield f"{describe(inner[0])}, {inner[1]}"
    elif origin is Literal:
        yield f"one of {', '.join(map(str, inner))}"
    elif kind in (known := _WORDS):
        yield known[kind]
    elif isinstance(origin or kind, type) and issubclass(origin or kind, Mapping):
        yield "a group of settings"
    elif isinstance(origin or kind, type) and issubclass(origin or kind, Collection):
        item = describe(inner[0]) if inner else "values"
        length = f" of {len(inner)}" if origin is tuple and inner[-1] is not Ellipsis else ""
        yield f"a list{length} ({item} each)" if inner else "a list"
    else:
        yield "a group of settings with a _target_"


_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: f"a number up to {_LARGEST_REAL:g}",
    str: "text",
    Path: "text",
    None: "null",
    NoneType: "null",
}

_ABSENT: Any = object()


def _find(cfg: DictConfig, name: str) -> Any:
    """Return a setting, or `_ABSENT` where the verb has none of this name, or it is not given."""
    node: Any = cfg
    for part in name.split("."):
        absent = not isinstance(node, DictConfig) or node._is_none() or part not in node
        if absent or OmegaConf.is_missing(node, part):
            return _ABSENT
        with resolving(name):
            node = node[part]
    return node


def _followed(node: DictConfig, key: Any) -> Any:
    """Return a child as a node that knows its own name; of a reference what it refers to."""
    with resolving(f"{node._get_full_key(None)}.{key}"):
        return node._get_node(key)._dereference_node()  # type: ignore[union-attr]


@contextmanager
def resolving(name: str) -> Iterator[None]:
    """Turn a reference to what is not there into a user's error."""
    try:
        yield
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        if "HydraConfig was not set" in reason:  # called from Python, not at the command line
            raise ConfigError(
                f"Say {name}=<folder>: Hydra, which chooses one, is not there."
            ) from None
        raise ConfigError(f"{name} refers to something that is not there: {reason}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, DictConfig | ListConfig) and not value._is_none():
        with resolving(str(value._get_full_key(None))):
            return OmegaConf.to_container(value, resolve=True)
    return value._value() if isinstance(value, Node) else value
