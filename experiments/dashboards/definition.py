"""dashboards.yaml with every benchmark and protocol written out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hydra.utils import get_class

from ccreid.config import compose

FILE = Path(__file__).with_name("dashboards.yaml")


@dataclass(frozen=True)
class Panel:
    """One chart.

    `kind` is lines (against epochs), bars (grouped) or dots (against `config`, a setting, or `x`, a
    metric).
    """

    title: str
    kind: str
    metrics: tuple[str, ...]
    config: str = ""
    x: str = ""
    log: bool = False

    @property
    def keys(self) -> set[str]:
        """Every metric that the chart shows."""
        return {*self.metrics, *([self.x] if self.x else [])}


@dataclass(frozen=True)
class Dashboard:
    """One saved view: panels by section, of the runs of which methods, grouped by which setting.

    `methods` are as in `method=`, `targets` the same as a run's config has them.
    """

    title: str
    methods: tuple[str, ...]
    targets: tuple[str, ...]
    sections: dict[str, tuple[Panel, ...]]
    group_by: str = ""

    @property
    def panels(self) -> list[Panel]:
        return [panel for panels in self.sections.values() for panel in panels]


def read(benchmarks: list[str]) -> dict[str, Dashboard]:
    """Return the dashboards by name for benchmarks such as virtual or prcc."""
    protocols = {benchmark: protocols_of(benchmark) for benchmark in benchmarks}
    return {
        name: Dashboard(
            title=entry["title"],
            methods=tuple(entry["methods"]),
            targets=tuple(target_of(method) for method in entry["methods"]),
            sections={
                title: tuple(panels)
                for written, charts in entry["sections"].items()
                for title, panels in expand_section(written, charts, protocols)
            },
            group_by=entry.get("group_by", ""),
        )
        for name, entry in yaml.safe_load(FILE.read_text()).items()
    }


def target_of(method: str) -> str:
    """The class of `method=<method>`."""
    target: str = compose("train", [f"method={method}", "data=virtual"]).method._target_
    return target


def protocols_of(benchmark: str) -> list[str]:
    """The protocols that `data=<benchmark>` is evaluated under."""
    config = compose("train", ["method=baseline", f"data={benchmark}"])
    return [protocol.name for protocol in get_class(config.data.benchmark._target_).protocols]


def expand_section(
    written: str, charts: list[dict[str, Any]], protocols: dict[str, list[str]]
) -> Iterator[tuple[str, list[Panel]]]:
    if "{benchmark}" not in written:
        yield written, [panel(chart) for chart in charts]
        return
    for benchmark, names in protocols.items():
        panels = [
            panel(chart, benchmark=benchmark, protocol=name) for name in names for chart in charts
        ]
        yield written.format(benchmark=benchmark), panels


def panel(chart: dict[str, Any], **words: str) -> Panel:
    (kind,) = {"lines", "bars", "dots"} & chart.keys()
    metrics = chart[kind] if isinstance(chart[kind], list) else [chart[kind]]
    return Panel(
        title=chart["title"].format(**words),
        kind=kind,
        metrics=tuple(metric.format(**words) for metric in metrics),
        config=chart.get("config", ""),
        x=chart.get("x", ""),
        log=chart.get("log", False),
    )
