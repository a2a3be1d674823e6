"""Runs that are small enough to be repeated, and what must be equal between two of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ccreid.config import compose
from ccreid.train import TrainResult, train
from tests.conftest import TINY
from tests.trust.watching import TARGETS, Halt

SMALL = (
    *(setting for setting in TINY if setting != "trainer=cpu"),
    "debug=fast",
    "trainer.limit_train_batches=2",
    "data.identities_per_batch=2",
    "~callbacks.pictures",
    TARGETS,
)
"""Two epochs of two batches; the methods' phases, such as mining, begin in the second."""


def recorded(folder: Path) -> list[str]:
    """Settings that let a run write down what it does."""
    target = "+callbacks.recorder._target_=tests.trust.watching.Recorder"
    return [target, f"+callbacks.recorder.folder={folder / 'record'}"]


def ended(how: str = "halt", rank: int = 0) -> list[str]:
    """Settings that end a run in the middle of its second epoch."""
    target = "+callbacks.end._target_=tests.trust.watching.End"
    return [target, f"+callbacks.end.how={how}", f"+callbacks.end.rank={rank}"]


def run(folder: Path, *settings: str) -> TrainResult:
    """Train in this process, recorded."""
    own = [*SMALL, "trainer=cpu", *recorded(folder), f"output_dir={folder}"]
    return train(compose("train", [*own, *settings]))


def run_until_halted(folder: Path, *settings: str) -> Path:
    """Train until the middle of the second epoch and return the checkpoint of the first."""
    with pytest.raises(Halt):
        run(folder, *settings, *ended())
    return folder / "checkpoints" / "last.ckpt"


def record(folder: Path, epoch: int, rank: int = 0) -> dict[str, Any]:
    """What a recorded run wrote down of an epoch."""
    return torch.load(folder / "record" / f"epoch{epoch}_rank{rank}.pt")


def assert_same_record(one: Path, other: Path, epoch: int, rank: int = 0) -> None:
    """The same images in the same order, augmented alike, the same labels, weights and steps."""
    assert_same(record(one, epoch, rank), record(other, epoch, rank), f"epoch {epoch}")


def assert_same_checkpoint(one: Path, other: Path) -> None:
    """Weights, optimisers, schedules and counters, bit for bit; not where they were made."""
    contents = [torch.load(folder / "checkpoints" / "last.ckpt") for folder in (one, other)]
    assert contents[0].keys() == contents[1].keys()
    for name in contents[0].keys() - {"ccreid", "callbacks"}:
        assert_same(contents[0][name], contents[1][name], name)


def assert_same(one: Any, other: Any, where: str) -> None:
    """Compare nested containers of tensors and numbers, bit for bit."""
    assert type(one) is type(other), where
    if isinstance(one, Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for position, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{position}]")
    else:
        assert one == other, where
