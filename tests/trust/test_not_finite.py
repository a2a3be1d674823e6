"""Numbers that are not finite: the run stops with what a person needs, and none is ever saved."""

import math
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision

from ccreid.build import build_datamodule, build_method
from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.errors import TrainingError
from ccreid.methods.baseline import Baseline
from ccreid.methods.finite import first_not_finite
from ccreid.train import train
from tests.miniature.folder import write_folder
from tests.miniature.small_run import small_run

TWO_STEPS = ("trainer.max_epochs=3", "trainer.limit_train_batches=2")


@pytest.fixture
def root(tmp_path):
    return write_folder(tmp_path / "mine")


def broken_losses(when):
    """The baseline's losses, of which `id` is NaN where `when(method, batch_idx)` says so."""
    losses = Baseline.losses

    def broken(self, batch):
        terms = losses(self, batch)
        if when(self):
            terms["id"] = terms["id"] * float("nan")
        return terms

    return broken


def test_a_loss_names_its_terms_its_batch_and_that_there_is_no_checkpoint(root, monkeypatch):
    monkeypatch.setattr(Baseline, "losses", broken_losses(lambda method: True))
    with pytest.raises(TrainingError) as error:
        train(small_run(root, *TWO_STEPS))
    text = str(error.value)
    assert "The loss is no longer finite" in text
    assert "id=nan, triplet=" in text
    assert "in epoch 1" in text
    assert "There is no checkpoint yet." in text
    assert len([line for line in text.splitlines() if line.endswith(".jpg")]) == 2 * 4


@pytest.mark.parametrize("step", [2, 3])
def test_a_later_loss_names_the_last_good_checkpoint(root, monkeypatch, step):
    """At the first step of an epoch, and at its last, behind which only the epoch's end comes."""
    monkeypatch.setattr(Baseline, "losses", broken_losses(lambda m: m.global_step == step))
    cfg = small_run(root, *TWO_STEPS)
    with pytest.raises(TrainingError) as error:
        train(cfg)
    checkpoint = Path(cfg.output_dir) / "checkpoints" / "last.ckpt"
    assert "in epoch 2" in str(error.value)
    assert f"The last good checkpoint is {checkpoint}" in str(error.value)
    kept = load_checkpoint(checkpoint)
    assert kept.epoch == 1
    assert not first_not_finite(kept.state_dict)


def break_gradient(monkeypatch, step):
    """Let the gradient of one weight be NaN at one step; the loss stays finite."""
    losses = Baseline.losses

    def hooked(self, batch):
        if self.global_step == step:
            weight = self.bnneck.weight
            handle = weight.register_hook(lambda g: (handle.remove(), g * float("nan"))[1])
        return losses(self, batch)

    monkeypatch.setattr(Baseline, "losses", hooked)


@pytest.mark.parametrize("evaluated", [0, 1])
def test_weights_that_the_last_step_of_an_epoch_spoils_are_not_saved(root, monkeypatch, evaluated):
    break_gradient(monkeypatch, step=3)
    cfg = small_run(root, *TWO_STEPS, f"callbacks.evaluation.every_n_epochs={evaluated}")
    with pytest.raises(TrainingError) as error:
        train(cfg)
    text = str(error.value)
    assert "of the network is no longer finite" in text
    terms = text.partition("(")[2].partition(")")[0]
    assert all(math.isfinite(float(term.partition("=")[2])) for term in terms.split(", "))
    kept = load_checkpoint(Path(cfg.output_dir) / "checkpoints" / "last.ckpt")
    assert kept.epoch == 1
    assert not first_not_finite(kept.state_dict)


def trainer_for(**settings):
    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
    )


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A trainer that has done one step."""
    cfg = small_run(write_folder(tmp_path_factory.mktemp("fitted") / "mine"))
    data = build_datamodule(cfg)
    trainer = trainer_for(max_steps=1)
    trainer.fit(build_method(cfg, data.sizes), datamodule=data)
    return trainer


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["weight", "buffer", "moment"])
def test_no_checkpoint_holds_anything_that_is_not_finite(fitted, tmp_path, part, value):
    norm = fitted.lightning_module.bnneck
    state = fitted.optimizers[0].state[norm.weight]
    moment = next(v for v in state.values() if v.ndim)
    tensor = {"weight": norm.weight.data, "buffer": norm.running_var, "moment": moment}[part]
    good = tensor[3].clone()
    tensor[3] = value
    try:
        with pytest.raises(
            TrainingError, match=r"No checkpoint is written: (state_dict|optimizer)"
        ):
            fitted.save_checkpoint(tmp_path / "a.ckpt")
        assert not list(tmp_path.glob("a.ckpt*"))
    finally:
        tensor[3] = good
    fitted.save_checkpoint(tmp_path / "a.ckpt")


def test_gradients_that_the_scaling_of_fp16_overflows_are_no_error(root):
    cfg = small_run(root, "data.images_per_identity=2")
    data = build_datamodule(cfg)
    method = build_method(cfg, data.sizes)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    overflowed = []

    def watch(module):
        overflowed.append(bool(first_not_finite([p.grad for p in module.parameters()])))

    method.on_before_optimizer_step = lambda optimizer: watch(method)
    trainer = trainer_for(
        plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)],
        max_epochs=1,
        limit_train_batches=2,
    )
    trainer.fit(method, datamodule=data)
    assert overflowed[0]
    assert scaler.get_scale() < 2.0**40
    assert not first_not_finite(method.state_dict())
    trainer.save_checkpoint(root.parent / "half.ckpt")


def test_the_first_tensor_is_named_at_any_depth():
    good, bad = torch.ones(3), torch.tensor([1.0, float("inf")])
    assert first_not_finite({"a": good, "b": [{"c": good}, torch.tensor(3), "text", None]}) == ""
    assert first_not_finite({"a": good, "b": [{"c": bad}, bad]}, "state") == "state.b.0.c"
