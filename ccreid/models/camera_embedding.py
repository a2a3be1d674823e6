"""A learned vector for each training camera (TransReID's side information, as DIFFER uses it)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from ccreid.errors import DataError, require

MOST_CAMERAS = 100_000


class CameraEmbedding(nn.Module):
    """Cameras [B] to vectors [B, dim]; a camera that was not trained with gets zeros.

    Args:
        num_cameras: rows of the table: the largest camera of the train split plus one; 0 where it
            has no cameras.
        dim: length of the vectors.
        factor: what the table's rows are multiplied by.

    Raises:
        ConfigError: a negative factor.
        DataError: more rows than any table of cameras needs.

    Source: He et al., TransReID (ICCV 2021), side information embedding.
    """

    def __init__(self, num_cameras: int, dim: int, factor: float = 3.0) -> None:
        super().__init__()
        require(factor >= 0, "method.camera_factor", factor, "at least 0")
        if num_cameras > MOST_CAMERAS:
            raise DataError(
                f"The train images have a camera {num_cameras - 1}, and every number up to the "
                f"largest gets a row of the camera embedding: at most {MOST_CAMERAS:,}. Number the "
                "cameras from 0."
            )
        self.factor = factor
        self.table = nn.Parameter(torch.empty(num_cameras, dim))
        nn.init.trunc_normal_(self.table, std=0.02)

    @torch.no_grad()
    def forget_all_but(self, camid: Tensor) -> None:
        """Set the rows of all other cameras to zeros; without a gradient they stay zeros."""
        seen = torch.zeros(len(self.table), dtype=torch.bool)
        seen[camid[camid >= 0]] = True
        self.table[~seen] = 0

    def knows(self, camid: Tensor) -> Tensor:
        """Return for which of the cameras [B] a vector is anything but zeros, [B] bool."""
        vectors: Tensor = self(camid)
        return vectors.any(dim=1)

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
