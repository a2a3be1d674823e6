"""The pictures of a trained network: what `python -m ccreid.visualize` draws, one function each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import Progress
from torch import Tensor

from ccreid import report
from ccreid.callbacks.evaluation import EvaluationSettings, evaluate_method
from ccreid.clustering import fine_grained_labels
from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.datamodule import unanswerable_queries
from ccreid.data.sample import Sample, ids
from ccreid.data.transforms import TestTransform
from ccreid.errors import DataError
from ccreid.features import evaluating, extract_features
from ccreid.methods.base import Method
from ccreid.methods.mining import Mining
from ccreid.viz.attention import load_masks, look
from ccreid.viz.attention_sheet import draw_attention
from ccreid.viz.clusters import most_clusters
from ccreid.viz.embedding import draw_embedding, project
from ccreid.viz.marks import save_sheet
from ccreid.viz.person_clusters import draw_person
from ccreid.viz.protocols import choose_protocols, draw_protocols
from ccreid.viz.samples import outfit_numbers, outfits_in_turn, sample_picture, spread_people
from ccreid.writing import write_whole

_DOTS_PER_INCH = 120


@dataclass(frozen=True)
class Subject:
    """What pictures are made of.

    Attributes:
        cfg: composed from `conf/visualize.yaml`, nothing of the data, the input and the evaluation
            left null.
        trained: config of the run that wrote the checkpoint.
        method: the trained network.
        benchmark: whose people are shown.
        transform: the test transform.
        settings: how features are extracted.
        cameras: whether a method that uses cameras is told them, see `evaluate_method`.
        progress: where bars are shown.
    """

    cfg: DictConfig
    trained: DictConfig
    method: Method
    benchmark: Benchmark
    transform: TestTransform
    settings: EvaluationSettings
    cameras: bool
    progress: Progress

    @property
    def folder(self) -> Path:
        """Where the pictures are written."""
        return Path(self.cfg.output_dir)

    def features(self, samples: Sequence[Sample], settings: EvaluationSettings) -> Tensor:
        """Return the features of samples, [N, D]."""
        bar = self.progress.add_task("embed", total=None)

        def advance(done: int, total: int) -> None:
            self.progress.update(bar, advance=done, total=total)

        with evaluating(self.method):
            return extract_features(
                self.method.embed,
                samples,
                self.transform,
                device=self.method.device,
                mirror=settings.mirror,
                precision=settings.precision,
                batch_size=settings.batch_size,
                workers=settings.workers,
                progress=advance,
                clips=self.benchmark.clips,
                with_camera=self.method.uses_camera and self.cameras,
            )

    def test_people(self, number: int) -> list[list[Sample]]:
        """Return the test images of every person of `cfg.people`, else of so many."""
        benchmark = self.benchmark
        people = self.cfg.people or spread_people(benchmark.query, number)
        everyone = (*benchmark.query, *benchmark.gallery)
        return [[sample for sample in everyone if sample.pid == pid] for pid in people]


def ranked(subject: Subject) -> list[Path]:
    """Draw the ranked lists of one or all protocols."""
    cfg, benchmark = subject.cfg, subject.benchmark
    protocols = choose_protocols(benchmark, cfg.protocol)
    unanswerable_queries(benchmark)
    settings = replace(subject.settings, depth=max(subject.settings.depth, cfg.places))
    results = evaluate_method(
        subject.method,
        benchmark,
        subject.transform,
        settings,
        subject.progress,
        cameras=subject.cameras,
    )
    return draw_protocols(
        results, benchmark, subject.folder, protocols, cfg.order, cfg.rows, cfg.places
    )


def attention(subject: Subject) -> list[Path]:
    """Draw where the network looks in images of test people."""
    benchmark, wanted = subject.benchmark, subject.cfg.attention
    people = subject.test_people(wanted.people)
    samples = [sample for own in people for sample in outfits_in_turn(own, wanted.images)]
    maps = look(subject.method, samples, subject.transform)
    sheet = draw_attention(
        [sample_picture(sample, benchmark) for sample in samples],
        maps,
        _masks(subject, samples) if maps.attention else None,
        _captions(samples, [sample for own in people for sample in own]),
        title=f"{benchmark.name}: where {_name(subject)} looks",
    )
    return [save_sheet(sheet, subject.folder / "attention.png")]


def clusters(subject: Subject) -> list[Path]:
    """Draw the clusters of train people's images, one sheet per person."""
    cfg, benchmark = subject.cfg, subject.benchmark
    mining = _mining(subject)
    samples = [s for s in benchmark.train if cfg.people is None or s.pid in cfg.people]
    settings = replace(subject.settings, mirror=False, precision=mining.precision)
    features, pids = subject.features(samples, settings), ids(samples, "pid")
    labels = fine_grained_labels(
        features, pids, mining.eps, mining.k1, mining.k2, mining.min_samples
    )[0].numpy()
    people = cfg.people or most_clusters(labels, pids, cfg.clusters.people)
    return [_cluster_sheet(subject, samples, labels, np.flatnonzero(pids == pid)) for pid in people]


def _cluster_sheet(
    subject: Subject,
    samples: Sequence[Sample],
    labels: NDArray[np.int64],
    positions: NDArray[np.intp],
) -> Path:
    """Draw the person whose samples stand at these positions."""
    shown, benchmark = [samples[position] for position in positions], subject.benchmark
    pid = shown[0].pid
    sheet = draw_person(
        shown,
        labels[positions],
        benchmark,
        title=f"{benchmark.name}, train: person {pid} by clusters of {_name(subject)}",
        rows=subject.cfg.rows,
        places=subject.cfg.places,
    )
    return save_sheet(sheet, subject.folder / f"clusters_{pid}.png")


def embedding(subject: Subject) -> list[Path]:
    """Draw a map of the features of test people."""
    wanted = subject.cfg.embedding
    samples = [sample for own in subject.test_people(wanted.people) for sample in own]
    features = subject.features(samples, subject.settings)
    points, how = project(features, wanted.projection, subject.cfg.seed)
    pids = ids(samples, "pid")
    many = f"{len(samples)} test images of {len(np.unique(pids))} people"
    figure = draw_embedding(
        points,
        pids,
        outfit_numbers(samples),
        title=f"{subject.benchmark.name}: features of {_name(subject)}, {many}",
        note=how,
    )
    file = subject.folder / "embedding.png"
    with write_whole(file) as stream:
        figure.savefig(stream, dpi=_DOTS_PER_INCH, format="png")
    return [file]


PICTURES: dict[str, Callable[[Subject], list[Path]]] = {
    "ranked": ranked,
    "attention": attention,
    "clusters": clusters,
    "embedding": embedding,
}
"""What `what` may name; every function writes into the subject's folder and returns the files."""


def _name(subject: Subject) -> str:
    return type(subject.method).__name__


def _captions(samples: Sequence[Sample], everyone: Sequence[Sample]) -> list[str]:
    """Return person and outfit of every sample, the outfit counted over everyone's."""
    numbers = outfit_numbers(everyone)
    if numbers is None:
        return [f"person {sample.pid}" for sample in samples]
    outfit = dict(zip(everyone, numbers, strict=True))
    return [f"person {sample.pid}, outfit {outfit[sample] + 1}" for sample in samples]


def _masks(subject: Subject, samples: Sequence[Sample]) -> list[NDArray[np.uint8] | None] | None:
    """Return the masks of test images where there are any: training alone needs masks."""
    settings: dict[str, Any] = dict(subject.cfg.data.parsing)
    try:
        return load_masks(subject.benchmark, settings, samples)
    except DataError as error:
        report.show(f"attention.png shows no masks: {str(error).splitlines()[0]}")
        return None


def _mining(subject: Subject) -> Mining:
    """Return the settings asked for, else those the run mined with, else the defaults."""
    wanted = subject.cfg.clusters.mining
    trained = subject.trained.method.get("mining") or {}
    given = {name: value for name, value in wanted.items() if value is not None}
    run = {name: trained[name] for name in (*wanted, "precision") if name in trained}
    return Mining(**{**run, **given})
