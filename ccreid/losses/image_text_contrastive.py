"""Image-to-text contrastive losses of DIFFER: the right one and the released one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, log_softmax, normalize


def image_text_contrastive_loss(
    projected: Tensor,
    text: Tensor,
    temperature: float = 1.0,
    targets: str = "instance",
    pids: Tensor | None = None,
) -> Tensor:
    """Mean cross entropy of finding an image's text among the texts of the batch.

    With s_ij the cosine of image i and text j, image i has the logits `s_ij / temperature` over all
    j. Its target is its own text (`instance`), or is spread evenly over the texts of all images of
    its identity (`identity`). There is no text-to-image term. Computed in float32 or better, also
    under autocast.

    At the published temperature of 1 the logits stay within [-1, 1]: the loss is log B at chance
    and cannot fall below log(1 + (B - 1) / e²).

    Args:
        projected: projected image features, [B, D]; normalised here.
        text: text features, row i of the same image as row i of `projected`, [B, D]; normalised
            here.
        temperature: of the softmax, dimensionless, above 0.
        targets: `instance` or `identity`.
        pids: identity of each row, [B]; needed for `identity`, not looked at for `instance`.

    Returns:
        The loss, scalar.

    Raises:
        ValueError: shapes that do not match, unknown targets, or `identity` without pids.

    Source: DIFFER (Liang and Rawat, CVPR 2025, arXiv 2503.22912), as its first commit computes it;
    identity targets are this library's addition.
    """
    if projected.ndim != 2 or projected.shape != text.shape:
        raise ValueError(
            f"projected is {list(projected.shape)} and text {list(text.shape)}: give two [B, D]."
        )
    if targets not in ("instance", "identity"):
        raise ValueError(f"targets = {targets!r}: choose instance or identity.")
    logits = _cosine(projected, text) / temperature
    if targets == "instance":
        return cross_entropy(logits, torch.arange(len(logits), device=logits.device))
    if pids is None:
        raise ValueError("targets = 'identity' needs pids, the identity of each image.")
    same = (pids[:, None] == pids[None, :]).to(logits.dtype)
    distribution = same / same.sum(dim=1, keepdim=True)
    return -(distribution * log_softmax(logits, dim=1)).sum(dim=1).mean()


def released_reverse_loss(projected: Tensor, text: Tensor, temperature: float = 1.0) -> Tensor:
    """The non-biometric term as DIFFER's repository computes it since its second release.

    Its loop over the K heads runs over the batch instead: for k < K it takes the K projections of
    *image* k, asks for their texts among the batch's texts of perspective k, and calls text h the
    right one for head h. Only the first K images of a batch receive a gradient, and for K > 1 most
    of their targets belong to another image. For reproduction only.

    Args:
        projected: projections of every head, [B, K, D]; normalised here.
        text: text features of every non-biometric perspective, [B, K, D]; normalised here.
        temperature: of the softmax, dimensionless, above 0.

    Returns:
        The loss summed over k, scalar.

    Raises:
        ValueError: shapes that do not match, or a batch of fewer than K images.
    """
    if projected.ndim != 3 or projected.shape != text.shape:
        raise ValueError(
            f"projected is {list(projected.shape)} and text {list(text.shape)}: give two [B, K, D]."
        )
    batch, heads, _ = projected.shape
    if batch < heads:
        raise ValueError(f"{heads} heads take the first {heads} images; the batch has {batch}.")
    target = torch.arange(heads, device=projected.device)
    terms = [
        cross_entropy(_cosine(projected[k], text[:, k]) / temperature, target) for k in range(heads)
    ]
    return torch.stack(terms).sum()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every row of a with every row of b; autocast would round the product to half."""
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    with torch.autocast(a.device.type, enabled=False):
        return linear(normalize(a.to(dtype)), normalize(b.to(dtype)))
