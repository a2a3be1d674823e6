"""Learning-rate schedules of the published recipes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ccreid.errors import require


def warmup_multistep(
    optimizer: Optimizer,
    warmup_epochs: int = 10,
    warmup_factor: float = 0.01,
    milestones: Sequence[int] = (20, 40, 60),
    gamma: float = 0.1,
) -> LambdaLR:
    """Linear warm-up, then steps down; stepped once an epoch.

    With the defaults (FIRe²) epoch e, counted from 1, uses the factor 0.01 at e = 1, 0.901 at
    10, 1 at 11–20, 0.1 at 21–40, 0.01 at 41–60 and 0.001 from 61.

    Args:
        optimizer: whose learning rate to set.
        warmup_epochs: how many epochs the factor climbs from `warmup_factor` towards 1.
        warmup_factor: the first epoch's factor.
        milestones: after so many epochs the factor is multiplied by `gamma`.
        gamma: what a milestone multiplies by.

    Raises:
        ConfigError: a negative warm-up, or a step that is none down.
    """
    require(warmup_epochs >= 0, "method.scheduler.warmup_epochs", warmup_epochs, "at least 0")
    require(warmup_factor >= 0, "method.scheduler.warmup_factor", warmup_factor, "at least 0")
    require(0 <= gamma <= 1, "method.scheduler.gamma", gamma, "between 0 and 1")

    def factor(epochs_done: int) -> float:
        decay = gamma ** sum(epochs_done >= milestone for milestone in milestones)
        if epochs_done >= warmup_epochs:
            return float(decay)
        climbed = epochs_done / warmup_epochs
        return float(decay * (warmup_factor + (1 - warmup_factor) * climbed))

    return LambdaLR(optimizer, factor)


def warmup_cosine(
    optimizer: Optimizer,
    epochs: int = 60,
    warmup_epochs: int = 20,
    warmup_lr: float = 7.8125e-7,
    final_factor: float = 0.1,
) -> LambdaLR:
    """Linear warm-up, then the cosine of the whole run; stepped once an epoch (DIFFER, MADE).

    Epoch e, counted from 1, has with b the learning rate of a parameter group and b₀ that of the
    optimiser: `warmup_lr + (b - warmup_lr) e / warmup_epochs` before epoch `warmup_epochs`, then
    `f + (b - f) (1 + cos(π e / epochs)) / 2` with `f = final_factor · b₀`. The cosine does not
    start anew after the warm-up, so that with the defaults the rate falls by a fifth there.

    Args:
        optimizer: whose learning rates to set.
        epochs: of the run; later ones keep the last one's rates.
        warmup_epochs: the first epoch of the cosine.
        warmup_lr: where the climb starts.
        final_factor: the last epoch's learning rate over b₀, the same for all groups.

    Raises:
        ConfigError: fewer than one epoch, or a learning rate that is negative or none.
    """
    require(epochs >= 1, "method.scheduler.epochs", epochs, "at least 1")
    require(warmup_epochs >= 0, "method.scheduler.warmup_epochs", warmup_epochs, "at least 0")
    require(warmup_lr >= 0, "method.scheduler.warmup_lr", warmup_lr, "at least 0")
    require(final_factor >= 0, "method.scheduler.final_factor", final_factor, "at least 0")
    rate = optimizer.defaults["lr"]
    require(rate > 0, "method.optimizer.lr", rate, "above 0 for this schedule")
    final: float = final_factor * rate

    def factor_of(base: float) -> Callable[[int], float]:
        def factor(epochs_done: int) -> float:
            epoch = min(epochs_done + 1, epochs)
            if epoch < warmup_epochs:
                return (warmup_lr + (base - warmup_lr) * epoch / warmup_epochs) / base
            return (final + (base - final) * (1 + math.cos(math.pi * epoch / epochs)) / 2) / base

        return factor

    return LambdaLR(optimizer, [factor_of(group["lr"]) for group in optimizer.param_groups])


def adversarial_ramp(progress: float) -> float:
    """Return the gradient reversal's share at `progress` 0 to 1 of a run: 0, soon almost 1.

    It is `2 / (1 + exp(-10 progress)) - 1`.

    Source: Ganin and Lempitsky (ICML 2015), section 4.
    """
    return 2 / (1 + math.exp(-10 * progress)) - 1
