"""Clothes-based adversarial loss of CAL: the feature shall not tell a person's outfits apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def clothes_adversarial_loss(
    cosine: Tensor,
    target: Tensor,
    positive_mask: Tensor,
    scale: float = 16.0,
    epsilon: float = 0.1,
) -> Tensor:
    """Mean cross entropy of every outfit of the person against the outfits of all other people.

    With logits a = scale · cosine, outfit c of an image and the outfits S_y of its person, each
    member j of S_y has `log p_j = a_j - log(exp(a_j) + Σ_{k not in S_y} exp(a_k))`: the person's
    other outfits are no competitors. The target is `(1 - epsilon) onehot(c) + epsilon / |S_y|` on
    S_y. Computed in float32 or better, also under autocast.

    Args:
        cosine: cosine similarity of each feature to each outfit's weight, [B, M].
        target: outfit c of each image in 0..M-1, [B] int64.
        positive_mask: 1 (or True) where the outfit belongs to the image's person, [B, M]. The
            image's own outfit counts as a member whatever the mask says of it.
        scale: inverse temperature s.
        epsilon: share of the target that is spread evenly over S_y, in [0, 1].

    Returns:
        The loss, scalar.

    Source: CAL (Gu et al., CVPR 2022, arXiv 2204.06890), clothes-based adversarial loss. The
    authors' code takes exponentials, which overflow in half precision; here are their logarithms.
    """
    logits = scale * cosine.to(torch.promote_types(cosine.dtype, torch.float32))
    own = functional.one_hot(target, logits.shape[1]).bool()
    members = own | positive_mask.bool()
    # Not -inf: without any other person's outfit the gradient of log-sum-exp would be NaN.
    strangers = logits.masked_fill(members, torch.finfo(logits.dtype).min)
    log_strangers = strangers.logsumexp(dim=1, keepdim=True)
    log_probability = logits - torch.logaddexp(logits, log_strangers)
    share = members / members.sum(dim=1, keepdim=True, dtype=logits.dtype)
    distribution = (1 - epsilon) * own.to(logits.dtype) + epsilon * share
    return -(distribution * log_probability).sum(dim=1).mean()
