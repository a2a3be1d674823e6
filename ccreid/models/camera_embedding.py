"""A learned vector for each training camera (TransReID's side information, as DIFFER uses it)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from ccreid.errors import DataError, require


class CameraEmbedding(nn.Module):
    """Cameras [B] to vectors [B, dim]; an unknown camera, or one beyond the table, gets zeros.

    Args:
        num_cameras: rows of the table: the largest camera of the train split plus one; 0 where it
            has no cameras.
        dim: length of the vectors.
        factor: what the table's rows are multiplied by.

    Raises:
        ConfigError: a negative factor.

    Source: He et al., TransReID (ICCV 2021), side information embedding.
    """

    def __init__(self, num_cameras: int, dim: int, factor: float = 3.0) -> None:
        super().__init__()
        require(factor >= 0, "method.camera_factor", factor, "at least 0")
        self.factor = factor
        self.table = nn.Parameter(torch.empty(num_cameras, dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, camid: Tensor) -> Tensor:
        """Return the vectors of cameras [B], integers, -1 for unknown.

        Raises:
            DataError: cameras that are no integers or, outside training, below -1.
        """
        if camid.is_floating_point() or camid.is_complex() or camid.dtype == torch.bool:
            raise DataError(f"Cameras must be integers, not {camid.dtype}; -1 where unknown.")
        # In training this would make the host wait for the device; its cameras are known before.
        if not self.training and bool((camid < -1).any()):
            raise DataError(f"There is no camera {int(camid.min())}: 0 or more, or -1 for unknown.")
        unknown = len(self.table)
        known = (camid >= 0) & (camid < unknown)
        rows = torch.cat([self.table, self.table.new_zeros(1, self.table.shape[1])])
        return self.factor * embedding(torch.where(known, camid, unknown), rows)
