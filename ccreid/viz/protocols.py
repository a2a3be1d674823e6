"""The ranked lists of a benchmark, one sheet per protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.protocols import Protocol
from ccreid.errors import ConfigError, nearest
from ccreid.retrieval import RepeatedResults, RetrievalResults
from ccreid.viz.marks import save_sheet
from ccreid.viz.ranked_lists import Order, draw_ranked_lists
from ccreid.viz.samples import sample_picture


def choose_protocols(benchmark: Benchmark, name: str | None) -> tuple[Protocol, ...]:
    """Return the protocol of this name, or all.

    Raises:
        ConfigError: the benchmark has no such protocol.
    """
    known = {protocol.name: protocol for protocol in benchmark.protocols}
    if name is None:
        return benchmark.protocols
    if name not in known:
        raise ConfigError(
            f"protocol={name}: {benchmark.name} has {', '.join(known)}.{nearest(name, known)}"
        )
    return (known[name],)


def draw_protocols(
    results: Mapping[str, RetrievalResults | RepeatedResults],
    benchmark: Benchmark,
    folder: Path,
    protocols: Sequence[Protocol] | None = None,
    order: Order = "spread",
    rows: int = 8,
    places: int = 10,
    licensor: Benchmark | None = None,
) -> list[Path]:
    """Draw the ranked lists of every protocol as `ranked_<protocol>.png`; return the files.

    Of a protocol with several trials the first is drawn; one without a valid query is left out.

    Args:
        results: by protocol name.
        benchmark: whose query and gallery were ranked.
        folder: for the pictures; is made.
        protocols: which to draw; None for all.
        order: of the queries, see `draw_ranked_lists`.
        rows: queries on a sheet.
        places: ranked images of a query.
        licensor: whose licence says how images may be shown; None for `benchmark`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for protocol in benchmark.protocols if protocols is None else protocols:
        first = results[protocol.name].trials[0]
        if not first.valid.any():
            continue
        sheet = _draw(first, benchmark, protocol, order, rows, places, licensor or benchmark)
        files.append(save_sheet(sheet, folder / f"ranked_{protocol.name}.png"))
    return files


def _draw(
    results: RetrievalResults,
    benchmark: Benchmark,
    protocol: Protocol,
    order: Order,
    rows: int,
    places: int,
    licensor: Benchmark,
) -> Image.Image:
    query = [benchmark.query[i] for i in protocol.select_query(benchmark.query)]
    gallery = [benchmark.gallery[i] for i in protocol.select_galleries(benchmark.gallery)[0]]

    def same_clothes(i: int, j: int) -> bool:
        return bool(query[i].clothes_id == gallery[j].clothes_id >= 0)

    return draw_ranked_lists(
        results,
        lambda i: sample_picture(query[i], licensor),
        lambda j: sample_picture(gallery[j], licensor),
        title=f"{benchmark.name}, {protocol}",
        num_queries=rows,
        depth=places,
        order=order,
        same_clothes=None if protocol.rule == "cc" else same_clothes,
    )
