"""Features of captions: computed where the run starts, or read from a safetensors file of ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ccreid.data.captions.files import (
    Captions,
    distinct_texts,
    image_key,
    present_perspectives,
    texts_hash,
)
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError, DataError
from ccreid.models.text_encoders import OFFLINE_ENCODERS, TextEncoder
from ccreid.writing import unwritable, write_whole

_KEY = "features"


@dataclass(frozen=True)
class CaptionFeatures:
    """Text features of the train images, every distinct one stored once.

    Attributes:
        table: the features, [U, D] float32.
        rows: per image and perspective the row of the table, -1 where there is no text,
            [N, P] int64.
        perspectives: the names of the P columns.
        encoder: what computed them.
    """

    table: NDArray[np.float32]
    rows: NDArray[np.int64]
    perspectives: tuple[str, ...]
    encoder: str


def encode(captions: Captions, encoder: TextEncoder) -> NDArray[np.float32]:
    """Return the features of the distinct texts in sorted order, [U, D] float32."""
    texts = distinct_texts(captions)
    return encoder.fit(texts).encode(texts)


def computed_features(
    captions: Captions, encoder: str, samples: Sequence[Sample]
) -> CaptionFeatures:
    """Encode texts here and now, with an encoder that needs no download.

    Args:
        captions: of the train images only: an encoder may be fitted on them.
        encoder: one of `OFFLINE_ENCODERS`.
        samples: the images to look up.

    Raises:
        ConfigError: the encoder is none of these, or its package is not installed.
    """
    if encoder not in OFFLINE_ENCODERS:
        raise ConfigError(
            f"data.captions.encoder={encoder} cannot encode a benchmark's own captions "
            f"while a run starts; {', '.join(OFFLINE_ENCODERS)} can. For any other, write the "
            "features first: python -m ccreid.encode_text, then data.captions.layout=ccreid"
        )
    return _looked_up(captions, encode(captions, OFFLINE_ENCODERS[encoder]()), encoder, samples)


def write_features(
    path: Path, captions: Captions, features: NDArray[np.float32], encoder: TextEncoder
) -> None:
    """Write features of the distinct texts, with what they were computed of and by."""
    metadata = {
        "encoder": encoder.name,
        "source": encoder.source,
        "dimension": str(features.shape[1]),
        "texts": texts_hash(distinct_texts(captions)),
    }
    with write_whole(path, partial(unwritable, setting="folder")) as file:
        file.write(save({_KEY: np.ascontiguousarray(features)}, metadata))


def stored_features(
    folder: Path, encoder: str, captions: Captions, samples: Sequence[Sample], benchmark: str
) -> CaptionFeatures:
    """Read the features that `write_features` wrote for these captions.

    Args:
        folder: where `<encoder>.safetensors` lies.
        encoder: the name of the file.
        captions: the texts as they are now.
        samples: the images to look up.
        benchmark: its name, for what to do about an error.

    Raises:
        DataError: there is no such file, or it holds features of other texts.
    """
    path = folder / f"{encoder}.safetensors"
    command = (
        f"python -m ccreid.encode_text data={benchmark} folder={folder} "
        "encoder=<tfidf, minilm or open_clip>"
    )
    again = f"Write it again: {command}"
    if not path.is_file():
        found = ", ".join(sorted(file.stem for file in folder.glob("*.safetensors")))
        raise DataError(
            f"There is no {path}; {folder} holds features by {found or 'no encoder'}.\n"
            f"Choose one with data.captions.encoder=<name>, or make them:\n{command}"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            metadata, table = file.metadata() or {}, file.get_tensor(_KEY)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is no file of text features ({error}). {again}") from None
    texts = distinct_texts(captions)
    if metadata.get("texts") != texts_hash(texts):
        raise DataError(
            f"{path} holds features of other texts than those in {folder}, which were changed or "
            f"added to after it was written. {again}"
        )
    wanted = f"[{len(texts)}, {metadata.get('dimension')}]"
    if wanted != json.dumps(table.shape) or not np.isfinite(table).all():
        raise DataError(
            f"{path} should hold {wanted} finite numbers, as its own metadata says, but holds "
            f"{json.dumps(table.shape)}. {again}"
        )
    return _looked_up(captions, table.astype(np.float32), metadata.get("source", encoder), samples)


def _looked_up(
    captions: Captions, table: NDArray[np.float32], encoder: str, samples: Sequence[Sample]
) -> CaptionFeatures:
    row = {text: number for number, text in enumerate(distinct_texts(captions))}
    names = present_perspectives(captions)
    rows = np.full((len(samples), len(names)), -1, dtype=np.int64)
    for line, sample in zip(rows, samples, strict=True):
        texts = captions.get(image_key(sample), {})
        line[:] = [row[texts[name]] if name in texts else -1 for name in names]
    return CaptionFeatures(table, rows, names, encoder)
