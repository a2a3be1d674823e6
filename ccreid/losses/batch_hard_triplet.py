"""Batch-hard triplet loss: each anchor with its farthest positive and its nearest negative."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus


def batch_hard_triplet_loss(
    features: Tensor,
    pids: Tensor,
    margin: float | Literal["soft"] = 0.3,
    distance: Literal["euclidean", "cosine"] = "euclidean",
) -> Tensor:
    """Mean of `relu(d_ap - d_an + margin)` over the anchors that have a positive and a negative.

    With a soft margin it is the mean of `log(1 + exp(d_ap - d_an))`, which never stops pulling.
    Euclidean distances are of the features as given (not normalised), cosine ones are 1 - cosine.
    Any number of images per identity is allowed: an anchor that is the only image of its identity,
    or that sees no other identity, forms no triplet. Without any triplet the loss is 0 with a zero
    gradient. Computed in float32 or better, also under autocast.

    Args:
        features: [B, D], any floating dtype.
        pids: identity of each feature, [B].
        margin: in the unit of the distance, or `soft`.
        distance: `euclidean` or `cosine`.

    Returns:
        The loss, scalar.

    Raises:
        ValueError: a margin that is neither a number nor `soft`.

    Source: Hermans et al., "In Defense of the Triplet Loss" (arXiv 1703.07737), section 2; the
    square root's lower limit follows the re-identification baselines (and FIRe²).
    """
    if isinstance(margin, str) and margin != "soft":
        raise ValueError(f"margin = {margin!r}: give a number, or 'soft'.")
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    if distance == "cosine":
        features = normalize(features)  # 1 - cosine is half the squared distance of unit vectors
    same = pids[:, None] == pids[None, :]
    positive = same & ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)
    # Mining only needs an order, so it holds no graph. The direct form keeps the order of
    # near-duplicates, which |a|² + |b|² - 2ab loses to cancellation.
    with torch.no_grad():
        exact = "donot_use_mm_for_euclid_dist"
        order = torch.cdist(features, features, compute_mode=exact)
        hardest_positive = order.masked_fill(~positive, -torch.inf).argmax(dim=1)
        hardest_negative = order.masked_fill(same, torch.inf).argmin(dim=1)
    # index_select, because the backward of indexing adds in whatever order its threads come.
    d_ap = _distance(features, features.index_select(0, hardest_positive), distance)
    d_an = _distance(features, features.index_select(0, hardest_negative), distance)
    has_triplet = positive.any(dim=1) & ~same.all(dim=1)
    gap = d_ap - d_an
    violation = softplus(gap) if margin == "soft" else torch.relu(gap + margin)
    return (violation * has_triplet).sum() / has_triplet.sum().clamp(min=1)


def _distance(a: Tensor, b: Tensor, distance: str) -> Tensor:
    squared = (a - b).square().sum(dim=1)
    if distance == "cosine":
        return squared / 2
    # Below the limit the clamp passes no gradient, so identical features do not divide by zero.
    return squared.clamp(min=1e-12).sqrt()
