"""Of what kind the settings are that no `_target_` takes as they stand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Between:
    """The range of an `Annotated` number, both ends included."""

    low: float
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def __str__(self) -> str:
        most = "" if self.high == math.inf else f" and at most {self.high}"
        return f"at least {self.low}{most}"


_POSITIVE = Annotated[int, Between(1)]
_WORKERS = Annotated[int, Between(0, 512)]  # processes; more is a slip of the finger

PLAIN: dict[str, Any] = {
    "seed": int,
    **dict.fromkeys(("rows", "places", "batch_size"), _POSITIVE),
    **dict.fromkeys(("workers", "data.workers", "evaluation.workers"), _WORKERS),
    **dict.fromkeys(("compile", "images", "json"), bool),
    **dict.fromkeys(("precision", "device", "split", "manifest", "order"), str),
    **dict.fromkeys(("output_dir", "output", "weights"), str),
    "single_camera_factor": float,
    **dict.fromkeys(("resume", "recipe_name", "root", "folder", "protocol"), str | None),
    "checkpoint": str | list[str],
    "benchmarks": str | list[str] | None,
    "allow_targets": str | list[str] | None,
    "what": str | list[str],
    "people": list[int] | None,
    "perspectives": list[str],
    **dict.fromkeys(("input.height", "input.width"), Annotated[int, Between(1, 8192)]),
    "input.interpolation": str,
    "evaluation.mirror": bool,
    "evaluation.precision": str,
    "evaluation.batch_size": _POSITIVE,
    "evaluation.depth": _POSITIVE,
    **dict.fromkeys(("attention.people", "attention.images", "clusters.people"), _POSITIVE),
    "clusters.mining.eps": float,
    **dict.fromkeys((f"clusters.mining.{name}" for name in ("k1", "k2", "min_samples")), int),
    "embedding.people": _POSITIVE,
    "embedding.projection": str,
    "data.identities_per_batch": int,
    "data.images_per_identity": int,
    "data.check_files": bool,
    "data.on_damaged": str,
    "data.cache": str,
    "data.cache_folder": str | None,
    "data.sampler": str,
    "data.outfits_per_identity": int,
    "data.validation": str,
    "data.validation_people": float,
    **dict.fromkeys((f"data.{name}" for name in ("root", "file", "archive")), str | None),
    **dict.fromkeys((f"data.parsing.{name}" for name in ("root", "cache")), str | None),
    **dict.fromkeys((f"data.parsing.{name}" for name in ("layout", "schema", "on_missing")), str),
    "data.captions.layout": str,
    "data.captions.folder": str | None,
    "data.captions.encoder": str,
    "data.captions.summary": bool,
    "data.captions.max_missing": float,
}
"""Kind by setting, in whichever verb it occurs."""
