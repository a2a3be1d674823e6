"""The library's user errors: each says what was looked for, where, and how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class CCReIDError(Exception):
    """Base of every error a user can mend; the verbs print its text without a traceback."""


class ConfigError(CCReIDError):
    """A setting is misspelt, impossible, or contradicts another one."""


class DataError(CCReIDError):
    """A benchmark, an image or side information is missing, unreadable or not what it should be."""


class BenchmarkNotFound(DataError):
    """There is no folder of the benchmark where the user says the data is."""


class CheckpointError(CCReIDError):
    """A checkpoint is missing, of another method, or does not fit the request."""


class TrainingError(CCReIDError):
    """Training cannot go on, for instance because a loss is no longer finite."""


def require(condition: bool, setting: str, value: object, wanted: str) -> None:
    """Raise a ConfigError that names the setting unless the condition holds."""
    if not condition:
        raise ConfigError(f"{setting}={value} should be {wanted}.")


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.5) -> str:
    """Return `" Did you mean 'x'?"` for the choice closest to `word`, if one is close enough."""
    matches = difflib.get_close_matches(word, sorted(choices), n=1, cutoff=cutoff)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def some(names: Sequence[str], shown: int = 5, separator: str = ", ") -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{separator.join(names[:shown])}{more}"
