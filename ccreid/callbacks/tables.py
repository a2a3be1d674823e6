"""What a person reads in the terminal: the dataset at the start, the metrics at the end."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rich.console import Group
from rich.table import Table

from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.sample import Sample, ids
from ccreid.retrieval import RetrievalResults


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
    notes += [f"note: {warning}" for warning in benchmark.warnings]
    if benchmark.num_foreign_files:
        notes.append(f"{benchmark.num_foreign_files} files beside the images were passed over")
    notes += [
        f"{count} queries of '{protocol}' have no match and are left out"
        for protocol, count in data.unanswerable.items()
        if count
    ]
    if short := data.sampler.num_short_identities:
        notes.append(
            f"{short} people have fewer than {data.images_per_identity} images: "
            "theirs are drawn with replacement"
        )
    return Group(table, *notes)


def metrics_table(results: Mapping[str, RetrievalResults], benchmark: str) -> Table:
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


def _distinct(samples: tuple[Sample, ...], field: str) -> int:
    values = ids(samples, field)
    return len(set(values[values >= 0].tolist()))
