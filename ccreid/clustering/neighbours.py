"""Exact nearest neighbours by cosine, with the same answer from FAISS and from plain torch.

The rule that makes the answer unique: an image is its own first neighbour; the others follow by
falling cosine, computed in double precision and rounded to 2^-30; equal ones by rising index.
FAISS (single precision) therefore only proposes candidates, which are then ranked by that rule.
"""

from __future__ import annotations

import functools
import importlib
import logging
from types import ModuleType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ccreid.errors import ConfigError, DataError

Backend = Literal["auto", "faiss", "torch"]

# Rounding of the double-precision cosine: far above its error (1e-15), so that exact duplicates tie
# on every machine, and below the spacing of single-precision features.
_COSINE_STEPS = 2**30
_INDEX_RANGE = 2**31
_FIRST, _NEVER = torch.iinfo(torch.int64).max, torch.iinfo(torch.int64).min

_MARGIN = 16  # candidates asked from FAISS beyond k
_FAISS_ERROR = 1e-5  # generous bound on the error of FAISS's single-precision cosines
_ROWS_AT_ONCE = 1024  # bounds the double-precision rows of the torch search
_PAIRS_AT_ONCE = 256  # keeps the gathered features of scored pairs inside the cache

log = logging.getLogger(__name__)


@torch.no_grad()
def nearest_neighbours(features: Tensor, k: int, backend: Backend = "auto") -> Tensor:
    """Return the exact `k` nearest neighbours by cosine of every feature, itself first.

    For unit features this is the order of the squared Euclidean distance. Ties (cosines equal to
    2^-30) are ordered by index, so all backends give the same lists.

    Args:
        features: `[N, D]`, finite and not zero; the length of a feature does not matter.
        k: length of the lists; at most N columns are returned.
        backend: `"faiss"` (flat L2 search, on a GPU that FAISS can use), `"torch"`, or `"auto"`:
            FAISS where it is installed. Up to k + 16 features every image is a candidate anyway and
            FAISS is not asked.

    Returns:
        Indices `[N, min(k, N)]`, int64, on the device of `features`.

    Raises:
        ConfigError: `k` < 1, an unknown backend, or `"faiss"` where FAISS is not installed.
        DataError: features that are not `[N, D]`, not finite, or zero.
    """
    if k < 1:
        raise ConfigError(f"nearest_neighbours needs k >= 1, not {k}.")
    if backend not in ("auto", "faiss", "torch"):
        raise ConfigError(f"Unknown backend '{backend}': choose 'auto', 'faiss' or 'torch'.")
    check_features(features)
    faiss = None if backend == "torch" else _import_faiss(required=backend == "faiss")
    count = len(features)
    own = torch.arange(count, device=features.device)
    depth = k + _MARGIN
    if faiss is None or depth >= count:
        return _search_rows(features, own, min(k, count))

    candidates = _faiss_candidates(faiss, features, depth)
    cosines = paired_cosines(features, own[:, None].expand_as(candidates), candidates)
    neighbours, unsafe = _rank_candidates(candidates, cosines, k)
    if bool(unsafe.any()):
        neighbours[unsafe] = _search_rows(features, own[unsafe], k)
    return neighbours


def rank_in_sets(
    block: Tensor, exact: Tensor, size: Tensor, depth: int, backend: Backend = "auto"
) -> Tensor:
    """Return the nearest neighbours inside each set of a padded batch, by the rule above.

    Args:
        block: features `[B, N, D]`; rows of set b beyond `size[b]` may hold anything finite.
        exact: their cosines `[B, N, N]`, float64, which decide between FAISS's candidates.
        size: `[B]`.
        depth: length of the lists, at most N.
        backend: see `nearest_neighbours`.

    Returns:
        `[B, N, depth]` int64; beyond `min(depth, size[b])` columns a list means nothing.
    """
    own = torch.arange(block.shape[1], device=block.device)
    faiss = None if backend == "torch" else _import_faiss(required=backend == "faiss")
    if faiss is None or depth + _MARGIN >= block.shape[1]:
        return rank_columns(exact, own, depth, size)
    # Padded rows list themselves first and nobody lists them.
    ranks = ((own[:, None] + own[:depth]) % len(own)).repeat(len(block), 1, 1)
    for b, count in enumerate(size.tolist()):
        cosines, mine = exact[b, :count, :count], own[:count]
        if depth + _MARGIN >= count:
            ranks[b, :count, :count] = rank_columns(cosines, mine, min(depth, count))
            continue
        candidates = _faiss_candidates(faiss, block[b, :count], depth + _MARGIN)
        found, unsafe = _rank_candidates(candidates, cosines.gather(1, candidates), depth)
        if bool(unsafe.any()):
            found[unsafe] = rank_columns(cosines[unsafe], mine[unsafe], depth)
        ranks[b, :count] = found
    return ranks


def cosine_matrix(block: Tensor) -> Tensor:
    """Return all cosines `[..., N, N]` inside each set of features `[..., N, D]`, in float64."""
    block = block.double()
    half = block.shape[-2] // 2
    # The product is most of the mining's time: its lower left quarter is the upper right one.
    cosines = block.new_empty(*block.shape[:-1], block.shape[-2])
    cosines[..., :half, :] = block[..., :half, :] @ block.mT
    cosines[..., half:, half:] = block[..., half:, :] @ block[..., half:, :].mT
    cosines[..., half:, :half] = cosines[..., :half, half:].mT
    scale = cosines.diagonal(dim1=-2, dim2=-1).clamp_min(torch.finfo(torch.float64).tiny).rsqrt()
    return cosines.mul_(scale[..., :, None]).mul_(scale[..., None, :])


def paired_cosines(features: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the cosine of `features[rows]` and `features[columns]` pair by pair, in float64."""
    unit = F.normalize(features.double(), dim=1)
    pairs = zip(
        torch.split(rows.flatten(), _PAIRS_AT_ONCE),
        torch.split(columns.flatten(), _PAIRS_AT_ONCE),
        strict=True,
    )
    return torch.cat([(unit[i] * unit[j]).sum(1) for i, j in pairs]).view(rows.shape)


def rank_columns(cosines: Tensor, own: Tensor, k: int, sizes: Tensor | None = None) -> Tensor:
    """Return the first `k` columns of every row of `cosines` `[..., R, N]` by the rule above.

    Args:
        cosines: float64.
        own: column `[R]` of each row's own image.
        k: at most N.
        sizes: where sets of unequal size are padded to N, the size `[...]` of each; columns beyond
            it come last.
    """
    columns = torch.arange(cosines.shape[-1], device=cosines.device)
    keys = _ranking_keys(cosines, columns)
    if sizes is not None:
        keys.masked_fill_(columns >= sizes[..., None, None], _NEVER)
    keys.scatter_(-1, own[:, None].expand(*keys.shape[:-1], 1), _FIRST)
    return keys.topk(k, dim=-1).indices


def check_features(features: Tensor) -> None:
    """Raise DataError unless `features` is `[N, D]` with N >= 1, finite and without a zero row."""
    if features.ndim != 2 or features.numel() == 0:
        raise DataError(f"Features must be [N, D] and not empty; got {list(features.shape)}.")
    norms = torch.linalg.vector_norm(features, dim=1)
    bad = int((~torch.isfinite(norms) | (norms == 0)).sum())
    if bad:
        raise DataError(
            f"{bad} of {len(features)} features are NaN, infinite or zero and have no neighbours. "
            "The network has most likely diverged: lower the learning rate, or turn mixed "
            "precision off and look at the loss of the epoch before."
        )


def _ranking_keys(cosines: Tensor, columns: Tensor) -> Tensor:
    """Return int64 keys, all different inside a row, that are larger for earlier neighbours."""
    keys = (cosines * _COSINE_STEPS).round_().to(torch.int64)
    return keys.mul_(_INDEX_RANGE).sub_(columns)


def _rank_candidates(candidates: Tensor, cosines: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Order FAISS's candidates `[N, M]` by the rule above.

    Returns:
        The first `k` of each row, and the rows `[N]` where a full search could say otherwise: an
        image that FAISS left out is at most _FAISS_ERROR nearer than the last candidate, which
        matters where near ties reach over the whole margin (many duplicates, for instance).
    """
    own = torch.arange(len(candidates), device=candidates.device)[:, None]
    keys = _ranking_keys(cosines, candidates).masked_fill_(candidates == own, _FIRST)
    best = keys.topk(k, dim=1).indices
    neighbours = candidates.gather(1, best)
    last_kept = cosines.gather(1, best[:, -1:]).squeeze(1)
    unsafe = last_kept <= cosines[:, -1] + _FAISS_ERROR
    return neighbours, unsafe | (neighbours[:, 0] != own.squeeze(1))


def _search_rows(features: Tensor, rows: Tensor, k: int) -> Tensor:
    unit = F.normalize(features.double(), dim=1)
    chunks = torch.split(rows, _ROWS_AT_ONCE)
    return torch.cat([rank_columns(unit[chunk] @ unit.T, chunk, k) for chunk in chunks])


def _import_faiss(required: bool) -> ModuleType | None:
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        if not required:
            return None
        raise ConfigError(
            "backend='faiss' needs FAISS, which cannot be imported here. Install "
            "'ccreid[cpu]' (faiss-cpu) or 'ccreid[gpu]' (faiss-gpu-cu12), never both, or use "
            "backend='auto' or 'torch'."
        ) from error


def _faiss_candidates(faiss: ModuleType, features: Tensor, depth: int) -> Tensor:
    vectors = F.normalize(features.float(), dim=1).cpu().numpy()
    columns = None
    if faiss.get_num_gpus() > 0:
        try:
            _, columns = faiss.knn_gpu(_gpu_resources(), vectors, vectors, depth)
        except (RuntimeError, AttributeError) as error:  # its GPU memory is full, or is not for it
            reason = str(error).strip().partition("\n")[0]
            log.warning("FAISS cannot use the GPU and searches on the CPU: %s", reason)
    if columns is None:
        # The function form of IndexFlatL2: no index has to be built and filled.
        _, columns = faiss.knn(vectors, vectors, depth)
    return torch.from_numpy(columns).to(features.device)


@functools.lru_cache(maxsize=1)
def _gpu_resources() -> object:
    resources: object = importlib.import_module("faiss").StandardGpuResources()
    return resources
