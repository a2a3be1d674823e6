"""One vector per image from a timm vision transformer, and a shift of all its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ccreid.models.pooling import average_pool


def has_tokens(network: Any) -> bool:
    """Say whether a timm network is a plain vision transformer: tokens from its first block on."""
    return all(hasattr(network, name) for name in ("patch_embed", "num_prefix_tokens", "blocks"))


def token_feature(network: Any, images: Tensor, shift: Tensor | None = None) -> Tensor:
    """Return the normalised class token or, where there is none, the mean patch token.

    Args:
        network: a timm network that `has_tokens`.
        images: as the network wants them, [B, 3, H, W].
        shift: added to every token, class token included, before the first block: beside the
            position embedding; [B, C].

    Returns:
        [B, C].
    """
    with _shifted(network.blocks[0], shift):
        tokens: Tensor = network.forward_features(images)
    if tokens.ndim == 4:  # a network that puts its patches back in place
        return average_pool(tokens)
    if getattr(network, "cls_token", None) is not None:
        return tokens[:, 0]
    patches = tokens[:, network.num_prefix_tokens :]
    return patches.mean(dim=1, dtype=torch.promote_types(patches.dtype, torch.float32))


def forget_final_norm(network: nn.Module) -> None:
    """Set the scale of a network's last LayerNorm to 1 and its shift to 0; without one, nothing."""
    norm = getattr(network, "norm", None)
    if isinstance(norm, nn.LayerNorm) and norm.elementwise_affine:
        norm.reset_parameters()


@contextmanager
def _shifted(block: nn.Module, shift: Tensor | None) -> Iterator[None]:
    """Add `shift` to what goes into the block, whatever the shape in which it keeps its tokens."""
    if shift is None:
        yield
        return
    vector = shift

    def add(_block: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tokens = inputs[0]
        places = (1,) * (tokens.ndim - 2)
        return tokens + vector.view(len(vector), *places, -1), *inputs[1:]

    handle = block.register_forward_pre_hook(add)
    try:
        yield
    finally:
        handle.remove()
