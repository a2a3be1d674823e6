"""The scripts under experiments/ on runs that are small enough for a test."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ccreid.config import compose, list_benchmarks, list_methods
from tests.conftest import TINY
from tests.miniature.small_virtual import write_small_virtual

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
    archive = write_small_virtual(tmp_path)
    plan = {
        "seeds": [0, 1],
        "shared": [*TINY, "debug=fast", *archive],
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
    minutes = 2 * results["cal"]["0"]["seconds_per_epoch"] / 60  # two epochs
    assert results["cal"]["0"]["minutes"] == pytest.approx(minutes)
    assert Image.open(folder / "comparison.png").width > 1000
    again = script("compare.py", folder, "--outputs", tmp_path / "out", cwd=tmp_path)
    assert "ccreid.train" not in again.stdout
    assert json.loads((folder / "results.json").read_text()) == results
    others = tmp_path / "others"
    others.mkdir()
    elsewhere = {"trained_in": "../small", "shared": ["data=virtual"]}
    (others / "settings.yaml").write_text(yaml.safe_dump(elsewhere))
    command = ("compare.py", others, "--outputs", tmp_path / "out", "--seeds", 0, "--", archive[0])
    evaluated = script(*command, cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout.count("-m ccreid.evaluate") == 2
    for name, found in json.loads((others / "results.json").read_text()).items():
        trained = results[name]["0"]["test/virtual/cc/mAP"]
        assert found["0"]["test/virtual/cc/mAP"] == pytest.approx(trained, abs=1e-6)
    assert "ccreid.evaluate" not in script(*command, cwd=tmp_path).stdout
    trained = tmp_path / "out" / "small" / "cal_0" / "metrics.json"
    os.utime(trained)  # trained again
    assert script(*command, cwd=tmp_path).stdout.count("-m ccreid.evaluate") == 1
    trained.rename(trained.with_name("kept.json"))
    assert f"{trained.parent} is not finished" in script(*command, cwd=tmp_path).stderr
    trained.with_name("kept.json").rename(trained)
    plan |= {
        "seeds": [0],
        "settings": {"baseline": ["method=baseline", "method.distance=euclidean"]},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(plan))
    changed = script("compare.py", folder, "--outputs", tmp_path / "out", cwd=tmp_path)
    assert changed.returncode  # the run refuses the folder of other settings
    assert json.loads((folder / "results.json").read_text()) == results
    nothing = script("compare.py", folder, "--collect", "--outputs", tmp_path / "no", cwd=tmp_path)
    assert "There is no finished run" in nothing.stderr
    assert json.loads((folder / "results.json").read_text()) == results


def test_a_run_that_fails_ends_the_comparison_with_what_it_said(tmp_path):
    plan = {"seeds": [0], "shared": ["data=virtual"], "settings": {"a": ["method=baselin"]}}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(plan))
    finished = script("compare.py", tmp_path, "--outputs", tmp_path / "out", cwd=tmp_path)
    assert finished.returncode == 1
    assert "Did you mean 'baseline'?" in finished.stderr
    log = tmp_path / "out" / tmp_path.name / "a_0.log"
    assert finished.stderr.endswith(f"Exit code 2; {log} has the whole output.\n")


@pytest.fixture
def compare(monkeypatch):
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    yield importlib.import_module("compare")
    sys.modules.pop("compare")


def write_run(folder, precision, first_hit, benchmark="prcc"):
    """A run on three people, the last of whom has no query with a match."""
    folder.mkdir(parents=True)
    pid = np.array([4, 4, 9, 7])
    arrays = {"pid": pid, "average_precision": precision, "first_hit_rank": first_hit}
    named = {f"{protocol}/{name}": a for protocol in ("sc", "cc") for name, a in arrays.items()}
    np.savez(folder / "queries.npz", **named)
    metrics = {f"test/{benchmark}/{p}/{m}": 0.5 for p in ("sc", "cc") for m in ("rank1", "mAP")}
    costs = {"seconds_per_epoch": 30.0, "images_per_second": 1.0}
    (folder / "metrics.json").write_text(json.dumps({**metrics, **costs}))
    (folder / "config.yaml").write_text("trainer: {max_epochs: 12}")


def test_differences_are_paired_by_seed_and_person_on_any_benchmark(compare, tmp_path, monkeypatch):
    nan = float("nan")
    runs = tmp_path / "out" / "small"
    write_run(runs / "a_0", [0.2, 0.4, 0.1, nan], [1, 3, 2, -1])
    write_run(runs / "a_1", [0.4, 0.4, 0.1, nan], [1, 1, 1, -1])
    write_run(runs / "b_0", [0.6, 0.4, 0.2, nan], [1, 1, 1, -1])
    folder = tmp_path / "small"
    folder.mkdir()
    plan = {"seeds": [0, 1], "shared": [], "settings": {"a": [], "b": []}}
    (folder / "settings.yaml").write_text(yaml.safe_dump(plan))
    command = ["compare.py", str(folder), "--outputs", str(tmp_path / "out"), "--collect"]
    monkeypatch.setattr(sys, "argv", command)
    drawn = []
    original = compare.draw_comparison
    monkeypatch.setattr(compare, "draw_comparison", lambda *a: drawn.append(a) or original(*a))
    compare.main()
    table = (folder / "table.md").read_text().splitlines()
    columns = ["setting", "seeds", "sc rank-1", "sc mAP", "cc rank-1", "cc mAP", "minutes"]
    assert [cell.strip() for cell in table[0].split("|")[1:8]] == columns
    assert "| 6.0 ± 0.0 |" in table[2]  # 12 epochs of half a minute, both seeds
    # Person 4: mAP +20, rank-1 +50; person 9: mAP +10, rank-1 +100; only seed 0 is in both.
    (values, gaps, title, caution) = drawn[0]
    assert values["a"]["cc"] == {"rank1": [0.5, 0.5], "mAP": [0.5, 0.5]}
    for protocol in ("sc", "cc"):
        for metric, (low, mean, high) in {"mAP": (10, 15, 20), "rank1": (50, 75, 100)}.items():
            gap = gaps["b"][protocol][metric]
            assert (gap.mean, gap.low, gap.high) == pytest.approx((mean, low, high))
            assert gap.seeds == 1
    assert table[-1].startswith("| b | 1 | +75.0 [+50.0, +100.0] | +15.0 [+10.0, +20.0] |")
    assert (title, caution) == ("prcc, last epoch, seeds 0, 1", "")
    assert (folder / "comparison.png").stat().st_size > 0


def test_runs_without_times_are_reported_without_and_cameras_are_told(compare, tmp_path):
    reproduce = importlib.import_module("reproduce")
    run = {"commit": "abc", "test/prcc/cc/rank1": 0.5, "test/prcc/cc/mAP": 0.25}
    reproduce.write(tmp_path / "fire2_prcc", ["method=fire2"], {"0": run})
    page = (tmp_path / "fire2_prcc" / "README.md").read_text()
    assert "minutes" not in page
    assert "published numbers are of the best epoch" in page
    reproduce.write(tmp_path / "fire2_virtual", [], {"0": {**run, "minutes": 3.0}})
    page = (tmp_path / "fire2_virtual" / "README.md").read_text()
    assert "3 minutes a run" in page
    assert "best epoch" not in page
    assert "cameras" not in page
    reproduce.write(tmp_path / "differ_prcc", [], {"0": {**run, "cameras/prcc/known": 3}})
    page = (tmp_path / "differ_prcc" / "README.md").read_text()
    assert "told the cameras of the test images" in page
    assert compare.was_told({**run, "cameras/prcc/known": 3, "cameras/prcc/unknown": 0})
    assert not compare.was_told({**run, "cameras/prcc/known": 0, "cameras/prcc/unknown": 3})


def test_an_unknown_recipe_is_refused(tmp_path):
    finished = script("reproduce.py", "fire2_nkup", cwd=tmp_path)
    assert finished.returncode == 2
    assert "there is no conf/recipe/fire2_nkup.yaml" in finished.stderr


def test_a_recipe_is_put_beside_what_was_published(tmp_path):
    places = ("--seeds", 2, "--into", tmp_path, "--outputs", tmp_path / "out")
    settings = (*TINY[1:], "debug=fast", *write_small_virtual(tmp_path))
    finished = script("reproduce.py", "baseline_virtual", *places, "--", *settings, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    page = (tmp_path / "baseline_virtual" / "README.md").read_text()
    assert "seeds 0, 1" in page
    assert "debug=fast" in page  # other settings are told
    seeds = json.loads((tmp_path / "baseline_virtual" / "results.json").read_text())
    mean = sum(100 * run["test/virtual/cc/mAP"] for run in seeds.values()) / 2
    (row,) = [line for line in page.splitlines() if line.startswith("| cc |")]
    assert f"{mean:.1f} ±" in row
