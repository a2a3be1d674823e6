"""Consistency of an image's feature with that of its erased twin; an option of CRE."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

CONSISTENCIES = ("mse", "ps_sigmoid", "cosine")


def twin_consistency_loss(
    features: Tensor, twins: Tensor, kept: Tensor | None = None, kind: str = "mse"
) -> Tensor:
    """Mean over the twins of their distance from their originals.

    Args:
        features: of the originals, [B, D].
        twins: of V twins each, [V·B, D], twin after twin.
        kept: which twins count, [V·B] bool; None for all. Without any the loss is 0 with a zero
            gradient.
        kind: `mse`, `ps_sigmoid` (sigmoid of the squared distance) or `cosine` (1 - cosine).

    Returns:
        The loss, scalar, in float32 or better, also under autocast.

    Raises:
        ValueError: an unknown kind.

    Source: `ps_sigmoid` is Pixel Sampling's (arXiv 2107.11522). None of them is on the poster.
    """
    if kind not in CONSISTENCIES:
        raise ValueError(f"kind={kind}: choose one of {', '.join(CONSISTENCIES)}.")
    twins = twins.to(torch.promote_types(twins.dtype, torch.float32))
    originals = features.to(twins.dtype).repeat(len(twins) // len(features), 1)
    squares = (twins - originals).square()
    if kind == "mse":
        distance = squares.mean(dim=1)
    elif kind == "ps_sigmoid":
        distance = squares.sum(dim=1).sigmoid()
    else:
        distance = 1 - cosine_similarity(twins, originals)
    if kept is None:
        return distance.mean()
    return (distance * kept).sum() / kept.sum().clamp(min=1)
