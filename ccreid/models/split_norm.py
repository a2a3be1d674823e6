"""Batch norm that looks at a batch without remembering it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def running_statistics_kept(module: nn.Module) -> Iterator[None]:
    """Let the batch norms of a module in training leave their running statistics as they are.

    What passes inside is normalised by its own statistics, as always in training; the running ones,
    which count at test, stay those of what passed outside.
    """
    momenta = {part: part.momentum for part in module.modules() if isinstance(part, _BatchNorm)}
    for part in momenta:
        part.momentum = 0.0
    try:
        yield
    finally:
        for part, momentum in momenta.items():
            part.momentum = momentum
