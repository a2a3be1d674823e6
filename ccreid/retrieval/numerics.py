"""Numbers as ranking wants them: copies of known precision, unit features, float32 products."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccreid.errors import DataError


def own_copy(values: Tensor | NDArray[Any]) -> Tensor:
    """Return a copy in float32, or float64 where float32 would lose something."""
    # Copying an array before torch sees it keeps read-only arrays (np.load with mmap_mode) silent
    # and unharmed.
    tensor = (
        values.detach()
        if isinstance(values, Tensor)
        else torch.from_numpy(np.array(values, order="C"))
    )
    narrow = tensor.dtype in (torch.float16, torch.bfloat16, torch.float32)
    return tensor.to(
        torch.float32 if narrow else torch.float64,
        copy=isinstance(values, Tensor),
        memory_format=torch.contiguous_format,
    )


def normalised(features: Tensor | NDArray[Any], name: str, count: int) -> Tensor:
    """Return L2-normalised float32 features, a copy.

    Raises:
        DataError: the shape is wrong, or a value is not finite.
    """
    if features.ndim != 2 or features.shape[0] != count:
        raise DataError(
            f"`{name}_features` is {tuple(features.shape)} for {count} {name} ids; "
            "it must be [images, dimensions]."
        )
    copy = own_copy(features).float()
    norm = torch.linalg.vector_norm(copy, dim=1, keepdim=True)
    if not torch.isfinite(norm).all():
        row = int(torch.nonzero(~torch.isfinite(norm))[0, 0])
        raise DataError(
            f"The feature of {name} image {row} is NaN, infinite or too large for float32; "
            "the network has diverged or ran in a precision too low for it."
        )
    return copy.div_(norm.clamp(min=torch.finfo(torch.float32).tiny))


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Keep autocast, TF32 and bfloat16 products away, whatever training has switched on."""
    if not hasattr(torch.backends, "fp32_precision"):  # torch before 2.9
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.autocast(device.type, enabled=False):
                yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    # The newer switches also work when they have been used before, where the older function refuses
    # to answer.
    mkldnn: Any = torch.backends.mkldnn
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, mkldnn.matmul)
    kept = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, precision in zip(switches, kept, strict=True):
            switch.fp32_precision = precision
