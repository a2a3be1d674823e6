"""Runs that several files of this folder look at."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trust.few_people import write_few_people
from tests.trust.runs import run, run_until_halted


@pytest.fixture(scope="session")
def few_people(tmp_path_factory) -> str:
    """The setting that names a small benchmark."""
    folder = tmp_path_factory.mktemp("benchmark")
    return f"data.archive={write_few_people(folder / 'few.zip')}"


def once(tmp_path_factory, few_people, train) -> Callable[..., Path]:
    """Return a function of settings that gives the folder of such a run, trained at first call."""
    done: dict[tuple[str, ...], Path] = {}

    def folder_of(*settings: str) -> Path:
        if settings not in done:
            done[settings] = tmp_path_factory.mktemp("run")
            train(done[settings], few_people, *settings)
        return done[settings]

    return folder_of


@pytest.fixture(scope="session")
def straight(tmp_path_factory, few_people) -> Callable[..., Path]:
    """Give the folder of a run of two epochs."""
    return once(tmp_path_factory, few_people, run)


@pytest.fixture(scope="session")
def halted(tmp_path_factory, few_people) -> Callable[..., Path]:
    """Give the folder of such a run that ended in its second epoch."""
    return once(tmp_path_factory, few_people, run_until_halted)
