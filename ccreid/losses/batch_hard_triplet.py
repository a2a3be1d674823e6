"""Batch-hard triplet loss: each anchor with its farthest positive and its nearest negative."""

from __future__ import annotations

import torch
from torch import Tensor


def batch_hard_triplet_loss(features: Tensor, pids: Tensor, margin: float = 0.3) -> Tensor:
    """Mean of `relu(d_ap - d_an + margin)` over the anchors that have a positive and a negative.

    Distances are Euclidean on the features as given (not normalised). Any number of images per
    identity is allowed: an anchor that is the only image of its identity, or that sees no other
    identity, forms no triplet. Without any triplet the loss is 0 with a zero gradient.
    Computed in float32 or better, also under autocast.

    Args:
        features: [B, D], any floating dtype.
        pids: identity of each feature, [B].
        margin: in the unit of the features' distance.

    Returns:
        The loss, scalar.

    Source: Hermans et al., "In Defense of the Triplet Loss" (arXiv 1703.07737), section 2; the
    square root's lower limit follows the re-identification baselines (and FIRe²).
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    same = pids[:, None] == pids[None, :]
    positive = same & ~torch.eye(len(pids), dtype=torch.bool, device=pids.device)
    # Mining only needs an order, so it holds no graph. The direct form keeps the order of
    # near-duplicates, which |a|² + |b|² - 2ab loses to cancellation.
    with torch.no_grad():
        exact = "donot_use_mm_for_euclid_dist"
        distance = torch.cdist(features, features, compute_mode=exact)
        hardest_positive = distance.masked_fill(~positive, -torch.inf).argmax(dim=1)
        hardest_negative = distance.masked_fill(same, torch.inf).argmin(dim=1)
    # index_select, because the backward of indexing adds in whatever order its threads come.
    d_ap = _distance(features, features.index_select(0, hardest_positive))
    d_an = _distance(features, features.index_select(0, hardest_negative))
    has_triplet = positive.any(dim=1) & ~same.all(dim=1)
    hinge = torch.relu(d_ap - d_an + margin) * has_triplet
    return hinge.sum() / has_triplet.sum().clamp(min=1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Below the limit the clamp passes no gradient, so identical features do not divide by zero.
    return (a - b).square().sum(dim=1).clamp(min=1e-12).sqrt()
