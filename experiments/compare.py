"""Run named settings over seeds and put them side by side: mean ± std, differences by person.

python experiments/compare.py experiments/virtual

reads settings.yaml of that folder, runs what is missing under outputs/, one run at a time, and
writes results.json, table.md and comparison.png beside it. Stopped and started again it goes on.
Where settings.yaml says `trained_in: <another such folder>`, nothing is trained: the last
checkpoints of that folder's runs are evaluated. Settings of every run may follow a --:

python experiments/compare.py experiments/virtual_people -- data.archive=<virtual-large.zip>
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from ccreid.viz.comparison import Gap, draw_comparison
from ccreid.viz.plots import METRICS, caution, in_order

DRAWS = 10_000
SHOWN = 30  # lines of a run that failed
COSTS = {"minutes": "minutes", "seconds_per_epoch": "s per epoch", "images_per_second": "images/s"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--collect", action="store_true", help="only of the runs that are there")
    parser.add_argument("--seeds", type=int, nargs="+", help="run only these")
    arguments, further = parse_with_settings(parser)
    plan = read_plan(arguments.folder)
    runs = arguments.outputs / arguments.folder.name
    if not arguments.collect:
        for seed in arguments.seeds or plan["seeds"]:
            for name in plan["settings"]:
                verb, overrides = command(plan, runs, name, seed)
                if verb == "evaluate":
                    require_trained(trained_run(plan, runs, name, seed), place(runs, name, seed))
                run(verb, [*overrides, *further], place(runs, name, seed))
    results = {}
    for name in plan["settings"]:
        seeds = {str(seed): read(place(runs, name, seed)) for seed in plan["seeds"]}
        results[name] = {seed: found for seed, found in seeds.items() if found}
    results = {name: seeds for name, seeds in results.items() if seeds}
    if not results:
        sys.exit(f"There is no finished run in {runs}; nothing was written.")
    write(arguments.folder, runs, results, plan.get("tested_on", benchmark_of(results)))
    content = json.dumps(results, indent=1, sort_keys=True) + "\n"
    (arguments.folder / "results.json").write_text(content)


def parse_with_settings(
    parser: argparse.ArgumentParser,
) -> tuple[argparse.Namespace, list[str]]:
    """Return the script's own arguments, and the settings of every run that follow a `--`."""
    typed = sys.argv[1:]
    end = typed.index("--") if "--" in typed else len(typed)
    return parser.parse_args(typed[:end]), typed[end + 1 :]


def read_plan(folder: Path) -> dict:
    """Return settings.yaml, with the seeds and settings of the folder that trained, if any."""
    plan = yaml.safe_load((folder / "settings.yaml").read_text())
    if "trained_in" in plan:
        trained = read_plan(folder / plan["trained_in"])
        plan |= {key: trained[key] for key in ("seeds", "settings")}
    return plan


def command(plan: dict, runs: Path, name: str, seed: int) -> tuple[str, list[str]]:
    """Return the verb that makes a run, and what it is told."""
    if "trained_in" not in plan:
        return "train", [*plan["shared"], *plan["settings"][name], f"seed={seed}"]
    last = trained_run(plan, runs, name, seed) / "checkpoints" / "last.ckpt"
    return "evaluate", [f"checkpoint='{last}'", *plan["shared"]]


def trained_run(plan: dict, runs: Path, name: str, seed: int) -> Path:
    """The folder of the training whose last checkpoint is evaluated."""
    return place(runs.parent / Path(plan["trained_in"]).name, name, seed)


def require_trained(trained: Path, evaluated: Path) -> None:
    """End where a training is not finished; forget an evaluation that is older than it."""
    if not (trained / "metrics.json").exists():
        sys.exit(f"{trained} is not finished: run the comparison that trains it first.")
    earlier = evaluated / "metrics.json"
    if earlier.exists() and earlier.stat().st_mtime < (trained / "metrics.json").stat().st_mtime:
        earlier.unlink()


def write(folder: Path, runs: Path, results: dict, tested_on: str) -> None:
    """Write table.md and comparison.png of the settings that have a run."""
    values, gaps = by_protocol(results), differences(runs, results)
    lines = table(results, values)
    if told := [name for name, seeds in results.items() if any(map(was_told, seeds.values()))]:
        lines += ["", f"Told the cameras of test images: {', '.join(told)}."]
    if gaps:
        lines += ["", *difference_table(next(iter(results)), gaps)]
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    seeds = sorted({seed for each in results.values() for seed in each}, key=int)
    title = f"{tested_on}, last epoch, seeds {', '.join(seeds)}"
    figure = draw_comparison(values, gaps, title, caution(benchmark_of(results)))
    figure.savefig(folder / "comparison.png", dpi=150)


def was_told(run: dict) -> bool:
    """Say whether the network was given cameras at test: it then knows more than the others."""
    return any(run[key] for key in run if key.startswith("cameras/") and key.endswith("/known"))


def benchmark_of(results: dict) -> str:
    """The benchmark that the runs were tested on."""
    return next(
        key.split("/")[1]
        for seeds in results.values()
        for run in seeds.values()
        for key in run
        if key.startswith("test/")
    )


def by_protocol(results: dict) -> dict:
    """Return setting → protocol → metric → the values of all seeds, as fractions."""
    values: dict = {}
    for name, seeds in results.items():
        for found in seeds.values():
            for key, value in found.items():
                kind, _, rest = key.partition("/")
                if kind == "test" and rest.rsplit("/")[-1] in METRICS:
                    _, protocol, metric = rest.split("/")
                    own = values.setdefault(name, {}).setdefault(protocol, {})
                    own.setdefault(metric, []).append(value)
    return values


def place(runs: Path, name: str, seed: int | str) -> Path:
    """The folder of one run."""
    return runs / f"{name}_{seed}".replace(" ", "_")


def run(verb: str, overrides: list[str], folder: Path) -> None:
    """Train or evaluate once; a training that was stopped is gone on with."""
    if is_finished(folder, overrides):
        return  # quicker than to be told so by the run
    again = [f"hydra.run.dir={folder}", *(["resume=auto"] if verb == "train" else [])]
    command = [sys.executable, "-m", f"ccreid.{verb}", *overrides, *again]
    print(" ".join(command[1:]), flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.with_suffix(".log"), "a") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
        said = Path(log.name).read_text(errors="replace").rstrip().splitlines()[-SHOWN:]
        sys.exit("\n".join([*said, f"Exit code {code}; {log.name} has the whole output."]))


def is_finished(folder: Path, overrides: list[str]) -> bool:
    """Return whether a folder holds the metrics of a run with these settings."""
    if not (folder / "metrics.json").exists():
        return False
    typed = yaml.safe_load((folder / ".hydra" / "overrides.yaml").read_text())
    return [each for each in typed if not each.startswith("resume=")] == overrides


def read(folder: Path) -> dict[str, float | int | str]:
    """Return what a run's metrics.json says, and the minutes of its training."""
    if not (folder / "metrics.json").exists():
        return {}
    found = json.loads((folder / "metrics.json").read_text())
    if "seconds_per_epoch" in found:  # not of a run that was only evaluated in the end
        epochs = yaml.safe_load((folder / "config.yaml").read_text())["trainer"]["max_epochs"]
        found["minutes"] = epochs * found["seconds_per_epoch"] / 60
    return found


def table(results: dict, values: dict) -> list[str]:
    protocols = in_order(list({protocol: 0 for each in values.values() for protocol in each}))
    columns = [f"{protocol} {METRICS[metric]}" for protocol in protocols for metric in METRICS]
    every_run = [run for seeds in results.values() for run in seeds.values()]
    costs = [key for key in COSTS if any(key in run for run in every_run)]
    columns += [COSTS[key] for key in costs]
    lines = [
        "| setting | seeds | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for name, seeds in results.items():
        cells = [
            spread([100 * value for value in values[name].get(protocol, {}).get(metric, [])])
            for protocol in protocols
            for metric in METRICS
        ]
        cells += [spread([run[key] for run in seeds.values() if key in run]) for key in costs]
        lines.append(f"| {name} | {len(seeds)} | " + " | ".join(cells) + " |")
    return lines


def differences(runs: Path, results: dict) -> dict:
    """Return setting → protocol → metric → difference to the first setting.

    In points, paired by seed and by test person, with a bootstrap interval over the test people.
    """
    first, *others = results
    gaps: dict = {}  # empty for a single setting
    for name in others:
        common = sorted(set(results[name]) & set(results[first]))
        for protocol in protocols_of(place(runs, first, common[0])) if common else ():
            for metric in METRICS:
                each = [
                    by_person(place(runs, name, seed), protocol, metric)
                    - by_person(place(runs, first, seed), protocol, metric)
                    for seed in common
                ]
                own = gaps.setdefault(name, {}).setdefault(protocol, {})
                own[metric] = gap(each)
    return gaps


def difference_table(first: str, gaps: dict) -> list[str]:
    protocols = in_order(list({protocol: 0 for each in gaps.values() for protocol in each}))
    shown = [(protocol, metric) for protocol in protocols for metric in METRICS]
    lines = [
        f"Difference to `{first}` in points, mean over the seeds both have, [95 % interval over "
        f"the test people, {DRAWS:,} bootstrap draws]. Every person counts the same, however many "
        "queries are theirs:",
        "",
        "| setting | seeds | " + " | ".join(f"{p} {METRICS[m]}" for p, m in shown) + " |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name, by in gaps.items():
        each = [by[protocol][metric] for protocol, metric in shown]
        lines.append(f"| {name} | {each[0].seeds} | " + " | ".join(map(str, each)) + " |")
    return lines


def protocols_of(folder: Path) -> list[str]:
    with np.load(folder / "queries.npz", allow_pickle=False) as queries:
        return in_order([key.split("/")[0] for key in queries if key.endswith("/pid")])


def by_person(folder: Path, protocol: str, metric: str) -> np.ndarray:
    """Return each test person's rank-1 or mean AP in percent, people in the order of their numbers.

    Queries without a match do not count, nor do people without a query that does.
    """
    with np.load(folder / "queries.npz", allow_pickle=False) as queries:
        pid, precision = queries[f"{protocol}/pid"], queries[f"{protocol}/average_precision"]
        first_hit = queries[f"{protocol}/first_hit_rank"]
    valid = ~np.isnan(precision)
    of_query = {"mAP": precision, "rank1": first_hit == 1}[metric]
    people = np.unique(pid[valid])
    return np.array([100 * of_query[valid & (pid == person)].mean() for person in people])


def gap(each: list[np.ndarray]) -> Gap:
    """Return the mean over seeds of each person's difference, and its interval over people."""
    people = np.mean(each, axis=0)
    draws = np.random.default_rng(0).integers(len(people), size=(DRAWS, len(people)))
    low, high = np.quantile(people[draws].mean(axis=1), [0.025, 0.975])
    return Gap(float(people.mean()), float(low), float(high), len(each))


def spread(values: list[float]) -> str:
    if not values:
        return "–"
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    main()
