"""Our own caption file: one JSONL of texts, a line per image, every text under its perspective."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.files import SEPARATOR
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError, DataError, nearest
from ccreid.writing import unwritable, write_whole

PERSPECTIVES = ("biometrics", "hairstyle", "clothing", "pose", "interaction", "environment")
"""What a caption speaks of; the numbers 0 to 5 of DIFFER's release are these, in this order."""

TEXTS = "captions.jsonl"

Captions = dict[str, dict[str, str]]
"""Per image key the texts by perspective."""


def image_key(sample: Sample) -> str:
    """Name an image the same way on every machine: the last two parts of its path."""
    return "/".join(sample.path.rpartition(SEPARATOR)[2].replace("\\", "/").split("/")[-2:])


def keys_of(samples: Sequence[Sample]) -> list[str]:
    """Return the key of every sample; a DataError says which two images share one."""
    owners: dict[str, str] = {}
    for sample in samples:
        owner = owners.setdefault(image_key(sample), sample.path)
        if owner != sample.path:
            raise DataError(
                f"{owner} and {sample.path} both end in {image_key(sample)}, the name that "
                "captions know an image by. Rename one of the folders."
            )
    return [image_key(sample) for sample in samples]


def captions_folder(folder: str | Path | None, benchmark: Benchmark) -> Path:
    """Return where a benchmark's captions lie unless the user says otherwise."""
    return Path("captions") / benchmark.name if folder is None else Path(folder).expanduser()


def benchmark_captions(benchmark: Benchmark) -> Captions:
    """Return the texts that come with a benchmark, of its train images.

    Raises:
        DataError: it comes without any, or not with one text per perspective.
    """
    captions: Captions = {}
    for key, sample in zip(keys_of(benchmark.train), benchmark.train, strict=True):
        texts = benchmark.captions(sample)
        if texts is None:
            continue
        if len(texts) != len(PERSPECTIVES):
            raise DataError(
                f"{benchmark.name} has {len(texts)} texts for {sample.path}; wanted are "
                f"{len(PERSPECTIVES)}: {', '.join(PERSPECTIVES)}."
            )
        captions[key] = dict(zip(PERSPECTIVES, texts, strict=True))
    if not captions:
        raise DataError(
            f"{benchmark.name} comes without captions. Make some: python -m ccreid.caption "
            f"data={benchmark.name} captioner=transformers, then set data.captions.layout=ccreid; "
            "or take data=virtual, which has them."
        )
    return captions


def read_captions(path: Path) -> Captions:
    """Read a file of texts; where an image has several lines, they complete each other.

    Raises:
        DataError: no such file, or a line that is no caption; the message names it.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"No captions can be read from {path} ({error}). Make them with python -m "
            "ccreid.caption, or say where they are: data.captions.folder=<folder>"
        ) from None
    captions: Captions = {}
    lines = content.removesuffix("\n").split("\n") if content else []  # not at U+2028
    for number, line in enumerate(lines, start=1):
        image, texts = _parse(line, f"{path}, line {number}")
        captions.setdefault(image, {}).update(texts)
    return captions


def of_images(captions: Captions, samples: Sequence[Sample]) -> Captions:
    """Return the captions of these images alone, in their order."""
    return {key: captions[key] for key in keys_of(samples) if key in captions}


def append_captions(path: Path, records: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """Append one line per image.

    Raises:
        ConfigError: the file cannot be written.
    """
    lines = [_line(image, texts) for image, texts in records]
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
    except OSError as error:
        raise unwritable(path, error, setting="folder") from None


def write_captions(path: Path, captions: Captions) -> None:
    """Write a whole file of texts, or nothing."""
    lines = [_line(image, texts) for image, texts in captions.items()]
    with write_whole(path, partial(unwritable, setting="folder")) as file:
        file.write("".join(lines).encode())


def drop_half_line(path: Path) -> bool:
    """Cut off a last line that an interruption left without an end; say whether there was one."""
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end == len(content):
        return False
    with path.open("r+b") as file:
        file.truncate(end)
    return True


def distinct_texts(captions: Captions) -> list[str]:
    """Return every text once, sorted: the rows of a feature file stand in this order."""
    return sorted({text for texts in captions.values() for text in texts.values()})


def texts_hash(texts: Iterable[str]) -> str:
    """Return the SHA-256 that ties features to their texts."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


def present_perspectives(captions: Captions) -> tuple[str, ...]:
    """Return the perspectives that at least one image has a text for, in their fixed order."""
    found = {name for texts in captions.values() for name in texts}
    return tuple(name for name in PERSPECTIVES if name in found)


def require_perspectives(names: Sequence[str], setting: str, known: Sequence[str]) -> None:
    """Raise a ConfigError unless all names are known and none is said twice."""
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{setting}: there is no perspective '{name}'.{nearest(name, known)} "
                f"There are: {', '.join(known)}"
            )
    if len(set(names)) < len(names):
        raise ConfigError(f"{setting}={', '.join(names)} names a perspective twice.")


def _line(image: str, texts: Mapping[str, str]) -> str:
    return json.dumps({"image": image, "captions": dict(texts)}, ensure_ascii=False) + "\n"


def _parse(line: str, where: str) -> tuple[str, dict[str, str]]:
    try:
        record: Any = json.loads(line)
        image, texts = record["image"], record["captions"]
        is_caption = isinstance(image, str) and all(_is_text(text) for text in texts.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        is_caption = False
    if not is_caption:
        raise DataError(
            f'{where} should be {{"image": "<folder>/<file>", "captions": {{"<perspective>": '
            f'"<text>"}}}} but is {line[:80]!r}.'
        )
    for name in texts:
        if name not in PERSPECTIVES:
            raise DataError(
                f"{where}: there is no perspective '{name}'.{nearest(name, PERSPECTIVES)} "
                f"There are: {', '.join(PERSPECTIVES)}"
            )
    return image, texts


def _is_text(text: Any) -> bool:
    return isinstance(text, str) and bool(text.strip())
