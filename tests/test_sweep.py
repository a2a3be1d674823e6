import csv
import json
import os
import signal
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from PIL import Image

import ccreid
from ccreid.commands import run_verb
from ccreid.config import CONF_DIR, compose
from ccreid.runs.jobs import FAILURE, METRICS, SETTINGS
from ccreid.runs.multirun import PLAN
from ccreid.sweep import summarise
from ccreid.viz import curves
from ccreid.viz.curves import draw_curves
from ccreid.viz.swept import notation
from tests.conftest import TINY


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def sweep_dir(tmp_path):
    """Two swept keys, two seeds; one job failed, one died, one never began, one is an old one."""

    def add(name, seed, state, overrides=(), value=0.5):
        folder = tmp_path / name
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {o}\n" for o in overrides))
        method = {"_target_": "ccreid.methods.fire2.FIRe2"}
        (folder / SETTINGS).write_text(json.dumps({"seed": seed, "method": method}))
        metrics = {"test/virtual/cc/mAP": value, "test/virtual/cc/rank1": 1.0, "commit": "abc"}
        if state == "done":
            (folder / METRICS).write_text(json.dumps(metrics))
        if state == "failed":
            (folder / FAILURE).write_text("ValueError: a, b\n\nTraceback ...")

    jobs = {}
    for parts in (1, 2, 10):
        for epsilon in ("0.1", "0.2"):
            for seed in (0, 1):
                name = f"epsilon-{epsilon}_parts-{parts}_seed-{seed}"
                values = {"method.epsilon": epsilon, "method.parts": str(parts)}
                jobs[name] = {**values, "seed": str(seed)}
                if parts < 10:
                    add(name, seed, "done", value=0.1 * parts)
    add("epsilon-0.1_parts-10_seed-0", 0, "failed")
    add("epsilon-0.1_parts-10_seed-1", 1, "unfinished")
    add("old", 5, "done", ["+method.epsilon=0.4", "method.parts=2", "data=virtual", "seed=5"], 0.75)
    plan = {"swept": ["method.epsilon", "method.parts", "seed"], "fixed": [], "jobs": jobs}
    (tmp_path / PLAN).write_text(json.dumps(plan))
    return tmp_path


def test_the_table_has_a_row_for_every_job(sweep_dir):
    rows = read(summarise(sweep_dir))
    assert [row["method.parts"] for row in rows[:6]] == ["1", "1", "2", "2", "10", "10"]
    found = {row["folder"]: row for row in rows}
    assert len(found) == 13
    assert [row["status"] for row in rows].count("done") == 9
    failed = found["epsilon-0.1_parts-10_seed-0"]
    assert (failed["status"], failed["error"]) == ("failed", "ValueError: a, b")
    assert failed["test/virtual/cc/mAP"] == ""
    assert found["epsilon-0.1_parts-10_seed-1"]["status"] == "unfinished"
    assert found["epsilon-0.2_parts-10_seed-1"]["status"] == "missing"
    assert found["epsilon-0.2_parts-10_seed-1"]["seed"] == "1"
    old = found["old"]
    assert (old["method.epsilon"], old["seed"]) == ("0.4", "5")
    assert float(old["test/virtual/cc/mAP"]) == 0.75
    assert not [key for key in rows[0] if key == "commit"]


def test_a_picture_for_each_key_and_value_of_the_others(sweep_dir):
    summarise(sweep_dir)
    assert {path.name for path in sweep_dir.glob("*.png")} == {
        "virtual_epsilon_parts-1.png",
        "virtual_epsilon_parts-2.png",
        "virtual_parts_epsilon-0.1.png",
        "virtual_parts_epsilon-0.2.png",
    }
    assert Image.open(sweep_dir / "virtual_epsilon_parts-1.png").width > 600


def test_rank1_and_map_of_every_protocol_are_in_the_picture(sweep_dir, monkeypatch):
    drawn = []

    def spy(curves, swept, title, caution):
        drawn.append((curves, swept.letter, title, caution))
        return draw_curves(curves, swept, title, caution)

    monkeypatch.setattr(curves, "draw_curves", spy)
    summarise(sweep_dir)
    (points, caution) = next(
        (d[0], d[3]) for d in drawn if d[1:3] == ("P", "FIRe2 on virtual, ε = 0.2")
    )
    assert points == {
        "cc": {"mAP": {1: [0.1] * 2, 2: [0.2] * 2}, "rank1": {1: [1] * 2, 2: [1] * 2}}
    }
    assert "rendered people" in caution


SWEEPS = {
    "epsilon": "method.epsilon",
    "tau": "method.tau",
    "lambda": "method.recomposition_weight",
    "p": "method.parts",
    "k": "method.recompositions",
    "eps": "method.mining.eps",
}


@pytest.mark.parametrize("data", ["virtual", "ltcc", "prcc"])
@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_papers_ablations_are_possible_on_every_benchmark_it_reports(sweep, data):
    written = OmegaConf.load(CONF_DIR / "sweep" / f"fire2_{sweep}.yaml")
    ((key, grid),) = written.hydra.sweeper.params.items()
    assert key == SWEEPS[sweep]
    values = [float(value) for value in str(grid).split(",")]
    assert notation(key, "FIRe2").released in values
    for value in str(grid).split(","):
        cfg = compose(
            "train", [f"+sweep=fire2_{sweep}", "method=fire2", f"data={data}", f"{key}={value}"]
        )
        assert cfg.recipe_name == f"fire2_{data}"
        assert OmegaConf.select(cfg, key) == float(value)
    if sweep == "p":  # rows of the feature map: one in 32 of virtual, one in 16 of the others
        rows = cfg.input.height // (16 if cfg.backbone.last_stride == 1 else 32)
        assert all(rows % int(value) == 0 for value in values)


def multirun(cwd, *overrides, method="baseline"):
    """Run a tiny sweep as a user does; return the exit code and all that was said."""
    command = [sys.executable, "-m", "ccreid.train", "-m", f"method={method}", "debug=fast"]
    root = os.path.dirname(os.path.dirname(ccreid.__file__))
    environment = {**os.environ, "PYTHONPATH": root, "COLUMNS": "200"}
    process = subprocess.Popen(
        [*command, *TINY, *overrides],
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=200)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, output


def test_a_failed_job_is_recorded_and_the_same_sweep_runs_only_what_is_missing(tmp_path):
    grid = "data.identities_per_batch=4,1000,8"
    code, output = multirun(tmp_path, grid)
    assert code == 1, output
    assert "1 of 3 jobs are not done" in output
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    rows = read(folder / "summary.csv")
    assert [row["status"] for row in rows] == ["done", "done", "failed"]
    assert "1000" in rows[2]["error"]
    assert (folder / "virtual_identities_per_batch.png").exists()

    first, second = (folder / f"identities_per_batch-{p}_seed-0" / METRICS for p in (4, 8))
    kept, before = second.stat().st_mtime_ns, json.loads(first.read_text())
    first.unlink()  # as if it had died at its very end
    code, output = multirun(tmp_path, grid)
    assert code == 1
    assert "identities_per_batch-8_seed-0 is done and not run again" in output
    assert "identities_per_batch-4_seed-0 goes on from" in output
    assert second.stat().st_mtime_ns == kept
    metric = "test/virtual/cc/mAP"
    assert json.loads(first.read_text())[metric] == pytest.approx(before[metric], rel=1e-6)
    assert [row["status"] for row in read(folder / "summary.csv")] == ["done", "done", "failed"]


def test_methods_are_swept_each_with_its_own_recipe(tmp_path):
    fixed = ("method.label_smoothing=0.05", "data.validation=none")
    code, output = multirun(tmp_path, *fixed, method="baseline,cal")
    assert code == 0, output
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert [row["status"] for row in read(folder / "summary.csv")] == ["done", "done"]
    for method in ("baseline", "cal"):
        config = OmegaConf.load(folder / f"method-{method}_seed-0" / "config.yaml")
        assert config.recipe_name == f"{method}_virtual"
        assert config.method.label_smoothing == 0.05


@pytest.mark.parametrize(
    "swept", [["method=glob(*)"], ["method=fire2", "method.tau=interval(0,1)"]]
)
def test_what_cannot_be_swept_is_one_error(swept, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "-m", "data=virtual", *swept])
    with pytest.raises(SystemExit) as stopped:
        run_verb(lambda: None, "train")
    assert stopped.value.code == 2
    assert "This cannot be swept" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_optuna_chooses_from_what_its_trials_gave(tmp_path):
    """Needs the extra `optuna`; half a minute."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    trials = ("+sweep=fire2_optuna", "hydra.sweeper.n_trials=2")
    code, output = multirun(tmp_path, *trials, method="fire2")
    assert code == 0, output
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    rows = read(folder / "summary.csv")
    assert [row["status"] for row in rows] == ["done", "done"]
    assert rows[0]["method.epsilon"] != rows[1]["method.epsilon"]
    best = OmegaConf.load(folder / "optimization_results.yaml")
    chosen = max(rows, key=lambda row: float(row["test/virtual/cc/mAP"]))
    assert best.best_value == pytest.approx(float(chosen["test/virtual/cc/mAP"]))
    assert best.best_params["method.epsilon"] == pytest.approx(float(chosen["method.epsilon"]))


@pytest.mark.slow
def test_each_job_in_a_process_of_its_own(tmp_path):
    """Needs the extra `sweep`; half a minute."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    code, output = multirun(tmp_path, "data.identities_per_batch=4,1000", "+launcher=local")
    assert code == 1, output
    (folder,) = (tmp_path / "outputs" / "sweeps").iterdir()
    assert [row["status"] for row in read(folder / "summary.csv")] == ["done", "failed"]


def test_jobs_of_several_processes_are_refused_at_once(tmp_path):
    code, output = multirun(tmp_path, "seed=0,1", "trainer.devices=2")
    assert code == 2
    assert "Ways out" in output
    assert not (tmp_path / "outputs").exists()
