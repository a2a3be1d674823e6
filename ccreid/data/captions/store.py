"""CaptionStore: what is said of an image, as one feature per perspective."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.captions.features import CaptionFeatures, computed_features, stored_features
from ccreid.data.captions.files import (
    PERSPECTIVES,
    TEXTS,
    benchmark_captions,
    captions_folder,
    of_images,
    read_captions,
    require_perspectives,
)
from ccreid.data.captions.released import released_features
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError, DataError, require

LAYOUTS = ("benchmark", "ccreid", "differ")


class CaptionStore:
    """Gives the text features of the train images.

    An image without text, where some are allowed, gets the mean of the perspective's normalised
    features: its loss then pulls towards what all texts have in common, and as a negative of the
    other images it is nobody's in particular. (A row of zeros would be a target that nothing
    comes near, and push the image away from every text there is.)

    Args:
        benchmark: whose train images to describe.
        listed: the train images that the texts on disk may be of; None means those of `benchmark`.
            Features on disk belong to all of these texts, however many images were left out since.
        biometric: the perspective of row 0.
        non_biometric: the perspectives of rows 1 to K.
        layout: `benchmark` (the texts that come with it, encoded now), `ccreid` (our files:
            `captions.jsonl` and `<encoder>.safetensors`) or `differ` (the authors' release).
        folder: of the files; None means `captions/<benchmark>`.
        encoder: tfidf or minilm, or the name of the features on disk.
        summary: with `differ`, use the summary of the person as biometric text.
        max_missing: the part of the images that may lack a text, from 0 to less than 1.

    Attributes:
        perspectives: what rows 0 to K speak of.
        encoder: what computed the features.
        missing: the paths of images that lack a text.

    Raises:
        ConfigError: an unknown layout, encoder or perspective, or one that the source has not.
        DataError: files are missing or unfit, or too many images have no text.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        biometric: str = "biometrics",
        non_biometric: Sequence[str] = ("hairstyle", "clothing"),
        *,
        layout: str = "benchmark",
        folder: str | Path | None = None,
        encoder: str = "tfidf",
        summary: bool = False,
        max_missing: float = 0.0,
        listed: Sequence[Sample] | None = None,
    ) -> None:
        require(layout in LAYOUTS, "data.captions.layout", layout, f"one of {', '.join(LAYOUTS)}")
        require(0 <= max_missing < 1, "data.captions.max_missing", max_missing, "in [0, 1)")
        is_list = not isinstance(non_biometric, str)
        require(is_list, "method.non_biometric", non_biometric, f"a list: [{non_biometric}]")
        self.perspectives = (biometric, *non_biometric)
        require_perspectives(
            self.perspectives, "method.biometric and method.non_biometric", PERSPECTIVES
        )
        if summary and (layout != "differ" or biometric != PERSPECTIVES[0]):
            raise ConfigError(
                "data.captions.summary=true: only data.captions.layout=differ has summaries of "
                f"people, and they are of the perspective {PERSPECTIVES[0]}."
            )
        self._index = {sample.path: row for row, sample in enumerate(benchmark.train)}
        source = captions_folder(folder, benchmark)
        features = _read(layout, source, encoder, summary, benchmark, listed or benchmark.train)
        self.encoder = features.encoder
        rows = self._chosen_rows(features)
        absent = (rows < 0).any(axis=1)
        self.missing = tuple(benchmark.train[i].path for i in np.flatnonzero(absent))
        self._require_enough(max_missing)
        self._table, self._rows = _compact(features.table, rows)

    @property
    def dim(self) -> int:
        """The length D of a feature."""
        return self._table.shape[1]

    def get(self, sample: Sample) -> Tensor:
        """Return the features of a train image, [1+K, D] float32, in the order of `perspectives`.

        Raises:
            DataError: it is no train image.
        """
        row = self._index.get(sample.path)
        if row is None:
            raise DataError(f"{sample.path} is no train image; only those have captions.")
        return self._table[self._rows[row]]

    def describe(self) -> str:
        """Return in one sentence what was read."""
        biometric, *others = self.perspectives
        lacking = f"; {len(self.missing)} images without text get the mean" if self.missing else ""
        return (
            f"captions: {biometric} against {', '.join(others) or 'nothing'}, {self.dim} numbers "
            f"each by {self.encoder}{lacking}"
        )

    def _chosen_rows(self, features: CaptionFeatures) -> NDArray[np.int64]:
        require_perspectives(
            self.perspectives,
            "method.biometric and method.non_biometric, in these captions",
            features.perspectives,
        )
        return features.rows[:, [features.perspectives.index(name) for name in self.perspectives]]

    def _require_enough(self, max_missing: float) -> None:
        total = len(self._index)
        if len(self.missing) > max_missing * total or len(self.missing) == total:
            examples = "\n".join(f"  {path}" for path in self.missing[:3])
            raise DataError(
                f"{len(self.missing)} of {total} train images lack a text for one of "
                f"{', '.join(self.perspectives)}, for instance\n{examples}\n"
                "Make the missing ones with python -m ccreid.caption and ccreid.encode_text, or "
                "allow a part of them to be missing: data.captions.max_missing=0.05"
            )


def _read(
    layout: str,
    folder: Path,
    encoder: str,
    summary: bool,
    benchmark: Benchmark,
    listed: Sequence[Sample],
) -> CaptionFeatures:
    if layout == "differ":
        return released_features(folder, encoder, benchmark.train, summary)
    if layout == "benchmark":
        return computed_features(benchmark_captions(benchmark), encoder, benchmark.train)
    captions = of_images(read_captions(folder / TEXTS), listed)
    return stored_features(folder, encoder, captions, benchmark.train, benchmark.name)


def _compact(table: NDArray[np.float32], rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Keep the features in use, and let missing texts point to the mean of their column."""
    used = np.unique(rows[rows >= 0])
    compact = np.searchsorted(used, rows)
    means = []
    for column in range(rows.shape[1]):
        absent = rows[:, column] < 0
        if absent.any():
            means.append(_mean_direction(table[rows[~absent, column]]))
            compact[absent, column] = len(used) + len(means) - 1
    kept = np.concatenate([table[used], *(mean[None] for mean in means)])
    return torch.from_numpy(kept), torch.from_numpy(compact)


def _mean_direction(features: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    mean: NDArray[np.float32] = (features / np.maximum(norms, 1e-12)).mean(axis=0)
    return mean
