"""Learning-rate schedules of the published recipes."""

from __future__ import annotations

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_multistep(
    optimizer: Optimizer,
    warmup_epochs: int = 10,
    warmup_factor: float = 0.01,
    milestones: Sequence[int] = (20, 40, 60),
    gamma: float = 0.1,
) -> LambdaLR:
    """Linear warm-up, then steps down; stepped once an epoch.

    With the defaults (FIRe², CAL) epoch e, counted from 1, uses the factor 0.01 at e = 1, 0.901 at
    10, 1 at 11–20, 0.1 at 21–40, 0.01 at 41–60 and 0.001 from 61.

    Args:
        optimizer: whose learning rate to set.
        warmup_epochs: how many epochs the factor climbs from `warmup_factor` towards 1.
        warmup_factor: the first epoch's factor.
        milestones: after so many epochs the factor is multiplied by `gamma`.
        gamma: what a milestone multiplies by.
    """

    def factor(epochs_done: int) -> float:
        decay = gamma ** sum(epochs_done >= milestone for milestone in milestones)
        if epochs_done >= warmup_epochs:
            return float(decay)
        climbed = epochs_done / warmup_epochs
        return float(decay * (warmup_factor + (1 - warmup_factor) * climbed))

    return LambdaLR(optimizer, factor)
