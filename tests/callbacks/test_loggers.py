"""What loggers leave on disk, read back; wandb offline, unreachable, refused, failing, unneeded."""

import builtins
import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from PIL import Image

from ccreid.callbacks import pictures
from ccreid.callbacks.loggers import finish_loggers, tensorboard_logger
from ccreid.callbacks.wandb_logger import WandbRunLogger
from ccreid.errors import ConfigError, TrainingError
from ccreid.methods.fire2 import FIRe2
from ccreid.train import train
from tests.miniature.small_virtual import write_small_virtual

wandb = pytest.importorskip("wandb")
Record = pytest.importorskip("wandb.proto.wandb_internal_pb2").Record
pytestmark = pytest.mark.timeout(120)  # nothing here may wait for a network

FIRE2 = ("method=fire2", "debug=fast", "method.mining.start_epoch=1")
LOGGED = {
    "train/id",
    "train/attribute",
    "images_per_second",
    "test/virtual/cc/mAP",
    "test/virtual/general/rank1",
    "mining/clusters_per_identity",
    "mining/purity",
    "mining/ari",
    "mining/singletons",
}
SOME_KEY = "0123456789" * 4


@pytest.fixture(autouse=True)
def _a_machine_without_a_key(monkeypatch, tmp_path):
    for name in [*(name for name in os.environ if name.startswith("WANDB_")), "NETRC"]:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    wandb.teardown()  # its session remembers the environment
    yield
    wandb.teardown()


@pytest.fixture
def logger(tmp_path):
    return make_logger(tmp_path)


def make_logger(folder, **settings):
    config = {
        "method": {"_target_": "ccreid.methods.fire2.FIRe2"},
        "data": {"benchmark": {"_target_": "ccreid.data.benchmarks.virtual.Virtual"}},
    }
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    return WandbRunLogger(str(folder), str(folder / "config.yaml"), **settings)


def read_run(folder):
    """Read the only wandb run of a folder back, once it is finished."""
    (path,) = (Path(folder) / "wandb").glob("*run-*/*.wandb")  # not through the link `latest-run`
    for _ in range(100):  # wandb's own process writes, a moment after `finish` has returned
        records = [Record.FromString(raw) for raw in leveldb_log(path.read_bytes()[7:], offset=7)]
        if any(record.HasField("exit") for record in records):
            break
        time.sleep(0.1)
    (run,) = [record.run for record in records if record.HasField("run")]
    history = {}
    for item in (item for record in records for item in record.history.item):
        history.setdefault("/".join(item.nested_key), []).append(json.loads(item.value_json))
    return SimpleNamespace(
        path=path,
        id=run.run_id,
        project=run.project,
        group=run.run_group,
        name=run.display_name,
        tags=list(run.tags),
        config={item.key: json.loads(item.value_json) for item in run.config.update},
        history=history,
        exit_codes=[record.exit.exit_code for record in records if record.HasField("exit")],
        files=[file.path for record in records for file in record.files.files],
        terminal=[r for r in records if r.HasField("output") or r.HasField("output_raw")],
    )


def leveldb_log(data, offset):
    """Yield a log's records: fragments in 32 KiB blocks, each behind crc (4), length (2), kind (1).

    https://github.com/google/leveldb/blob/main/doc/log_format.md; wandb's own `offset` bytes before
    it count in the first block.
    """
    full, last, header, block = 1, 4, 7, 32768
    at, record = 0, b""
    while at + header <= len(data):
        if (room := block - (at + offset) % block) < header:  # a block's tail is padding
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        at += header + length
        record += data[at - length : at]
        if kind in (full, last):
            yield record
            record = b""


def test_an_offline_run_holds_numbers_config_group_and_an_exit(tiny_config, monkeypatch, capfd):
    monkeypatch.setattr(builtins, "input", None)  # asking would fail
    result = train(tiny_config(*FIRE2, "logger=wandb"))
    run = read_run(result.output_dir)
    assert set(run.history) >= LOGGED
    assert any(name.startswith("learning_rate") for name in run.history)
    assert run.history["test/virtual/cc/mAP"] == [result.metrics["test/virtual/cc/mAP"]]
    assert run.project == "ccreid"
    assert run.group == "fire2_virtual"
    assert run.name == result.output_dir.name
    written = OmegaConf.load(result.output_dir / "config.yaml")
    assert run.config["method"] == OmegaConf.to_container(written.method)
    assert run.exit_codes == [0]
    assert not run.terminal
    assert not [path for path in run.files if path.startswith("media")]
    told = capfd.readouterr().err
    assert "no key is known" in told
    assert f"wandb sync {run.path.parent}" in told
    assert "train/id" in (result.output_dir / "metrics.csv").read_text()


def test_pictures_are_part_of_a_run_only_if_it_was_asked_for(tiny_config, tmp_path, capfd):
    asked = ("logger=wandb", "logger.wandb.upload_pictures=true")
    result = train(tiny_config(*FIRE2, *write_small_virtual(tmp_path), *asked))
    run = read_run(result.output_dir)
    files = {path.stem: path for path in (result.output_dir / "pictures").glob("*.png")}
    assert len([name for name in files if name.startswith("clusters_")]) == 3
    for name, file in files.items():
        ((sent,),) = run.history[f"pictures/{name}/filenames"]  # one picture, logged once
        assert (run.path.parent / "files" / sent).read_bytes() == file.read_bytes()
        assert run.history[f"pictures/{name}/captions"] == [[name]]
    assert len(list(run.path.parent.glob("files/media/images/**/*.png"))) == len(files) == 6
    assert "leave this machine" in capfd.readouterr().err


@pytest.mark.parametrize("asked", [True, False])
def test_what_a_logger_is_given_is_uploaded_only_if_it_was_told_to(tmp_path, asked, capfd):
    logger = make_logger(tmp_path, upload_pictures=asked)
    noise = np.random.default_rng(0).integers(256, size=(9, 7, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "ranked_cc.png")
    logger.log_metrics({"a": 1.0}, step=3)
    logger.log_pictures([tmp_path / "ranked_cc.png"], step=3)
    finish_loggers([logger], failed=False)
    run = read_run(tmp_path)
    assert ("pictures/ranked_cc/filenames" in run.history) == asked
    found = [*run.path.parent.glob("files/media/**/*.png")]
    assert [path.read_bytes() for path in found] == [
        (tmp_path / "ranked_cc.png").read_bytes()
    ] * asked
    assert ("leave this machine" in capfd.readouterr().err) == asked


@pytest.mark.parametrize("failure", ["training", "pictures", "interrupt"])
def test_a_run_that_fails_is_finished_as_failed(tiny_config, monkeypatch, failure):
    def fail(*_):
        raise KeyboardInterrupt if failure == "interrupt" else TrainingError("on purpose")

    handler = signal.getsignal(signal.SIGINT)
    target = (pictures, "draw_protocols") if failure == "pictures" else (FIRe2, "losses")
    monkeypatch.setattr(*target, fail)
    cfg = tiny_config(*FIRE2, "logger=wandb")
    try:
        with pytest.raises((TrainingError, SystemExit)):
            train(cfg)
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores a second Ctrl-C
    assert read_run(cfg.output_dir).exit_codes == [1]


def test_an_unreachable_server_does_not_stop_the_run(tiny_config, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_API_KEY", SOME_KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    settings = ("logger=wandb", "logger.wandb.connect_timeout=2")
    result = train(tiny_config("method=baseline", "debug=fast", *settings))
    run = read_run(result.output_dir)
    assert "train/id" in run.history
    assert run.exit_codes == [0]
    told = capfd.readouterr().err
    assert "did not answer in time" in told
    assert f"wandb sync {run.path.parent}" in told
    assert "WANDB_HTTP_TIMEOUT" not in os.environ


def test_a_refused_key_does_not_stop_the_run(tmp_path, logger, monkeypatch, capfd):
    class Refusal(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(401)
            self.end_headers()
            self.wfile.write(b'{"errors": [{"message": "no such user"}]}')

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_API_KEY", SOME_KEY)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        logger.log_metrics({"a": 1.0}, step=0)
        server.shutdown()
    finish_loggers([logger], failed=False)
    assert "no such user" in capfd.readouterr().err
    assert read_run(tmp_path).history["a"] == [1.0]


@pytest.mark.parametrize("works", [True, False])
def test_with_an_accepted_key_the_run_is_online_or_else_offline_under_the_same_id(
    tmp_path, logger, monkeypatch, works
):
    attempts, init = [], wandb.init

    def spy(**settings):
        attempts.append((settings["mode"], settings["id"]))
        if not works and settings["mode"] == "online":
            raise wandb.errors.CommError("no such project")
        return init(**(settings | {"mode": "offline"}))

    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(wandb, "init", spy)
    for step in range(2):
        logger.log_metrics({"a": step}, step=step)
    finish_loggers([logger], failed=False)
    finish_loggers([logger], failed=True)  # too late to change anything
    assert [mode for mode, _ in attempts] == (["online"] if works else ["online", "offline"])
    assert len({run_id for _, run_id in attempts}) == 1
    run = read_run(tmp_path)
    assert run.history["a"] == [0, 1]
    assert run.exit_codes == [0]


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_mode_is_obeyed(tmp_path, logger, monkeypatch, mode):
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(wandb, "login", None)  # must not be asked
    logger.log_metrics({"a": 1.0}, step=0)
    finish_loggers([logger], failed=False)
    assert (tmp_path / "wandb").exists() == (mode == "offline")


def test_an_impossible_wandb_mode_is_named(logger, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "of")
    with pytest.raises(ConfigError, match="'online', 'offline'"):
        _ = logger.experiment
    monkeypatch.undo()


def test_another_rank_creates_nothing(tmp_path, logger, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    monkeypatch.setattr(wandb, "init", None)
    logger.experiment.log({"a": 1.0})
    logger.log_metrics({"a": 1.0}, step=0)
    finish_loggers([logger], failed=True)
    assert not (tmp_path / "wandb").exists()


def test_two_jobs_of_one_process_are_two_runs(tmp_path):
    ids = set()
    for job in ("0", "1"):
        (tmp_path / job).mkdir()
        logger = make_logger(tmp_path / job, group="chosen", name=job, tags=["tag"])
        logger.log_metrics({"a": 1.0}, step=0)
        finish_loggers([logger], failed=False)
        run = read_run(tmp_path / job)
        assert (run.group, run.name, run.tags) == ("chosen", job, ["tag"])
        ids.add(run.id)
    assert len(ids) == 2


def test_jobs_of_a_sweep_are_grouped_and_named_by_what_differs(tmp_path, logger, monkeypatch):
    job = SimpleNamespace(
        mode=RunMode.MULTIRUN,
        runtime=SimpleNamespace(choices={"method": "fire2", "data": "prcc", "logger": "wandb"}),
        overrides=SimpleNamespace(task=["method=fire2", "logger=wandb", "seed=1", "method.tau=1"]),
    )
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: job)
    logger.log_metrics({"a": 1.0}, step=0)
    finish_loggers([logger], failed=False)
    run = read_run(tmp_path)
    assert run.group == f"fire2_prcc/{tmp_path.parent.name}"
    assert run.name == "seed=1 method.tau=1"


def test_a_death_of_wandb_itself_does_not_stop_the_run(logger, monkeypatch, capfd):
    def lost(*_, **__):
        raise ConnectionResetError("Connection lost")

    run = logger.experiment
    monkeypatch.setattr(run, "log", lost)
    monkeypatch.setattr(run, "finish", lost)
    for step in range(3):
        logger.log_metrics({"a": 1.0}, step=step)
    finish_loggers([logger], failed=False)
    assert capfd.readouterr().err.count("stopped working") == 1


def test_finishing_before_anything_was_logged_begins_no_run(tmp_path, logger):
    finish_loggers([logger], failed=True)
    assert not (tmp_path / "wandb").exists()


def test_missing_packages_are_named(tmp_path, monkeypatch):
    from lightning.fabric.loggers import tensorboard
    from lightning.pytorch.loggers import wandb as lightning_wandb

    monkeypatch.setattr(lightning_wandb, "_WANDB_AVAILABLE", False)
    with pytest.raises(ConfigError, match=r"ccreid\[wandb\]"):
        make_logger(tmp_path)
    monkeypatch.setattr(tensorboard, "_TENSORBOARD_AVAILABLE", False)
    monkeypatch.setattr(tensorboard, "_TENSORBOARDX_AVAILABLE", False)
    with pytest.raises(ConfigError, match=r"ccreid\[tensorboard\]"):
        tensorboard_logger(str(tmp_path))


def test_tensorboard_holds_the_same_numbers(tiny_config):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = train(tiny_config(*FIRE2, "logger=tensorboard"))
    events = accumulator.EventAccumulator(str(result.output_dir / "tensorboard")).Reload()
    scalars = set(events.Tags()["scalars"])
    assert scalars >= LOGGED
    assert any(name.startswith("learning_rate") for name in scalars)
    assert not events.Tags()["images"]
    mean = events.Scalars("test/virtual/cc/mAP")[0].value
    assert mean == pytest.approx(result.metrics["test/virtual/cc/mAP"])
    assert json.loads((result.output_dir / "metrics.json").read_text())
    assert "train/id" in (result.output_dir / "metrics.csv").read_text()
