"""What a person reads in the terminal: the dataset at the start, the metrics at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.sample import Sample, ids
from ccreid.methods.base import Method
from ccreid.retrieval import RepeatedResults, RetrievalResults


def dataset_table(data: ReIDDataModule) -> Group:
    """Return people, images, cameras and outfits per split, with the protocols underneath."""
    benchmark = data.benchmark
    table = Table(title=f"data={benchmark.name}", title_justify="left")
    table.add_column("split")
    for column in ("people", "images", "cameras", "outfits"):
        table.add_column(column, justify="right")
    for split, samples in benchmark.splits.items():
        counts = [_distinct(samples, "pid"), len(samples)]
        counts += [_distinct(samples, "camid"), _distinct(samples, "clothes_id")]
        table.add_row(split, *(f"{count:,}" if count else "–" for count in counts))
    notes = [str(protocol) for protocol in benchmark.protocols]
    notes += data.notes
    notes += [f"note: {warning}" for warning in benchmark.warnings]
    if benchmark.num_foreign_files:
        notes.append(f"{benchmark.num_foreign_files} files beside the images were passed over")
    notes += [
        f"{count} queries of '{protocol}' have no match and are left out"
        for protocol, count in data.unanswerable.items()
        if count
    ]
    if single := getattr(data.sampler, "num_single_outfit_identities", 0):
        notes.append(f"{single} people wear one outfit only: they have no cross-clothes pair")
    if short := data.sampler.num_short_identities:
        notes.append(
            f"{short} people have fewer than {data.images_per_identity} images: "
            "theirs are drawn with replacement"
        )
    return Group(table, *map(escape, notes))


def metrics_table(
    results: Mapping[str, RetrievalResults | RepeatedResults], benchmark: str
) -> Table:
    """Return rank-k, mAP and mINP in percent, one row per protocol."""
    table = Table(title=f"{benchmark}: retrieval (%)", title_justify="left")
    table.add_column("protocol")
    for column in ("rank-1", "rank-5", "rank-10", "mAP", "mINP", "queries"):
        table.add_column(column, justify="right")
    for protocol, result in results.items():
        metrics = result.metrics()
        values = [metrics[name] for name in ("rank1", "rank5", "rank10", "mAP", "mINP")]
        shown = ("–" if math.isnan(value) else f"{100 * value:.1f}" for value in values)
        table.add_row(protocol, *shown, f"{metrics['num_valid_queries']:.0f}")
    return table


def camera_note(method: Method, benchmark: str, known: int, unknown: int) -> str:
    """Return the sentence that belongs to results of a method that uses cameras.

    Args:
        method: that was tested.
        benchmark: its name.
        known: test images whose camera the network was told and had been trained with.
        unknown: all others.
    """
    if not known:
        return f"The network was told no camera of {benchmark}: it was trained with others."
    remedy = method.does_without.get("cameras", "")
    others = f" {unknown:,} images are of cameras that it was not trained with." if unknown else ""
    return (
        f"The network was told the camera of {known:,} of {known + unknown:,} images "
        f"({benchmark}): these numbers do not compare with those of methods that see images alone."
        f"{others}{remedy and f' {remedy}.'}"
    )


def matrix_table(
    results: Mapping[str, Mapping[str, RetrievalResults | RepeatedResults]],
) -> Table:
    """Return rank-1/mAP in percent: one row per benchmark, one column per protocol name."""
    table = Table(title="rank-1/mAP (%)", title_justify="left")
    table.add_column("benchmark")
    protocols = list(dict.fromkeys(name for each in results.values() for name in each))
    for protocol in protocols:
        table.add_column(protocol.replace("_", " "), justify="right")
    for benchmark, each in results.items():
        cells = [each[name].metrics() if name in each else {} for name in protocols]
        table.add_row(
            benchmark,
            *(f"{100 * m['rank1']:.1f}/{100 * m['mAP']:.1f}" if m else "–" for m in cells),
        )
    return table


def _distinct(samples: tuple[Sample, ...], field: str) -> int:
    values = ids(samples, field)
    return len(set(values[values >= 0].tolist()))
