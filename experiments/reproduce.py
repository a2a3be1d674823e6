"""Train a recipe with several seeds and put what came out beside what was published.

python experiments/reproduce.py fire2_prcc --seeds 3     (or: make reproduce EXP=fire2_prcc SEEDS=3)

Trains one seed after the other under outputs/<recipe>/, goes on where it was stopped, and writes
experiments/<recipe>/results.json and README.md. Further settings follow after `--`, and are written
down with the results: a number with other settings is no reproduction.
"""

import argparse
import json
import statistics
from pathlib import Path

import yaml
from compare import parse_with_settings, read, run, spread, was_told

from ccreid.config import compose, list_benchmarks, list_methods

HERE = Path(__file__).parent
RECIPES = {f"{m}_{d}": (m, d) for m in list_methods() for d in list_benchmarks()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=sorted(RECIPES), metavar="recipe")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--outputs", type=Path, default=Path("outputs"))
    parser.add_argument("--into", type=Path, default=HERE, help="where <recipe>/ is written")
    arguments, settings = parse_with_settings(parser)
    method, data = RECIPES[arguments.recipe]
    command = [f"method={method}", f"data={data}", *settings]
    config = compose("train", command)
    if config.recipe_name != arguments.recipe:
        parser.error(f"there is no conf/recipe/{arguments.recipe}.yaml")
    folders = {s: arguments.outputs / arguments.recipe / str(s) for s in range(arguments.seeds)}
    for seed, folder in folders.items():
        run("train", [*command, f"seed={seed}"], folder)
    seeds = {str(seed): read(folder) for seed, folder in folders.items()}
    place = arguments.into / arguments.recipe
    write(place, command, seeds)


def write(place: Path, command: list[str], seeds: dict[str, dict]) -> None:
    """Write results.json and README.md into the folder of a recipe."""
    place.mkdir(exist_ok=True)
    (place / "results.json").write_text(json.dumps(seeds, indent=1, sort_keys=True) + "\n")
    commits = sorted({run["commit"] for run in seeds.values()})
    minutes = [run["minutes"] for run in seeds.values() if "minutes" in run]
    cost = f", {statistics.mean(minutes):.0f} minutes a run" if minutes else ""
    published = yaml.safe_load((HERE / "published.yaml").read_text()).get(place.name, {})
    best = (
        " The published numbers are of the best epoch on the test split, where their source does "
        "not say otherwise."
    )
    lines = [
        f"# {place.name}",
        "",
        f"`python -m ccreid.train {' '.join(command)} seed=<seed>`, seeds {', '.join(seeds)}, "
        f"commit {', '.join(commits)}{cost}. Last epoch.{best if published else ''}",
        "",
        *table(published, seeds),
    ]
    if any(map(was_told, seeds.values())):
        lines += ["", "The network was told the cameras of the test images."]
    (place / "README.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def table(published: dict, seeds: dict[str, dict]) -> list[str]:
    lines = ["| protocol | rank-1 | mAP | published rank-1 / mAP |", "|---|---|---|---|"]
    keys = [key for key in next(iter(seeds.values())) if key.endswith("/mAP")]
    for key in sorted(keys):
        _, benchmark, protocol, _ = key.split("/")
        ours = [
            spread([100 * run[f"test/{benchmark}/{protocol}/{metric}"] for run in seeds.values()])
            for metric in ("rank1", "mAP")
        ]
        theirs = "; ".join(
            f"{entry['rank1']} / {entry['mAP']} ({entry['source']})"
            for entry in published.get(protocol, ())
        )
        lines.append(f"| {protocol} | {' | '.join(ours)} | {theirs or '–'} |")
    return lines


if __name__ == "__main__":
    main()
