"""Attribute-aware classification of FIRe²: the clusters of one person share the target."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def attribute_aware_loss(
    cosine: Tensor,
    target: Tensor,
    positive_mask: Tensor,
    tau: float = 1 / 16,
    epsilon: float = 0.1,
) -> Tensor:
    """Mean cross entropy against a target shared by all clusters of the image's identity.

    An image of cluster c whose identity owns the clusters C_y has the target distribution
    `(1 - epsilon) * onehot(c) + epsilon / |C_y|` on every member of C_y, c included, and 0
    elsewhere; the logits are `cosine / tau`. Computed in float32 or better, also under autocast.

    Args:
        cosine: cosine similarity of each feature to each cluster weight, [B, M].
        target: cluster c of each image in 0..M-1, [B] int64.
        positive_mask: 1 (or True) where the cluster belongs to the image's identity, [B, M]. The
            image's own cluster counts as a member whatever the mask says of it.
        tau: temperature of the softmax, dimensionless.
        epsilon: share of the target that is spread evenly over C_y, in [0, 1]; not the
            radius `eps` of the clustering.

    Returns:
        The loss, scalar.

    Source: FIRe² (Wang et al., TIFS 2024, arXiv 2308.10692), Fine-grained Feature Mining.
    """
    cosine = cosine.to(torch.promote_types(cosine.dtype, torch.float32))
    own = functional.one_hot(target, cosine.shape[1]).to(cosine.dtype)
    members = own.maximum(positive_mask.to(cosine.dtype))
    spread = members / members.sum(dim=1, keepdim=True)
    distribution = (1 - epsilon) * own + epsilon * spread
    log_probability = functional.log_softmax(cosine / tau, dim=1)
    return -(distribution * log_probability).sum(dim=1).mean()
