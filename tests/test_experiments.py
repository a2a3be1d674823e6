"""The scripts under experiments/ on runs that are small enough for a test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ccreid.config import compose, list_benchmarks, list_methods
from tests.conftest import TINY

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PUBLISHED = yaml.safe_load((EXPERIMENTS / "published.yaml").read_text())


def script(name, *arguments, cwd):
    command = [sys.executable, str(EXPERIMENTS / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280)


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_published_numbers_are_of_a_method_and_a_protocol_of_the_benchmark(recipe):
    ((method, data),) = [
        (m, d) for m in list_methods() for d in list_benchmarks() if f"{m}_{d}" == recipe
    ]
    node = compose("train", [f"method={method}", f"data={data}"]).data.benchmark
    from hydra.utils import get_class

    names = {protocol.name for protocol in get_class(node._target_).protocols}
    assert set(PUBLISHED[recipe]) <= names
    for entries in PUBLISHED[recipe].values():
        for entry in entries:
            assert 0 < entry["mAP"] <= 100
            assert 0 < entry["rank1"] <= 100
            assert entry["source"]


def test_settings_are_compared_over_seeds_and_a_stopped_comparison_goes_on(tmp_path):
    plan = {
        "seeds": [0, 1],
        "shared": [*TINY, "debug=fast"],
        "settings": {"baseline": ["method=baseline"], "cal": ["method=cal"]},
    }
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "settings.yaml").write_text(yaml.safe_dump(plan))
    finished = script("compare.py", folder, "--outputs", tmp_path / "out", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("-m ccreid.train") == 4
    results = json.loads((folder / "results.json").read_text())
    assert {name: sorted(seeds) for name, seeds in results.items()} == {
        "baseline": ["0", "1"],
        "cal": ["0", "1"],
    }
    table = (folder / "table.md").read_text()
    assert "| baseline | 2 |" in table
    gaps = [
        100
        * (results["cal"][s]["test/virtual/cc/mAP"] - results["baseline"][s]["test/virtual/cc/mAP"])
        for s in "01"
    ]
    row = next(line for line in table.splitlines()[::-1] if line.startswith("| cal"))
    assert f"{sum(gaps) / 2:+.1f} [" in row.split("|")[-2]
    again = script("compare.py", folder, "--outputs", tmp_path / "out", cwd=tmp_path)
    assert "ccreid.train" not in again.stdout
    assert json.loads((folder / "results.json").read_text()) == results


def test_an_unknown_recipe_is_refused(tmp_path):
    finished = script("reproduce.py", "fire2_nkup", cwd=tmp_path)
    assert finished.returncode == 2
    assert "there is no conf/recipe/fire2_nkup.yaml" in finished.stderr


def test_a_recipe_is_put_beside_what_was_published(tmp_path):
    places = ("--seeds", 2, "--into", tmp_path, "--outputs", tmp_path / "out")
    finished = script(
        "reproduce.py", "baseline_virtual", *places, "--", *TINY[1:], "debug=fast", cwd=tmp_path
    )
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "baseline_virtual" / "README.md").read_text()
    assert "seeds 0, 1" in page
    assert "debug=fast" in page  # other settings are told
    seeds = json.loads((tmp_path / "baseline_virtual" / "results.json").read_text())
    mean = sum(100 * run["test/virtual/cc/mAP"] for run in seeds.values()) / 2
    (row,) = [line for line in page.splitlines() if line.startswith("| cc |")]
    assert f"{mean:.1f} ±" in row
