"""Dashboards show what runs log, and a kept run says nothing of where it was made."""

import csv
import json
import socket
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from ccreid.config import compose, list_methods
from ccreid.train import train
from tests.callbacks.test_loggers import Record, leveldb_log
from tests.conftest import TINY
from tests.miniature.small_virtual import write_small_virtual

FOLDER = Path(__file__).parents[1] / "experiments" / "dashboards"
pytest.importorskip("wandb")


@pytest.fixture(autouse=True)
def _modules_of_the_folder(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in ("create", "definition", "keep", "offline_run"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that trains a method once, FIRe² with wandb, and returns its folder."""
    folders, small = {}, write_small_virtual(tmp_path_factory.mktemp("data"))
    with_wandb = {"fire2": ("logger=wandb", "logger.wandb.upload_pictures=true")}

    def folder(method):
        if method not in folders:
            output = tmp_path_factory.mktemp(method)
            given = (f"method={method}", "debug=fast", "trainer.max_epochs=3")  # two minings
            given = (*given, *small, *with_wandb.get(method, ()), f"output_dir={output}")
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("WANDB_MODE", "offline")
                train(compose("train", [*TINY, *given]))
            folders[method] = output
        return folders[method]

    return folder


def logged(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [float(row[key]) for row in rows if row[key]] for key in rows[0]}


@pytest.mark.parametrize("method", sorted(list_methods()))
def test_a_method_logs_every_key_that_its_dashboards_show(method, run):
    from definition import read

    folder = run(method)
    keys = {key for key, values in logged(folder).items() if values}
    config = OmegaConf.load(folder / "config.yaml")
    shown = [each for each in read(["virtual"]).values() if method in each.methods]
    assert shown  # a method without any is a method that was forgotten
    for dashboard in shown:
        assert config.method._target_ in dashboard.targets
        for panel in dashboard.panels:
            assert panel.keys <= keys, panel
            if panel.config:
                assert OmegaConf.select(config, panel.config) is not None
        if dashboard.group_by:
            assert OmegaConf.select(config, dashboard.group_by) is not None


def test_the_protocols_are_those_of_the_benchmark():
    from definition import read

    dashboard = read(["prcc", "virtual"])["comparison"]
    keys = set().union(*(panel.keys for panel in dashboard.panels))
    assert {"test/prcc/cc/mAP", "test/virtual/general/mAP"} <= keys
    assert "test/prcc/general/mAP" not in keys


def test_the_ablations_of_the_paper_are_all_there():
    from definition import read

    swept = {panel.config for panel in read(["ltcc"])["sweeps"].panels if panel.config}
    names = ("epsilon", "tau", "recomposition_weight", "parts", "recompositions")
    assert swept == {f"method.{name}" for name in names}


def test_wandbs_own_objects_hold_every_panel():
    """Needs wandb-workspaces, which nothing else does."""
    pytest.importorskip("wandb_workspaces")
    from create import workspace
    from definition import read

    for dashboard in read(["virtual"]).values():
        spec = workspace(dashboard, "someone", "ccreid")._to_model().model_dump(mode="json")
        text = json.dumps(spec)
        for panel in dashboard.panels:
            assert all(key in text for key in panel.keys)
            assert json.dumps(panel.title) in text


@pytest.mark.parametrize("length", [0, 1, 32747, 32748, 32754, 32755, 32761, 70000])
def test_records_of_any_length_are_written_as_they_are_read(tmp_path, length):
    from offline_run import read_records, write_records

    records = [b"a" * 5, bytes(k % 251 for k in range(length)), b"z" * 11]
    write_records(tmp_path / "x.wandb", records)
    assert list(read_records(tmp_path / "x.wandb")) == records
    assert list(leveldb_log((tmp_path / "x.wandb").read_bytes()[7:], offset=7)) == records


def test_a_damaged_run_is_refused(tmp_path):
    from offline_run import read_records, write_records

    path = tmp_path / "x.wandb"
    write_records(path, [b"abc"])
    path.write_bytes(path.read_bytes()[:-1] + b"d")
    with pytest.raises(ValueError, match="damaged"):
        list(read_records(path))
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="not the file"):
        list(read_records(path))


@pytest.fixture
def offline(run):
    folder = run("fire2")
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return folder, path


def test_a_kept_run_has_its_numbers_and_not_where_it_was_made(offline, tmp_path):
    from keep import keep

    folder, path = offline
    config, summary, history, file = keep(path, tmp_path)
    assert file == tmp_path / path.parent.name / path.name
    metrics = json.loads((folder / "metrics.json").read_text())
    for key, value in json.loads(summary.read_text()).items():
        if key.startswith("test/"):
            assert value == pytest.approx(metrics[key])
    with history.open(newline="") as rows:
        kept = list(csv.DictReader(rows))
    values = {key: [float(row[key]) for row in kept if row[key]] for key in kept[0]}
    for key, numbers in logged(folder).items():
        if key != "step" and not key.startswith("epoch"):
            assert values[key] == pytest.approx(numbers), key
    written, own = yaml.safe_load(config.read_text()), OmegaConf.load(folder / "config.yaml")
    assert written["method"] == OmegaConf.to_container(own.method)
    assert written["output_dir"] == f"<path>/{folder.name}"

    raw = list(leveldb_log(file.read_bytes()[7:], offset=7))
    kinds = {Record.FromString(record).WhichOneof("record_type") for record in raw}
    assert {"run", "history", "exit"} <= kinds
    assert not kinds & {"environment", "stats", "telemetry", "files", "output", "output_raw"}
    everything = b"".join(each.read_bytes() for each in (config, summary, history, file))
    assert str(folder).encode() in path.read_bytes()
    for secret in (str(folder.parent), str(Path.home()), sys.executable):
        assert secret.encode() not in everything
    assert b"pictures/" not in b"".join(each.read_bytes() for each in (summary, history, file))
    assert len(everything) < 100_000


def test_a_run_that_still_names_the_machine_is_not_kept(offline, tmp_path, monkeypatch):
    from keep import keep

    monkeypatch.setattr(socket, "gethostname", lambda: "FIRe2")
    with pytest.raises(SystemExit, match="where it was made: 'FIRe2'"):
        keep(offline[1], tmp_path)
    assert not list(tmp_path.iterdir())


def test_paths_in_texts_keep_their_last_part():
    from keep import without_paths

    config = {"a": ["seed=1 hydra.run.dir=/home/me/b"], "b": "~/data/prcc", "c": 1}
    assert without_paths(config) == {
        "a": ["seed=1 hydra.run.dir=<path>/b"],
        "b": "<path>/prcc",
        "c": 1,
    }
    for harmless in ("test/virtual/cc/mAP", "rank-1 / mAP", "1/16", "ccreid.methods.fire2.FIRe2"):
        assert without_paths(harmless) == harmless
