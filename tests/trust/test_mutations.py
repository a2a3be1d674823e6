"""Whatever one setting is changed to: the run begins, or one library error says what is wrong."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ccreid import report
from ccreid.config import compose, list_methods
from ccreid.convert import convert
from ccreid.diagnose import diagnose
from ccreid.encode_text import encode_text
from ccreid.errors import ConfigError
from ccreid.evaluate import evaluate
from ccreid.export import export
from ccreid.parse import parse
from ccreid.train import train
from ccreid.verify import verify
from ccreid.visualize import visualize
from tests.trust.mutations import VALUES, keys_of, outcome, reach, stop_training, training

REPRODUCIBLE = {
    "derandomize": True,
    "database": None,
    "deadline": None,
    "phases": (Phase.generate, Phase.shrink),
    "suppress_health_check": [HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
}


@pytest.fixture(autouse=True)
def quiet_and_elsewhere(monkeypatch, tmp_path):
    """Let relative folders that a setting names lie in `tmp_path`, and nothing be shown."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "show", lambda content: None)


def require_one_error(result):
    if result == "ran":
        return
    text = str(result)
    assert text.strip()
    assert "Traceback" not in text


@settings(max_examples=60, **REPRODUCIBLE)
@given(data=st.data())
def test_a_changed_setting_of_a_training_begins_or_is_one_error(data, monkeypatch):
    base = training(data.draw(st.sampled_from(list_methods()), label="method"))
    key = data.draw(st.sampled_from(keys_of(base)), label="setting")
    with monkeypatch.context() as patch:
        stop_training(patch, batches=0)
        require_one_error(outcome(train, base, key, data.draw(VALUES, label="value")))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@settings(max_examples=150, **REPRODUCIBLE)
@given(data=st.data())
@pytest.mark.parametrize("method", list_methods())
def test_a_changed_setting_of_a_training_trains_a_batch_or_is_one_error(method, data, monkeypatch):
    base = training(method)
    key = data.draw(st.sampled_from(keys_of(base)), label="setting")
    with monkeypatch.context() as patch:
        stop_training(patch, batches=1)
        require_one_error(outcome(train, base, key, data.draw(VALUES, label="value")))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Of a tiny training that was stopped before its first batch."""
    from lightning import Trainer

    from ccreid.build import build_datamodule, build_method
    from ccreid.checkpoints.checkpoint import provenance

    cfg = training("fire2").copy()
    cfg.output_dir = str(tmp_path_factory.mktemp("run"))
    data = build_datamodule(cfg)
    method = build_method(cfg, data.sizes)
    method.provenance = provenance(cfg, data.sizes)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=0, **quiet)
    trainer.fit(method, datamodule=data)
    path = f"{cfg.output_dir}/last.ckpt"
    trainer.save_checkpoint(path)
    return path


# Each verb, its command line, and the function at which its settings are all taken.
VERBS = {
    "evaluate": (
        evaluate,
        ["output_dir=out"],
        "ccreid.callbacks.evaluation.evaluate_method",
    ),
    "visualize": (
        visualize,
        ["output_dir=out", "what=[embedding]"],
        "ccreid.features.extract_features",
    ),
    "diagnose": (diagnose, ["output_dir=out"], "ccreid.features.extract_features"),
    "verify": (
        verify,
        ["data=virtual", "manifest=out"],
        "ccreid.data.verification.checks.verify_benchmark",
    ),
    "encode_text": (
        encode_text,
        ["data=virtual", "encoder=tfidf", "folder=out"],
        "ccreid.data.captions.features.encode",
    ),
    "parse": (parse, ["data=virtual", "output_dir=out"], "ccreid.annotation.masks.make_masks"),
    "export": (export, ["output=out"], "ccreid.checkpoints.exporting.export_checkpoint"),
    "convert": (
        convert,
        ["method=fire2", "data=virtual", "output=out", "output_dir=out"],
        "ccreid.models.weights.read_tensors",
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_changed_setting_of_another_verb_begins_or_is_one_error(verb, checkpoint, monkeypatch):
    change_settings(verb, checkpoint, monkeypatch, examples=12)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("verb", VERBS)
def test_many_changed_settings_of_another_verb(verb, checkpoint, monkeypatch):
    change_settings(verb, checkpoint, monkeypatch, examples=200)


def change_settings(verb, checkpoint, monkeypatch, examples):
    run, overrides, last = VERBS[verb]
    file = {"convert": "weights"}.get(verb, "checkpoint")
    given_too = (
        [f"{file}={checkpoint}"] if OmegaConf.is_missing(compose(verb, overrides), file) else []
    )
    base = compose(verb, [*overrides, *given_too])
    monkeypatch.setattr(last, reach)
    if verb == "parse":  # its network is not at hand
        network = torch.nn.Module()
        network.config = SimpleNamespace(num_labels=18)
        monkeypatch.setattr("ccreid.models.parsers._load", lambda model: (network, None))
    keys = [key for key in keys_of(base) if not key.startswith("data.")]
    assert outcome(run, base, keys[0], base[keys[0]]) == "ran"

    @settings(max_examples=examples, **REPRODUCIBLE)
    @given(st.sampled_from(keys), VALUES)
    def one_change(key, value):
        require_one_error(outcome(run, base, key, value))

    one_change()


@pytest.mark.parametrize(
    "overrides",
    [
        ["method=[]"],
        ["method.optimizer=[1]"],
        ["method.optimizer=5"],
        ["data.parsing=5"],
        ["data.parsing=null"],
        ["input=5"],
        ["seed="],
        ["=5"],
        ["method.scheduler.milestones={}"],
        ["~method.nothing"],
        ["+method.new=1"],
        ["method.epsilon=${nothing}"],
        ["seed=${nothing}"],
        ["method.epsilon=${oc.env:NOT_THERE}"],
        ["method.epsilon='"],
        ["method.epsilon=0.1=0.2"],
        ["callbacks=5"],
        ["trainer.devices=0"],
        ["callbacks.evaluation=null"],
        ["data.benchmark=null"],
        ["data.train_transform=null"],
    ],
)
def test_a_strange_command_line_is_one_error(overrides, monkeypatch):
    stop_training(monkeypatch, batches=0)

    def run():
        train(compose("train", ["method=fire2", "data=virtual", "output_dir=out", *overrides]))

    with pytest.raises(ConfigError) as error:
        run()
    assert str(error.value).strip()
