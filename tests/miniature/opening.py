"""Opens a benchmark the way a verb does: by its config."""

from pathlib import Path

from ccreid.build import instantiate
from ccreid.config import compose
from ccreid.data.benchmarks.base import Benchmark


def open_by_config(data: str, root: Path) -> Benchmark:
    """Return the benchmark of `data=<data>` with its root at `root`."""
    cfg = compose("evaluate", [f"data={data}", f"data.root={root}", "checkpoint=none"])
    return instantiate(cfg.data.benchmark)
