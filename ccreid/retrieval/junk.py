"""Which gallery images count for a query: the four junk rules of cloth-changing re-ID."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccreid.errors import ConfigError, DataError, nearest

Rule: TypeAlias = Literal["standard", "cc", "sc", "none"]
Ids: TypeAlias = Tensor | NDArray[Any] | Sequence[int]

RULES: tuple[Rule, ...] = get_args(Rule)


def as_ids(ids: Ids | None, name: str, length: int | None = None) -> Tensor:
    """Return ids as an int64 tensor `[N]`; a float never becomes an id.

    A float32 could merge two people whose ids are above 2**24.

    Raises:
        DataError: the ids are missing, not integers, not one-dimensional, too large for int64, or
            of another number.
    """
    if ids is None:
        raise DataError(f"The ranking needs `{name}` under this rule, but it was not given.")
    array = ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"`{name}` must be a one-dimensional array of integers, "
            f"got {array.dtype} of shape {array.shape}."
        )
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"`{name}` holds an id above 2**63 - 1; number the ids anew.")
    if length is not None and len(array) != length:
        raise DataError(
            f"`{name}` has {len(array)} entries for {length} images; give one id an image."
        )
    return torch.from_numpy(array.astype(np.int64))


class SamePerson:
    """For every query, its own person's gallery images: `positive`, or `junk` to be removed.

    Images of other people are never junk, whatever their camera or clothes. With C = same camera
    and K = same clothes:

    | rule | positive | junk |
    |---|---|---|
    | `standard` | not C | C |
    | `cc` (cloth-changing) | not C and not K | C or K |
    | `sc` (same clothes) | not C and K | C or not K |
    | `none` | all | nothing |

    The gallery is grouped by person once, so a chunk of queries costs memory for its own people's
    images only, not for the gallery. The rules are those of CAL's `evaluate` and
    `evaluate_with_clothes` and of FIRe2's evaluation.

    Raises:
        ConfigError: the rule is unknown.
        DataError: ids are missing or malformed, or there is no query or no gallery image.
    """

    def __init__(
        self,
        query_pid: Ids | None,
        gallery_pid: Ids | None,
        query_camid: Ids | None,
        gallery_camid: Ids | None,
        query_clothes_id: Ids | None,
        gallery_clothes_id: Ids | None,
        rule: Rule,
        device: torch.device | None = None,
    ) -> None:
        if rule not in RULES:
            raise ConfigError(
                f"Unknown junk rule {rule!r}; choose from {', '.join(RULES)}."
                + nearest(str(rule), RULES)
            )
        query, gallery = as_ids(query_pid, "query_pid"), as_ids(gallery_pid, "gallery_pid")
        for name, ids in (("query", query), ("gallery", gallery)):
            if len(ids) == 0:
                raise DataError(
                    f"There is no {name} image to rank; "
                    f"check the {name} list and the protocol's cameras."
                )
        self.rule = rule
        self.num_queries, self.num_gallery = len(query), len(gallery)
        self.query_pid, self.gallery_pid = query.to(device), gallery.to(device)
        self._camera = self._clothes = None
        if rule != "none":
            self._camera = self._pair(query_camid, gallery_camid, "camid", device)
        if rule in ("cc", "sc"):
            self._clothes = self._pair(query_clothes_id, gallery_clothes_id, "clothes_id", device)

        # A stable sort keeps each person's images in gallery order, which the tie rule relies on.
        grouped, self._order = torch.sort(self.gallery_pid, stable=True)
        self._start = torch.searchsorted(grouped, self.query_pid)
        self._count = torch.searchsorted(grouped, self.query_pid, right=True) - self._start

    def _pair(
        self, query: Ids | None, gallery: Ids | None, name: str, device: torch.device | None
    ) -> tuple[Tensor, Tensor]:
        return (
            as_ids(query, f"query_{name}", self.num_queries).to(device),
            as_ids(gallery, f"gallery_{name}", self.num_gallery).to(device),
        )

    @property
    def largest_group(self) -> int:
        """The largest number of gallery images of one query's person, at least 1."""
        return max(1, int(self._count.max()))

    def chunk(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return `(columns, positive, junk)`, each `[C, S]`, of queries `start` to `stop`.

        `columns` (int64) are gallery indices, rising along a row; S is the largest group of the
        chunk. Where both `positive` and `junk` are False the entry only fills the row.
        """
        first, count = self._start[start:stop, None], self._count[start:stop, None]
        slot = torch.arange(max(1, int(count.max())), device=count.device)
        filled = slot < count
        columns = self._order[(first + slot).clamp(max=self.num_gallery - 1)]
        junk = torch.zeros_like(filled)
        if self._camera is not None:
            query, gallery = self._camera
            junk |= gallery[columns] == query[start:stop, None]
        if self._clothes is not None:
            query, gallery = self._clothes
            same_clothes = gallery[columns] == query[start:stop, None]
            junk |= same_clothes if self.rule == "cc" else ~same_clothes
        return columns, filled & ~junk, filled & junk
