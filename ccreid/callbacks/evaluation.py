"""Evaluates every protocol of the benchmark: features, streaming ranking, metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from lightning import Callback, LightningModule, Trainer
from rich.progress import Progress
from torch import Tensor

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.files import Reader, read_image
from ccreid.data.protocols import Protocol
from ccreid.data.sample import ids
from ccreid.data.transforms import TestTransform
from ccreid.errors import CCReIDError, require
from ccreid.features import AUTOCAST, evaluating, extract_features
from ccreid.retrieval import RepeatedResults, RetrievalResults, rank_features

if TYPE_CHECKING:
    from ccreid.methods.base import Method

Results = dict[str, RetrievalResults | RepeatedResults]
"""What an evaluation yields, by protocol name."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How features are extracted and ranked.

    Attributes:
        mirror: add the feature of the mirrored image before normalising.
        precision: fp32, bf16 or fp16.
        batch_size: images at a time.
        depth: ranked gallery images kept per query, for pictures; metrics are exact at any depth.
        workers: loader processes.
    """

    mirror: bool = False
    precision: str = "fp32"
    batch_size: int = 128
    depth: int = 50
    workers: int = 0

    def __post_init__(self) -> None:
        choices = f"one of {', '.join(AUTOCAST)}"
        require(self.precision in AUTOCAST, "evaluation.precision", self.precision, choices)
        for name, least in {"batch_size": 1, "depth": 1, "workers": 0}.items():
            value = getattr(self, name)
            require(value >= least, f"evaluation.{name}", value, f"at least {least}")


def evaluate_method(
    method: Method,
    benchmark: Benchmark,
    transform: TestTransform,
    settings: EvaluationSettings,
    progress: Progress | None = None,
    read: Reader = read_image,
    cameras: bool = True,
) -> Results:
    """Rank the benchmark's gallery for its queries under each of its protocols.

    Args:
        method: is given images and, if it declares `uses_camera`, their cameras; nothing else.
        benchmark: its query and gallery are embedded once.
        transform: the test transform.
        settings: see `EvaluationSettings`.
        progress: where to show a bar; None shows none.
        read: reads an image.
        cameras: whether a method that uses cameras is told them; not those of a benchmark that it
            was not trained on, whose numbers mean others.

    Returns:
        The results by protocol name; indices count within the protocol's query and gallery.
    """
    samples = (*benchmark.query, *benchmark.gallery)
    advance = None
    if progress is not None:
        task = progress.add_task(f"embed {benchmark.name}", total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, advance=done, total=total)

    with evaluating(method):
        features = extract_features(
            method.embed,
            samples,
            transform,
            device=method.device,
            mirror=settings.mirror,
            precision=settings.precision,
            batch_size=settings.batch_size,
            workers=settings.workers,
            progress=advance,
            clips=benchmark.clips,
            read=read,
            with_camera=method.uses_camera and cameras,
        )
    query, gallery = features.to(method.device).split(
        [len(benchmark.query), len(benchmark.gallery)]
    )
    return {
        protocol.name: _rank(query, gallery, benchmark, protocol, settings.depth)
        for protocol in benchmark.protocols
    }


def _rank(
    query: Tensor, gallery: Tensor, benchmark: Benchmark, protocol: Protocol, depth: int
) -> RetrievalResults | RepeatedResults:
    """Rank the features of a benchmark's whole query and gallery under one protocol."""
    query = query[protocol.select_query(benchmark.query)]
    trials = [
        rank_features(
            query,
            gallery[positions],
            **protocol.ranking_ids(benchmark.query, benchmark.gallery, trial),
            rule=protocol.rule,
            depth=min(depth, max(1, len(positions))),  # the places there are
        )
        for trial, positions in enumerate(protocol.select_galleries(benchmark.gallery))
    ]
    return trials[0] if len(trials) == 1 else RepeatedResults(tuple(trials))


def camera_counts(method: Method, benchmark: Benchmark, told: bool = True) -> dict[str, int]:
    """Return of how many test images a method that uses cameras knew the camera.

    Args:
        method: was evaluated.
        benchmark: on its query and gallery.
        told: whether it was told the cameras, see `evaluate_method`.

    Returns:
        `known` and `unknown`, numbers of images; nothing of a method that uses no cameras.
    """
    if not method.uses_camera:
        return {}
    camid = torch.from_numpy(ids((*benchmark.query, *benchmark.gallery), "camid"))
    with evaluating(method), torch.no_grad():
        known = int(method.knows_camera(camid.to(method.device)).sum()) if told else 0
    return {"known": known, "unknown": len(camid) - known}


def flat_cameras(counts: Mapping[str, int], benchmark: str) -> dict[str, int]:
    """Return `cameras/{benchmark}/known` and `unknown`, for `metrics.json`."""
    return {f"cameras/{benchmark}/{name}": count for name, count in counts.items()}


def flat_metrics(results: Results, benchmark: str, split: str = "test") -> dict[str, float]:
    """Return `{split}/{benchmark}/{protocol}/{metric}` for every protocol and metric."""
    return {
        f"{split}/{benchmark}/{protocol}/{metric}": value
        for protocol, result in results.items()
        for metric, value in result.metrics().items()
    }


def one_line(results: Results) -> str:
    """Return rank-1/mAP in percent of every protocol, short enough for a terminal's line."""
    metrics = {protocol: result.metrics() for protocol, result in results.items()}
    shown = [f"{name} {100 * m['rank1']:.1f}/{100 * m['mAP']:.1f}" for name, m in metrics.items()]
    return ", ".join(shown)


class Evaluation(Callback):
    """Evaluates the test people after the last epoch and, if asked, every n epochs before it.

    Where train people are held out for validation, it is they who are evaluated every n epochs, the
    last one included, under `val/...`; `val/mAP` is the mean AP of the cloth-changing protocol (of
    the first one where there is none), for a checkpoint callback to monitor. What comes out during
    training is said in one line on the terminal.

    Args:
        every_n_epochs: 0 evaluates after the last epoch only, held-out people after every epoch.
        settings: how.

    Attributes:
        results: of the latest evaluation of the test people, by protocol name.
        metrics: of the latest evaluation of the test people, flat.
    """

    def __init__(self, settings: EvaluationSettings, every_n_epochs: int = 0) -> None:
        name = "callbacks.evaluation.every_n_epochs"
        require(every_n_epochs >= 0, name, every_n_epochs, "0 or more")
        self.settings, self.every_n_epochs = settings, every_n_epochs
        self.results: Results = {}
        self.metrics: dict[str, float] = {}
        self._seen: tuple[int, Results] | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate when this epoch's turn has come and more are to follow."""
        method: Method = pl_module  # type: ignore[assignment]
        epoch = trainer.current_epoch + 1
        held_out = method.datamodule.validation
        every = self.every_n_epochs or (1 if held_out else 0)
        is_last = epoch == trainer.max_epochs
        if not every or (epoch % every and not is_last) or (is_last and held_out is None):
            return
        benchmark, results = self.look(method)
        if held_out is None:
            metrics = self.metrics
        else:
            chosen = results.get("cc", next(iter(results.values())))
            metrics = flat_metrics(results, benchmark.name, split="val")
            metrics["val/mAP"] = chosen.metrics()["mAP"]
        values = {name: torch.tensor(value) for name, value in metrics.items()}
        pl_module.log_dict(values, sync_dist=True)  # equal on all ranks
        people = "test people" if held_out is None else "validation"
        pl_module.print(f"{people} rank-1/mAP: {one_line(results)}")

    def look(self, method: Method) -> tuple[Benchmark, Results]:
        """Return what the weights of now do for the held-out people, else for the test people.

        Computed once for the same step, on all ranks together.
        """
        held_out = method.datamodule.validation
        if self._seen is None or self._seen[0] != method.global_step:
            results = self._evaluate(method) if held_out is None else self._rank(method, held_out)
            self._seen = (method.global_step, results)
        return held_out or method.datamodule.benchmark, self._seen[1]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the trained network, averaged weights included where they are asked for."""
        method: Method = pl_module  # type: ignore[assignment]
        try:
            self._evaluate(method)
        except CCReIDError as error:
            raise type(error)(
                f"{error}\nThe training is done and its last checkpoint is whole: when this is "
                "mended, python -m ccreid.evaluate checkpoint=<run folder>/checkpoints/last.ckpt"
            ) from error
        for logger in trainer.loggers:
            logger.log_metrics(self.metrics, step=trainer.global_step)

    def _evaluate(self, method: Method) -> Results:
        benchmark = method.datamodule.benchmark
        self.results = self._rank(method, benchmark)
        self.metrics = flat_metrics(self.results, benchmark.name)
        return self.results

    def _rank(self, method: Method, benchmark: Benchmark) -> Results:
        data = method.datamodule
        return evaluate_method(
            method, benchmark, data.test_transform, self.settings, read=data.read
        )
