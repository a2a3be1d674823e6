"""Options that every method must live with, one short run each."""

import math

import pytest
import torch

from ccreid import list_methods
from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.errors import ConfigError
from ccreid.evaluate import evaluate
from ccreid.train import train
from tests.methods.test_methods import overrides

OPTIONS = {
    "bf16": ("precision=bf16",),
    "channels_last": ("backbone.channels_last=true",),
    "accumulation": ("trainer.accumulate_grad_batches=2", "trainer.limit_train_batches=3"),
    "ema": ("callbacks=ema", "callbacks.ema.decay=0.5"),
    "evaluation between": ("callbacks.evaluation.every_n_epochs=1",),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("method", list_methods())
def test_option(method, option, tiny_config):
    if (method, option) == ("cal", "accumulation"):  # it steps a classifier with every batch
        with pytest.raises(ConfigError, match="accumulate_grad_batches"):
            train(tiny_config(*overrides(method), *OPTIONS[option]))
        return
    metrics = train(tiny_config(*overrides(method), *OPTIONS[option])).metrics
    assert all(math.isfinite(v) for k, v in metrics.items() if k.startswith("test/"))


@pytest.mark.slow
@pytest.mark.parametrize("method", list_methods())
def test_compiled_backbones_train_and_their_checkpoints_are_plain(method, tiny_config):
    plain = train(tiny_config(*overrides(method), folder="plain"))
    compiled = train(tiny_config(*overrides(method), "compile=true", folder="compiled"))
    one, other = (load_checkpoint(run.checkpoint).state_dict for run in (plain, compiled))
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.slow
def test_what_was_compiled_without_attention_is_not_used_with_it(tiny_config):
    for method in ("baseline", "cre_bsga"):
        train(tiny_config(*overrides(method), "compile=true", folder=method))


@pytest.mark.parametrize("method", list_methods())
def test_fp16(method, tiny_config):
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="fp16 needs a GPU"):
            train(tiny_config(*overrides(method), "precision=fp16"))
        return
    metrics = train(tiny_config(*overrides(method), "precision=fp16", "trainer=gpu")).metrics
    assert math.isfinite(metrics["test/virtual/cc/mAP"])


@pytest.mark.parametrize("method", list_methods())
def test_averaged_weights_are_evaluated_and_saved(method, tiny_config):
    """The checkpoint holds what was evaluated: the average, not the last step's weights."""
    settings = (*overrides(method), "method.optimizer.lr=0.1", "trainer.limit_train_batches=3")
    averaged = train(tiny_config(*settings, *OPTIONS["ema"], folder="averaged"))
    last = train(tiny_config(*settings, folder="last"))
    one, other = (load_checkpoint(run.checkpoint).state_dict for run in (averaged, last))
    assert any(not torch.equal(value, other[name]) for name, value in one.items())
    cfg = tiny_config(f"checkpoint={averaged.checkpoint}", config_name="evaluate", folder="again")
    expected = {k: v for k, v in averaged.metrics.items() if k.startswith("test/")}
    assert evaluate(cfg) == expected


def test_an_unknown_precision(tiny_config):
    with pytest.raises(ConfigError, match="auto, fp32, bf16, fp16"):
        train(tiny_config("method=baseline", "precision=half"))


def test_a_gpu_where_there_is_none(tiny_config):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ConfigError, match="has 0 GPUs; trainer=cpu needs none"):
        train(tiny_config("method=baseline", "trainer=gpu"))
