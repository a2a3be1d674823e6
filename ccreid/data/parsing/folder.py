"""A folder of masks in the making: what is there, what is absent, who made them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ccreid
from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.files import read_labels
from ccreid.data.parsing.files import read_record, write_labels, write_record
from ccreid.data.parsing.layouts import image_folder, image_place, require_own_places
from ccreid.data.parsing.schemas import SCHEMAS, is_implausible
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError, DataError, nearest, require


class MaskFolder:
    """Canonical masks of a benchmark's images, 8-bit PNGs under the images' relative paths.

    Args:
        folder: made when needed.
        benchmark: whose images.
        samples: the images that are to have masks.
        model: what makes the masks, as the user names it.
        schema: the name of the schema it labels in.
        num_labels: how many labels it has.

    Raises:
        ConfigError: the folder holds masks of another model or benchmark, or other files where
            masks are to go; or the model does not have the schema's labels.
        DataError: the samples are tracklets, or two images would share a mask.
    """

    def __init__(
        self,
        folder: Path | str,
        benchmark: Benchmark,
        samples: Sequence[Sample],
        *,
        model: str,
        schema: str,
        num_labels: int,
    ) -> None:
        self.folder = Path(folder).expanduser()
        self.benchmark, self.samples = benchmark, samples
        self.model, self.schema = model, schema
        wanted = f"one of {', '.join(SCHEMAS)}.{nearest(schema, SCHEMAS)}".rstrip(".")
        require(schema in SCHEMAS, "parser.schema", schema, wanted)
        if num_labels != SCHEMAS[schema].num_labels:
            raise ConfigError(
                f"{model} has {num_labels} labels, but schema '{schema}' has "
                f"{SCHEMAS[schema].num_labels}. Say what its labels mean: parser.schema=<name>, or "
                "choose another parser.model."
            )
        if any(sample.frames for sample in samples):
            raise DataError(
                f"{benchmark.name} is a video benchmark: parsing masks are made for images only."
            )
        require_own_places(samples, self._image_folder)
        self._require_own()

    def absent(self) -> list[Sample]:
        """Return the samples that have no mask yet."""
        return [sample for sample in self.samples if not self.place(sample).exists()]

    def place(self, sample: Sample) -> Path:
        """Return where the mask of a sample is, or will be."""
        return self.folder / image_place(sample, self._image_folder).with_suffix(".png")

    def add(self, sample: Sample, labels: NDArray[np.uint8]) -> None:
        """Write the mask of a sample, whole or not at all, from labels of the model [H, W]."""
        place = self.place(sample)
        write_labels(place, SCHEMAS[self.schema].convert(labels, str(place)))

    def record(self) -> dict[str, Any]:
        """Write and return what this folder holds: model, date and counts."""
        there = [place for sample in self.samples if (place := self.place(sample)).exists()]
        record = {
            "benchmark": self.benchmark.name,
            "model": self.model,
            "model_schema": self.schema,
            "layout": "mirror",
            "schema": "canonical",
            "images": len(self.samples),
            "masks": len(there),
            "implausible": sum(is_implausible(read_labels(str(place))) for place in there),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "ccreid": ccreid.__version__,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_record(self.folder, record)
        return record

    @cached_property
    def _image_folder(self) -> str:
        return image_folder(self.benchmark)

    def _require_own(self) -> None:
        remedy = "Choose another folder (output_dir=<folder>), or remove this one."
        is_begun = len(self.absent()) < len(self.samples)  # before the record, which comes first
        earlier = read_record(self.folder)
        if earlier is None:
            if is_begun:
                raise ConfigError(
                    f"{self.folder} holds files where masks are to go, and ccreid.parse did not "
                    f"make them. {remedy}"
                )
            return
        mine = {"benchmark": self.benchmark.name, "model": self.model, "model_schema": self.schema}
        theirs = {key: earlier.get(key) for key in mine}
        if theirs != mine:
            raise ConfigError(
                f"{self.folder} holds masks of {theirs['benchmark']} by {theirs['model']} "
                f"({theirs['model_schema']}), not of {mine['benchmark']} by {mine['model']} "
                f"({mine['model_schema']}). {remedy}"
            )
