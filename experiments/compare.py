"""Run named settings over seeds and put them side by side: mean ± std, differences by person.

python experiments/compare.py experiments/virtual

reads settings.yaml of that folder, runs what is missing under outputs/, one run at a time, and
writes results.json and table.md beside it. Stopped and started again it goes on.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

PROTOCOLS = ("general", "sc", "cc")
METRICS = ("rank1", "mAP")
DRAWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--collect", action="store_true", help="only of the runs that are there")
    arguments = parser.parse_args()
    plan = yaml.safe_load((arguments.folder / "settings.yaml").read_text())
    runs = arguments.outputs / arguments.folder.name
    if not arguments.collect:
        for seed in plan["seeds"]:
            for name, overrides in plan["settings"].items():
                run(
                    [*plan["shared"], *overrides, f"seed={seed}"],
                    place(runs, name, seed),
                )
    results = {}
    for name in plan["settings"]:
        seeds = {str(seed): read(place(runs, name, seed)) for seed in plan["seeds"]}
        results[name] = {seed: found for seed, found in seeds.items() if found}
    (arguments.folder / "results.json").write_text(
        json.dumps(results, indent=1, sort_keys=True) + "\n"
    )
    results = {name: seeds for name, seeds in results.items() if seeds}
    lines = [*table(results), "", *differences(plan, runs, results)]
    (arguments.folder / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def place(runs: Path, name: str, seed: int | str) -> Path:
    """The folder of one run."""
    return runs / f"{name}_{seed}".replace(" ", "_")


def run(overrides: list[str], folder: Path) -> None:
    """Train once, or go on with a run that was stopped."""
    if (folder / "metrics.json").exists():
        return
    command = [sys.executable, "-m", "ccreid.train", *overrides, f"hydra.run.dir={folder}"]
    if (checkpoint := folder / "checkpoints" / "last.ckpt").exists():
        command.append(f"resume={checkpoint}")
    elif folder.exists():  # it died in its first epoch
        shutil.rmtree(folder)
    print(" ".join(command[1:]), flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".log"), "a") as log:
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=True)


def read(folder: Path) -> dict[str, float | int | str]:
    if not (folder / "metrics.json").exists():
        return {}
    return json.loads((folder / "metrics.json").read_text())


def table(results: dict) -> list[str]:
    columns = [f"{protocol} {metric}" for protocol in PROTOCOLS for metric in METRICS]
    lines = [
        "| setting | seeds | " + " | ".join([*columns, "s per epoch", "images/s"]) + " |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for name, seeds in results.items():
        cells = [
            spread([100 * run[f"test/virtual/{protocol}/{metric}"] for run in seeds.values()])
            for protocol in PROTOCOLS
            for metric in METRICS
        ]
        cells += [
            spread([run[key] for run in seeds.values()])
            for key in ("seconds_per_epoch", "images_per_second")
        ]
        lines.append(f"| {name} | {len(seeds)} | " + " | ".join(cells) + " |")
    return lines


def differences(plan: dict, runs: Path, results: dict) -> list[str]:
    """Differences of mAP to the first setting, paired by seed, with intervals by test person."""
    first, *others = results
    shown = [(protocol, "mAP") for protocol in PROTOCOLS]
    lines = [
        f"Difference to `{first}` in points of mAP, mean over the seeds both have, [95 % interval "
        f"over the test people, {DRAWS:,} bootstrap draws]:",
        "",
        "| setting | seeds | " + " | ".join(protocol for protocol, _ in shown) + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name in others:
        common = sorted(set(results[name]) & set(results[first]))
        if not common:
            continue
        cells = []
        for protocol, _ in shown:
            gaps = [
                by_person(place(runs, name, seed), protocol)
                - by_person(place(runs, first, seed), protocol)
                for seed in common
            ]
            cells.append(interval(np.mean(gaps, axis=0)))
        lines.append(f"| {name} | {len(common)} | " + " | ".join(cells) + " |")
    return lines


def by_person(folder: Path, protocol: str) -> np.ndarray:
    """Return each test person's mean AP in percent, people in the order of their numbers."""
    with np.load(folder / "queries.npz", allow_pickle=False) as queries:
        pid, precision = queries[f"{protocol}/pid"], queries[f"{protocol}/average_precision"]
    return np.array([100 * np.nanmean(precision[pid == person]) for person in np.unique(pid)])


def interval(gaps: np.ndarray) -> str:
    draws = np.random.default_rng(0).integers(len(gaps), size=(DRAWS, len(gaps)))
    low, high = np.quantile(gaps[draws].mean(axis=1), [0.025, 0.975])
    return f"{gaps.mean():+.1f} [{low:+.1f}, {high:+.1f}]"


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.1f} ± {deviation:.1f}"


if __name__ == "__main__":
    main()
