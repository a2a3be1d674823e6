"""Writes docs/benchmarks/<name>.md from the benchmarks' classes: `python docs/write_benchmarks.py`.

What a page says of counts, protocols and licences is what the library enforces.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from hydra.utils import get_class

from ccreid.config import compose, list_benchmarks
from ccreid.data.benchmarks.base import Benchmark, SplitCount

FOLDER = Path(__file__).parent / "benchmarks"
OWN = ("csv", "folder", "virtual")  # a user's own data and the shipped one have other pages


def published_benchmarks() -> dict[str, type[Benchmark]]:
    """Return the classes of the benchmarks that others published, by their config's name."""
    names = [name for name in list_benchmarks() if name not in OWN]
    nodes = {name: compose("evaluate", [f"data={name}", "checkpoint=none"]).data for name in names}
    return {name: get_class(node.benchmark._target_) for name, node in nodes.items()}


def page(name: str, benchmark: type[Benchmark]) -> str:
    """Return the Markdown page of one benchmark."""
    title, *rest = inspect.getdoc(benchmark).split("\n\n")
    text = [part for part in rest if not part.startswith(("Args:", "Raises:", "Attributes:"))]
    counts = [_count(part, count) for part, count in benchmark.counts.items()]
    return "\n".join(
        [
            f"# {name}",
            "",
            f"*Written by `docs/write_benchmarks.py` from `{benchmark.__module__}`; do not edit.*",
            "",
            title,
            "",
            "\n\n".join(text),
            "",
            "```",
            f"python -m ccreid.verify data={name} data.root=/folder/that/holds/it",
            f"python -m ccreid.train method=fire2 data={name} data.root=/folder/that/holds/it",
            "```",
            "",
            "## Layout",
            "",
            "```",
            benchmark.layout,
            "```",
            "",
            "The folder may also be called "
            + ", ".join(f"`{folder}`" for folder in benchmark.folders)
            + " (case, hyphens and underscores do not matter), or be given itself.",
            "",
            "## Counts",
            "",
            "A verified number that differs stops a run; a remembered one is warned about, and is "
            f"a fault for `verify` where it is off by more than {SplitCount.tolerance:.0%}.",
            "",
            "| split | people | samples | |",
            "|---|---|---|---|",
            *counts,
            "",
            "## Protocols",
            "",
            *(f"- {protocol}" for protocol in benchmark.protocols),
            "",
            "## Licence, source, citation",
            "",
            f"- Terms: {benchmark.licence}.",
            *(["- Pictures drawn by the library hide faces."] if benchmark.hide_faces else []),
            f"- From: <{benchmark.url}>",
            f"- {benchmark.citation}",
            "",
        ]
    )


def _count(part: str, count: SplitCount) -> str:
    people = "" if count.identities is None else f"{count.identities:,}"
    samples = "" if count.images is None else f"{count.images:,} {count.what}"
    sure = "verified" if count.certain else "remembered"
    if count.certain_identities is not None and count.certain_identities != count.certain:
        sure += f"; people {'verified' if count.certain_identities else 'remembered'}"
    return f"| {part} | {people} | {samples} | {sure} |"


if __name__ == "__main__":
    for name, benchmark in published_benchmarks().items():
        (FOLDER / f"{name}.md").write_text(page(name, benchmark))
