"""Loss of a predicted attention map against the body's silhouette.

Our reconstruction from the poster of Mu, Li, Li, Yang (BMVC 2022): the poster says that a mask of
the body's shape guides the attention map, not with which loss.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

ATTENTION_LOSSES = ("mse", "bce", "dice", "mse+dice")


def attention_loss(attention: Tensor, target: Tensor, trusted: Tensor, kind: str = "mse") -> Tensor:
    """Mean over the images with a trusted mask of the distance between attention and target.

    Args:
        attention: predicted, [B, 1, h, w] in 0..1.
        target: wanted, of the same shape, in 0..1.
        trusted: which images' masks are worth believing, [B] bool. Without any the loss is 0 with
            a zero gradient.
        kind: `mse` (mean square over the positions), `bce` (cross entropy with a soft target; its
            smallest value is the target's entropy), `dice` (1 - 2Σat / (Σa² + Σt²), V-Net's form,
            which is 0 for a soft target that is met), or `mse+dice`.

    Returns:
        The loss, scalar, in float32 or better, also under autocast.

    Raises:
        ValueError: an unknown kind.

    Source: mean square is DeSKPro's (arXiv 2208.12023), the nearest relative; inferred here. Dice:
        Milletari et al., "V-Net" (arXiv 1606.04797).
    """
    if kind not in ATTENTION_LOSSES:
        raise ValueError(f"kind={kind}: choose one of {', '.join(ATTENTION_LOSSES)}.")
    a = attention.to(torch.promote_types(attention.dtype, torch.float32)).flatten(1)
    t = target.to(a.dtype).flatten(1)
    per_image = torch.zeros_like(a[:, 0])
    if kind in ("mse", "mse+dice"):
        per_image = per_image + (a - t).square().mean(dim=1)
    if kind in ("dice", "mse+dice"):
        overlap, total = (a * t).sum(dim=1), (a.square() + t.square()).sum(dim=1)
        per_image = per_image + 1 - 2 * overlap / total.clamp(min=1e-12)
    if kind == "bce":
        with torch.autocast(a.device.type, enabled=False):  # refused there, also for float32
            per_image = binary_cross_entropy(a, t, reduction="none").mean(dim=1)
    return (per_image * trusted).sum() / trusted.sum().clamp(min=1)
