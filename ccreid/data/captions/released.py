"""The text features that DIFFER's authors released: their npz and JSON files, read as they are.

Layout, keys and row order are those of https://github.com/xliangp/DIFFER:

    <folder>/<encoder>/train.npz                     `data` [N·P, D], `metadata` [N] image names
    <folder>/train_caption_summary_biometric.json    {"<pid>": {"ft_<encoder>": [[D numbers]]}}
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ccreid.data.archives import require_safe_members
from ccreid.data.captions.features import CaptionFeatures
from ccreid.data.captions.files import PERSPECTIVES, image_key
from ccreid.data.sample import Sample
from ccreid.errors import DataError, nearest

FEATURES, SUMMARIES = "train.npz", "train_caption_summary_biometric.json"
_LARGEST_ARRAY = 2**36  # bytes; features of CCVID's frames are more than a gigabyte
_EXTENSION = re.compile(r"\.(jpe?g|png)$", re.IGNORECASE)


def released_features(
    folder: Path, encoder: str, samples: Sequence[Sample], summary: bool = False
) -> CaptionFeatures:
    """Read released features; `val.npz`, which the authors' PRCC loader wants, is not needed.

    An image is known by its path relative to the folder of its benchmark's people, without
    extension: `001/A_cropped_rgb001` (PRCC), `001_1_c3_015833` (LTCC, Celeb-reID).

    Args:
        folder: the authors' CAPTION_DIR.
        encoder: the folder in it, for instance EVA02-CLIP-L-14.
        samples: the images to look up.
        summary: replace the biometric text of an image by the summary of its person
            (SUMMERY_TEXT of the authors' configs: on for PRCC, off for LTCC and Celeb-reID-light).

    Raises:
        DataError: a file is missing, pickled, or not laid out like this.
    """
    path = folder / encoder / FEATURES
    if not path.is_file():
        found = sorted(file.parent.name for file in folder.glob(f"*/{FEATURES}"))
        raise DataError(
            f"There is no {path}; folders with {FEATURES} in {folder}: "
            f"{', '.join(found) or 'none'}.{nearest(encoder, found)}\n"
            "Say where the released text features are: data.captions.folder=<CAPTION_DIR> "
            "data.captions.encoder=<one of these folders>"
        )
    table, names = _read_npz(path)
    texts = len(table) // len(names)
    first_row = {_EXTENSION.sub("", name): texts * n for n, name in enumerate(names)}
    if len(first_row) < len(names):
        raise DataError(f"{path}: `metadata` names {len(names) - len(first_row)} images twice.")
    rows = np.full((len(samples), texts), -1, dtype=np.int64)
    for line, sample in zip(rows, samples, strict=True):
        start = _find(first_row, sample)
        if start is not None:
            line[:] = range(start, start + texts)
    if summary:
        table, rows[:, 0] = _with_summaries(folder / SUMMARIES, encoder, table, samples)
    return CaptionFeatures(table, rows, PERSPECTIVES[:texts], encoder)


def _find(first_row: dict[str, int], sample: Sample) -> int | None:
    long = _EXTENSION.sub("", image_key(sample))
    # A name with a folder in it is never matched by the base name alone: PRCC's people share those.
    return first_row.get(long, first_row.get(PurePosixPath(long).name))


def _read_npz(path: Path) -> tuple[NDArray[np.float32], list[str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            require_safe_members(archive, path, largest=_LARGEST_ARRAY)
        with np.load(path, allow_pickle=False) as file:
            data, names = file["data"], [str(name) for name in file["metadata"].reshape(-1)]
    except (OSError, KeyError, ValueError, MemoryError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is not an npz file with the plain arrays `data` and `metadata` ({error}). "
            "Pickled objects are never loaded, because they can run code; whoever trusts the file "
            "can save its arrays again with numpy.savez."
        ) from None
    fits = data.ndim == 2 and names and len(data) and len(data) % len(names) == 0
    if not fits or len(data) // len(names) > len(PERSPECTIVES) or data.dtype.kind != "f":
        raise DataError(
            f"{path}: `data` should hold 1 to {len(PERSPECTIVES)} rows of numbers for each of the "
            f"{len(names)} names in `metadata`, but is {data.dtype} of shape {data.shape}."
        )
    if not np.isfinite(data).all():
        raise DataError(f"{path}: `data` holds numbers that are not finite.")
    return data.astype(np.float32), names


def _with_summaries(
    path: Path, encoder: str, table: NDArray[np.float32], samples: Sequence[Sample]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Append the summaries to the table; return it and the row of every sample's person."""
    features = _read_summaries(path, f"ft_{encoder}", table.shape[1])
    row = {pid: len(table) + number for number, pid in enumerate(features)}
    rows = np.array([row.get(sample.pid, -1) for sample in samples], dtype=np.int64)
    return np.concatenate([table, *(feature[None] for feature in features.values())]), rows


def _read_summaries(path: Path, key: str, dimension: int) -> dict[int, NDArray[np.float32]]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        people = {pid: record[key] for pid, record in content.items()}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise DataError(
            f'{path} should be a JSON file of {{"<pid>": {{"{key}": [...]}}}} ({error!r}). '
            "Get it from the release, or set data.captions.summary=false"
        ) from None
    summaries: dict[int, NDArray[np.float32]] = {}
    for pid, numbers in people.items():
        # Keys are the benchmark's own numbers, neither padded nor relabelled: "1" for folder 001.
        if not pid.isdecimal() or int(pid) in summaries:
            raise DataError(f"{path}: '{pid}' is no person's number, or is there twice.")
        summaries[int(pid)] = _vector(numbers, dimension, f"{path}, person {pid}")
    return summaries


def _vector(numbers: Any, dimension: int, where: str) -> NDArray[np.float32]:
    """Return [D] or [1, D] numbers as [D]."""
    try:
        vector = np.asarray(numbers, dtype=np.float32)
    except (TypeError, ValueError):
        vector = np.empty(0, dtype=np.float32)
    if vector.shape not in ((dimension,), (1, dimension)) or not np.isfinite(vector).all():
        raise DataError(
            f"{where} should have {dimension} finite numbers, as {FEATURES} has; found an array of "
            f"shape {vector.shape}."
        )
    return vector.reshape(dimension)
