"""ParsingStore: human-parsing masks in the library's canonical labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.benchmarks.ondisk import OnDisk
from ccreid.data.files import read_labels
from ccreid.data.parsing.anatomy import choose_schema
from ccreid.data.parsing.cache import Conversion, Facts, cache_folder, convert_all, image_size
from ccreid.data.parsing.files import read_record, read_source
from ccreid.data.parsing.layouts import (
    LAYOUTS,
    choose_layout,
    find_mask,
    image_folder,
    image_place,
    require_own_places,
)
from ccreid.data.parsing.report import ParsingReport
from ccreid.data.parsing.schemas import SCHEMAS, Schema
from ccreid.data.sample import Sample
from ccreid.errors import DataError, require

ON_MISSING = ("error", "no_erase_no_att", "skip")
_LOOKED_AT = 200  # masks by which a schema is decided


class ParsingStore:
    """Reads the masks that come with a benchmark, or that its user has or made.

    Masks of any layout and schema become one 8-bit PNG per image in a cache, once. It holds labels
    only: of probabilities the largest decides. Canonical labels have no sides, so that a mask can
    be mirrored with its image and no label has to be swapped. Masks are for training alone: nothing
    here is needed to evaluate.

    Args:
        benchmark: whose masks to read.
        root: folder of the masks; None: they come with the benchmark, or lie in its own folder.
        layout: one of `LAYOUTS`, or `auto`.
        schema: one of `SCHEMAS`, or `auto`.
        on_missing: for an image without a mask: `error`; `no_erase_no_att` (its mask is all
            background, which a method does not trust); `skip` (see `usable`).
        cache: folder for the converted masks; None for the user's cache.

    Raises:
        ConfigError: an unknown layout, schema or `on_missing`.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        root: str | None = None,
        layout: str = "auto",
        schema: str = "auto",
        on_missing: str = "error",
        cache: str | None = None,
    ) -> None:
        for setting, value, choices in (
            ("layout", layout, ("auto", *LAYOUTS)),
            ("schema", schema, ("auto", *SCHEMAS)),
            ("on_missing", on_missing, ON_MISSING),
        ):
            wanted = f"one of {', '.join(choices)}"
            require(value in choices, f"data.parsing.{setting}", value, wanted)
        self.benchmark = benchmark
        self.root, self.cache = root, cache
        self.wanted_layout, self.wanted_schema, self.on_missing = layout, schema, on_missing
        self._files: dict[str, str] = {}
        self.num_decided = 0

    @cached_property
    def comes_with_benchmark(self) -> bool:
        """Whether the masks are the benchmark's own, exact and canonical."""
        return (
            self.root is None and self.benchmark.parsing_path(self.benchmark.train[0]) is not None
        )

    @cached_property
    def folder(self) -> Path:
        """The folder of the masks.

        Raises:
            DataError: none was named, and the benchmark has none.
        """
        if self.root is not None:
            folder = Path(self.root).expanduser()
        elif isinstance(self.benchmark, OnDisk):
            folder = self.benchmark.root
        else:
            raise DataError(self._no_mask(self.benchmark.train[0]))
        if not folder.is_dir():
            raise DataError(
                f"data.parsing.root={self.root}: there is no folder {folder.absolute()}. Make "
                f"masks: python -m ccreid.parse data={self.benchmark.name}"
            )
        return folder

    @cached_property
    def layout(self) -> str:
        """How the masks lie in their folder, decided if it was `auto`."""
        is_ours = self.wanted_layout == "auto" and read_record(self.folder) is not None
        wanted = "mirror" if is_ours else self.wanted_layout
        return choose_layout(self.benchmark, self.folder, wanted)

    @cached_property
    def schema(self) -> Schema:
        """What their labels mean, decided if it was `auto`."""
        if self.comes_with_benchmark:
            return SCHEMAS["canonical"]
        if self.wanted_schema != "auto":
            return SCHEMAS[self.wanted_schema]
        if (record := read_record(self.folder)) is not None:
            return SCHEMAS[record["schema"]]
        train = self.benchmark.train
        order = np.random.default_rng(0).permutation(len(train))
        found = (path for i in order if (path := self._source(train[i])) is not None)
        masks = [read_source(str(path)) for path in islice(found, _LOOKED_AT)]
        self.num_decided = len(masks)
        if not masks:
            raise DataError(self._no_mask(train[0]))
        channels = {mask.num_labels for mask in masks}
        if len(channels) > 1:
            raise DataError(
                f"The masks in {self.folder} are of several kinds: probabilities of {channels} "
                "classes (None: labels). Keep one kind in a folder."
            )
        num_labels = next(iter(channels), None)
        return choose_schema([mask.labels for mask in masks], num_labels, str(self.folder))

    @property
    def has_garments(self) -> bool:
        """Whether garments are told from limbs, by whatever network made the masks."""
        if self.comes_with_benchmark:
            return True
        record = read_record(self.folder)
        made_of = SCHEMAS[record["model_schema"]] if record is not None else self.schema
        return self.schema.has_garments and made_of.has_garments

    def require(self, samples: Sequence[Sample]) -> ParsingReport:
        """Find, and where needed convert, the masks of some images.

        Raises:
            DataError: a mask is missing and `on_missing` is `error`; no image has a mask; a mask
                cannot be read; two images would share a mask; the samples are tracklets.
        """
        if any(sample.frames for sample in samples):
            raise DataError(
                f"{self.benchmark.name} is a video benchmark: parsing masks are read for images "
                "only. Choose a method that needs no masks."
            )
        if self.comes_with_benchmark:
            own = {sample.path: self.benchmark.parsing_path(sample) for sample in samples}
            self._files |= {image: mask for image, mask in own.items() if mask is not None}
            facts: list[Facts] = []
            source = "they come with the benchmark"
        else:
            facts = self._convert(samples)
            decided = f", decided by {self.num_decided} masks" if self.num_decided else ""
            source = (
                f"from {self.folder} (layout {self.layout}, schema {self.schema.name}{decided})"
            )
        missing = [sample for sample in samples if sample.path not in self._files]
        if missing and (self.on_missing == "error" or len(missing) == len(samples)):
            raise DataError(f"{len(missing)} of {len(samples)}: {self._no_mask(missing[0])}")
        return ParsingReport(
            source,
            len(samples),
            len(missing),
            resized=sum(fact.resized for fact in facts),
            implausible=sum(fact.implausible for fact in facts),
            on_missing=self.on_missing,
        )

    def usable(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples to train on: with `on_missing=skip` those that `require` found."""
        if self.on_missing != "skip":
            return list(samples)
        return [sample for sample in samples if sample.path in self._files]

    def get(self, sample: Sample) -> NDArray[np.uint8]:
        """Return the mask of one sample, [H, W] uint8 of canonical labels.

        Raises:
            DataError: there is no mask, it is unreadable, or it holds a label beyond 9.
        """
        path = self._files.get(sample.path)
        if path is None and self.comes_with_benchmark:
            path = self.benchmark.parsing_path(sample)
        if path is not None:
            return SCHEMAS["canonical"].convert(read_labels(path), path)
        if self.on_missing == "no_erase_no_att":
            width, height = image_size(sample.path)
            return np.zeros((height, width), dtype=np.uint8)
        raise DataError(self._no_mask(sample))

    @cached_property
    def _image_folder(self) -> str:
        return image_folder(self.benchmark)

    def _source(self, sample: Sample) -> Path | None:
        place = image_place(sample, self._image_folder)
        return find_mask(sample, place, self.layout, self.folder)

    def _convert(self, samples: Sequence[Sample]) -> list[Facts]:
        source = (str(self.folder.absolute()), self.layout, self.schema.name, self._image_folder)
        folder = cache_folder(self.cache, self.benchmark.name, *source)
        require_own_places(samples, self._image_folder)
        masks = [
            Conversion(
                sample.path,
                mask,
                folder / image_place(sample, self._image_folder).with_suffix(".png"),
            )
            for sample in samples
            if (mask := self._source(sample)) is not None
        ]
        facts = convert_all(masks, self.schema, folder)
        self._files |= {mask.image: str(mask.target) for mask in masks}
        return facts

    def _no_mask(self, sample: Sample) -> str:
        name = self.benchmark.name
        if self.root is None and not isinstance(self.benchmark, OnDisk):
            return (
                f"No parsing mask for {sample.path}: {name} comes without one. Say where masks "
                "are (data.parsing.root=<folder>), choose a method that needs none, or "
                "data=virtual, which has them."
            )
        place = image_place(sample, self._image_folder)
        expected = next(LAYOUTS[self.layout](self.folder, place))
        return (
            f"No parsing mask for {sample.path}, expected at {expected} (layout {self.layout}). "
            f"Add it, make masks (python -m ccreid.parse data={name}), or go on without: "
            "data.parsing.on_missing=no_erase_no_att (such images are trained on as they are) or "
            "skip (they are left out)."
        )
