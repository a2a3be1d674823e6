"""Looks for NaN and infinity in what a training run computes and keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


class HostFlag:
    """A flag on its way from the device: reading waits for its own copy, not for later work."""

    def __init__(self, flag: Tensor) -> None:
        self._flag = flag.to("cpu", non_blocking=True)
        self._arrived = torch.cuda.Event() if flag.is_cuda else None  # type: ignore[no-untyped-call]
        if self._arrived is not None:
            self._arrived.record()

    def read(self) -> bool:
        """Return the flag."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return bool(self._flag)


def first_not_finite(state: Any, name: str = "") -> str:
    """Return the name of the first floating-point tensor that holds NaN or infinity, or nothing.

    Args:
        state: tensors in mappings and lists of any depth; other values are passed over.
        name: what its names begin with.
    """
    # All tensors are looked at before the first answer is waited for.
    looks = [
        (key, torch.isfinite(tensor).all())
        for key, tensor in _tensors(state, name)
        if tensor.is_floating_point()
    ]
    return next((key for key, is_finite in looks if not is_finite), "")


def _tensors(state: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield name, state
    if isinstance(state, list | tuple):
        state = dict(enumerate(state))
    for key, value in state.items() if isinstance(state, Mapping) else ():
        yield from _tensors(value, f"{name}.{key}".strip("."))
