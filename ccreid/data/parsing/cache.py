"""A mirror of 8-bit PNGs in canonical labels, made once from masks of any kind."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from ccreid.data.files import SEPARATOR, read_bytes, user_cache
from ccreid.data.parsing.files import read_notes, read_source, resize_labels, write_labels
from ccreid.data.parsing.schemas import Schema, is_implausible
from ccreid.errors import ConfigError, DataError
from ccreid.runs.jobs import hold, short_hash
from ccreid.runs.processes import process_rank

_VERSION = 1  # to be raised when a schema's table changes: masks are then converted again
_MANY = 500  # from here on a progress bar is shown


class Conversion(NamedTuple):
    """One mask to convert: the image, its source mask and where the canonical mask goes."""

    image: str
    source: Path
    target: Path


class Facts(NamedTuple):
    """What was found when a mask was converted."""

    resized: bool
    implausible: bool


def default_cache() -> Path:
    """Return the folder of all cached masks: `ccreid/parsing` in the user's cache."""
    return user_cache() / "parsing"


def cache_folder(cache: str | None, benchmark: str, *source: str) -> Path:
    """Return the folder for masks of one source, so that another setting finds no old masks.

    Args:
        cache: folder of all cached masks; None for the user's cache.
        benchmark: its name.
        source: whatever decides the masks: folders, layout, schema.
    """
    above = default_cache() if cache is None else Path(cache).expanduser()
    return above / f"{benchmark}-{short_hash(chr(0).join((*source, str(_VERSION))))}"


def convert_all(masks: Iterable[Conversion], schema: Schema, folder: Path) -> list[Facts]:
    """Convert what is not in the cache yet, or was changed since; return the facts of all.

    A killed conversion goes on where it was; of several processes one converts and the others wait.

    Raises:
        ConfigError: the cache cannot be written.
        DataError: a mask that cannot be read, or does not fit the schema.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with hold(folder, patience=-1):
            return [_facts_of(mask, schema) for mask in _watched(list(masks))]
    except OSError as error:
        raise ConfigError(
            f"Cannot write the converted masks into {folder}: {error}. "
            "Choose another folder: data.parsing.cache=<folder>"
        ) from None


def _watched(masks: list[Conversion]) -> Iterable[Conversion]:
    from rich.progress import track

    quiet = process_rank() != 0 or len(masks) < _MANY
    return track(masks, "Parsing masks", transient=True, disable=quiet)


def _facts_of(mask: Conversion, schema: Schema) -> Facts:
    known = _cached(mask)
    return _convert(mask, schema) if known is None else known


def _cached(mask: Conversion) -> Facts | None:
    """Return the facts inside a cached mask; None if it is absent or of another source file."""
    try:
        if int(mask.target.stat().st_mtime) != int(mask.source.stat().st_mtime):
            return None
        facts = read_notes(mask.target)["ccreid"].split()
    except (FileNotFoundError, KeyError, DataError):
        return None
    return Facts(*(name in facts for name in Facts._fields))


def _convert(mask: Conversion, schema: Schema) -> Facts:
    labels, num_labels = read_source(str(mask.source))
    if num_labels not in (None, schema.num_labels):
        raise DataError(
            f"{mask.source} has {num_labels} channels, but schema '{schema.name}' has "
            f"{schema.num_labels} labels. Say which network made it: data.parsing.schema=<name>"
        )
    labels = schema.convert(labels, str(mask.source))
    size = image_size(mask.image)
    resized = labels.shape != size[::-1]
    if resized:
        labels = resize_labels(labels, size)
    facts = Facts(resized, is_implausible(labels))
    said = " ".join(name for name, holds in facts._asdict().items() if holds)
    write_labels(mask.target, labels, {"ccreid": said or "good"})
    made = int(mask.source.stat().st_mtime)  # as `make` does: by this a changed source is noticed
    os.utime(mask.target, (made, made))
    return facts


def image_size(path: str) -> tuple[int, int]:
    """Return width and height of an image without decoding it.

    Raises:
        DataError: no image.
    """
    content = io.BytesIO(read_bytes(path)) if SEPARATOR in path else path
    try:
        with Image.open(content) as image:
            size: tuple[int, int] = image.size
            return size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a whole image ({error}). Replace it.") from None
