import pickle
from pathlib import Path

import pytest
import torch

from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.config import compose
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.errors import CheckpointError, ConfigError
from ccreid.evaluate import evaluate
from ccreid.models import backbone, weights
from ccreid.train import train
from tests.conftest import TINY


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train(compose("train", [*TINY, "method=baseline", "debug=fast", f"output_dir={folder}"]))


class Attack:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path):
    victim = tmp_path / "touched"
    with (tmp_path / "evil.ckpt").open("wb") as file:
        pickle.dump({"ccreid": Attack(victim)}, file)
    torch.save({"ccreid": Attack(victim)}, tmp_path / "evil2.ckpt")
    for name in ("evil.ckpt", "evil2.ckpt"):
        with pytest.raises(CheckpointError, match="could run code"):
            load_checkpoint(tmp_path / name)
    assert not victim.exists()


def test_files_that_are_no_whole_checkpoint(run, tmp_path):
    content = run.checkpoint.read_bytes()
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "cut.ckpt").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.ckpt").write_text("hello")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    torch.save({"ccreid": {}}, tmp_path / "other.ckpt")
    for name, said in {
        "missing.ckpt": "No checkpoint at",
        "empty.ckpt": "not a whole checkpoint",
        "cut.ckpt": "not a whole checkpoint",
        "text.ckpt": "not a whole checkpoint",
        "foreign.ckpt": "was not written by ccreid",
        "other.ckpt": "it lacks 'loops'",
    }.items():
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("method.optimizer.lr=0.1", "method.optimizer.lr: 0.00035 → 0.1"),
        ("backbone.name=test_resnet", "backbone.name: test_efficientnet → test_resnet"),
        ("seed=1", "seed: 0 → 1"),
        ("trainer.limit_train_batches=2", "trainer.limit_train_batches: 1 → 2"),
        ("+trainer.gradient_clip_algorithm=value", "trainer.gradient_clip_algorithm"),
        ("+trainer.max_steps=5", "trainer.max_steps"),
        ("trainer.devices=2", "trainer.processes: 1 → 2"),
        ("data.images_per_identity=8", "data.images_per_identity: 4 → 8"),
    ],
)
def test_a_resumed_run_keeps_its_settings(run, tiny_config, settings, said):
    cfg = tiny_config("method=baseline", "debug=fast", f"resume={run.checkpoint}", settings)
    with pytest.raises(ConfigError) as error:
        train(cfg)
    assert said in str(error.value)


def test_a_resumed_run_keeps_its_people(run, tiny_config, monkeypatch):
    whole = Virtual._list

    def one_person_less(self, split):
        return tuple(sample for sample in whole(self, split) if sample.pid != 1)

    monkeypatch.setattr(Virtual, "_list", one_person_less)
    monkeypatch.setattr(Virtual, "counts", {})
    with pytest.raises(ConfigError, match=r"num_identities=64 there, .* num_identities=63 now"):
        train(tiny_config("method=baseline", "debug=fast", f"resume={run.checkpoint}"))


def test_a_resumed_run_may_be_longer(run, tiny_config):
    longer = train(
        tiny_config(
            "method=baseline", "debug=fast", "trainer.max_epochs=3", f"resume={run.checkpoint}"
        )
    )
    assert load_checkpoint(longer.checkpoint).epoch == 3


def test_a_complete_run_is_left_alone(run, tiny_config):
    before = {p: p.read_bytes() for p in run.output_dir.rglob("*") if p.is_file()}
    same = ("method=baseline", "debug=fast", f"resume={run.checkpoint}")
    with pytest.raises(ConfigError, match="is complete"):
        train(tiny_config(*same, f"output_dir={run.output_dir}"))
    assert {p: p.read_bytes() for p in run.output_dir.rglob("*") if p.is_file()} == before


def test_a_run_stopped_before_its_evaluation_is_evaluated(run, tiny_config):
    again = train(tiny_config("method=baseline", "debug=fast", f"resume={run.checkpoint}"))
    tests = {k: v for k, v in run.metrics.items() if k.startswith("test/")}
    assert tests.items() <= again.metrics.items()
    assert "seconds_per_epoch" not in again.metrics  # nothing was trained
    assert again.checkpoint == run.checkpoint


def test_evaluation_settings_are_obeyed(run, tiny_config):
    def rank(*settings, folder):
        cfg = tiny_config(
            f"checkpoint={run.checkpoint}", *settings, config_name="evaluate", folder=folder
        )
        return evaluate(cfg), cfg

    plain, cfg = rank(folder="plain")
    larger, cfg_larger = rank("input.height=96", folder="larger")
    assert (cfg.input.height, cfg_larger.input.height) == (64, 96)
    assert larger != plain
    assert rank("evaluation.mirror=false", folder="unmirrored")[0] != plain
    with pytest.raises(ConfigError, match="device=tpu9"):
        rank("device=tpu9", folder="device")


def test_a_rebuilt_method_asks_for_no_weights(run, monkeypatch):
    asked = []
    real = weights.build_network

    def build(*args, **settings):
        asked.append(args + tuple(settings.values()))
        return real(*args, **settings)

    checkpoint = load_checkpoint(run.checkpoint)
    checkpoint.config.backbone.weights = checkpoint.config.method.backbone.weights = "hub"
    monkeypatch.setattr(backbone, "build_network", build)
    checkpoint.build_method()
    assert asked
    assert not any("hub" in call for call in asked)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("callbacks=ema", r"callbacks\.ema"),
        ("trainer.accumulate_grad_batches=2", r"accumulate_grad_batches: 1 → 2"),
        ("trainer.gradient_clip_val=1.0", r"gradient_clip_val: None → 1.0"),
    ],
)
def test_what_changes_the_training_cannot_change_on_the_way(run, other, said):
    settings = [*TINY, "method=baseline", "debug=fast"]
    checkpoint = load_checkpoint(run.checkpoint)
    checkpoint.require_same_run(compose("train", [*settings, "output_dir=elsewhere"]))
    with pytest.raises(ConfigError, match=said):
        checkpoint.require_same_run(compose("train", [*settings, "output_dir=elsewhere", other]))


def test_other_images_of_as_many_people_are_other_data(run):
    checkpoint = load_checkpoint(run.checkpoint)
    checkpoint.require_same_data(checkpoint.sizes, checkpoint.train_checksum)
    with pytest.raises(ConfigError, match="other images of as many people"):
        checkpoint.require_same_data(checkpoint.sizes, "another list")


def test_going_on_in_another_runs_folder_is_refused(run, tiny_config):
    settings = ("method=baseline", "debug=fast")
    other = train(tiny_config(*settings, folder="other"))
    with pytest.raises(ConfigError, match="already holds a run"):
        train(tiny_config(*settings, f"resume={run.checkpoint}", folder="other"))
    assert other.checkpoint.exists()
    assert (other.output_dir / "metrics.json").exists()


def test_results_of_something_else_are_no_finished_run(run, tiny_config):
    cfg = tiny_config(f"checkpoint={run.checkpoint}", folder="there", config_name="evaluate")
    evaluate(cfg)
    with pytest.raises(ConfigError, match="results of something else"):
        train(tiny_config("method=baseline", "debug=fast", "resume=auto", folder="there"))


def test_a_run_without_its_pictures(tiny_config):
    result = train(tiny_config("method=baseline", "debug=fast", "~callbacks.pictures"))
    assert (result.output_dir / "metrics.json").exists()
    assert not (result.output_dir / "pictures").exists()
