"""Models of optional packages, from the model hub or a local folder: one clear error each."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ccreid.errors import ConfigError
from ccreid.models.weights import offline_if_unreachable


def import_extra(module: str, extra: str, wanted_by: str) -> Any:
    """Import an optional package.

    Raises:
        ConfigError: it is not installed; the message names the extra that brings it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{wanted_by} needs the package {error.name}: pip install 'ccreid[{extra}]'"
        ) from None


@contextmanager
def loading(setting: str, model: str) -> Iterator[None]:
    """Turn whatever goes wrong while a model is loaded into a ConfigError with the remedy."""
    try:
        with offline_if_unreachable():
            yield
    except ConfigError:
        raise
    except Exception as error:  # every library on the way to the hub raises its own
        raise ConfigError(
            f"{setting}={model} could not be loaded ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no reason given'}). It should be a "
            "name on the model hub, or a local folder that holds the model; without a network only "
            "the latter can be loaded."
        ) from error


def require_complete(
    loaded: Mapping[str, Any], setting: str, model: str, unused: str = "-"
) -> None:
    """Raise a ConfigError if tensors of a model were not in its files: they would be random.

    Args:
        loaded: the loading info of transformers.
        setting: what names the model.
        model: what the user said.
        unused: how the names of tensors begin that do not matter.
    """
    names = [str(key) for key in (*loaded["missing_keys"], *loaded["mismatched_keys"])]
    if absent := sorted(name for name in names if not name.startswith(unused)):
        raise ConfigError(
            f"{setting}={model} lacks {len(absent)} tensors of its network (the first is "
            f"{absent[0]}): they would be random. Get the whole model."
        )
