"""Collect finished runs into results.json and a table: mean ± std over seeds.

python experiments/virtual/collect.py outputs/comparison/*/metrics.json
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path

import yaml

PROTOCOLS = ("general", "sc", "cc")
METRICS = ("rank1", "mAP")


def main(paths: list[str]) -> None:
    runs = defaultdict(dict)
    for path in map(Path, paths):
        metrics = json.loads(path.read_text())
        config = yaml.safe_load((path.parent / "config.yaml").read_text())
        method = config["method"]["_target_"].split(".")[-2]
        runs[method][metrics["seed"]] = metrics | {
            "minutes": metrics["seconds_per_epoch"] * config["trainer"]["max_epochs"] / 60
        }
    results = {
        method: {
            "commit": sorted({run["commit"] for run in seeds.values()}),
            "seeds": {str(seed): seeds[seed] for seed in sorted(seeds)},
        }
        for method, seeds in sorted(runs.items())
    }
    Path(__file__).with_name("results.json").write_text(
        json.dumps(results, indent=1, sort_keys=True) + "\n"
    )
    columns = [f"{protocol} {metric}" for protocol in PROTOCOLS for metric in METRICS]
    print("| method | seeds |", " | ".join([*columns, "minutes", "images/s"]), "|")
    print("|---" * (len(columns) + 4) + "|")
    for method, seeds in sorted(runs.items()):
        cells = [
            spread([100 * run[f"test/virtual/{protocol}/{metric}"] for run in seeds.values()])
            for protocol in PROTOCOLS
            for metric in METRICS
        ]
        cells += [
            spread([run[key] for run in seeds.values()]) for key in ("minutes", "images_per_second")
        ]
        print(f"| `{method}` | {len(seeds)} |", " | ".join(cells), "|")


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


if __name__ == "__main__":
    main(sys.argv[1:])
