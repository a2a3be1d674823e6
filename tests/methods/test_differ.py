"""DIFFER's terms, schedule, parameter groups and settings."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from ccreid.config import compose
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError, DataError
from ccreid.losses import batch_hard_triplet_loss, image_text_contrastive_loss
from ccreid.methods.differ import DIFFER
from ccreid.methods.schedules import adversarial_ramp, warmup_cosine
from ccreid.models import Backbone

with np.load(Path(__file__).parents[1] / "golden" / "differ.npz") as golden:
    LR = {base: golden[f"lr/base_{base}"] for base in ("2e-06", "2e-05")}
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)


def build(optimizer=SGD, scheduler=None, **settings):
    torch.manual_seed(0)
    backbone = Backbone("test_efficientnet", "none", last_stride=None)
    return DIFFER(backbone, 4, 3, 12, optimizer, scheduler, **settings)


def batch(size=8, perspectives=3):
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.rand(size, 3, 64, 32, generator=generator),
        "pid": torch.arange(size) // 2,
        "camid": torch.arange(size) % 4 - 1,
        "clothes_id": torch.arange(size),
        "index": torch.arange(size),
        "caption": torch.randn(size, perspectives, 12, generator=generator),
    }


def test_the_terms_are_those_of_the_paper_with_their_texts():
    method, data = build().eval(), batch()
    losses = method.losses(data)
    f = method.embed(data["image"], data["camid"])
    text, pid = data["caption"], data["pid"]
    hair, clothing = method.non_biometric_heads
    expected = {
        "id": cross_entropy(method.classifier(f), pid),
        "triplet": batch_hard_triplet_loss(f, pid, "soft"),
        "biometrics": image_text_contrastive_loss(method.biometric_head(f), text[:, 0]),
        "hairstyle": image_text_contrastive_loss(hair(f), text[:, 1]),
        "clothing": image_text_contrastive_loss(clothing(f), text[:, 2]),
    }
    assert losses.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(losses[name], loss, msg=name)


def test_triplets_may_be_of_cosine_distances():
    method, data = build(distance="cosine").eval(), batch()
    f = method.embed(data["image"], data["camid"])
    expected = batch_hard_triplet_loss(f, data["pid"], "soft", "cosine")
    torch.testing.assert_close(method.losses(data)["triplet"], expected)


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({"triplet_weight": 0, "biometric_weight": 0, "non_biometric_weight": 0}, {"id"}),
        ({"biometric_weight": 0, "non_biometric_weight": 0}, {"id", "triplet"}),
        ({"non_biometric_weight": 0}, {"id", "triplet", "biometrics"}),
        ({"biometric_weight": 0}, {"id", "triplet", "hairstyle", "clothing"}),
        ({}, {"id", "triplet", "biometrics", "hairstyle", "clothing"}),
        ({"as_released": True}, {"id", "triplet", "biometrics", "non_biometric"}),
    ],
)
def test_every_ablation_is_a_setting_and_begins_with_the_same_weights(settings, terms):
    method, full = build(**settings), build().state_dict()
    assert all(torch.equal(value, full[name]) for name, value in method.state_dict().items())
    assert method.losses(batch()).keys() == terms


def test_weights_multiply_their_terms():
    one = build().losses(batch())
    weights = {"triplet_weight": 2.0, "biometric_weight": 3.0, "non_biometric_weight": 5.0}
    other = build(**weights).losses(batch())
    factors = {"id": 1, "triplet": 2, "biometrics": 3, "hairstyle": 5, "clothing": 5}
    for name, factor in factors.items():
        torch.testing.assert_close(other[name], factor * one[name], msg=name)


@pytest.mark.parametrize("strength", [1.0, 0.25])
def test_the_feature_climbs_where_the_non_biometric_heads_descend(strength):
    def gradients(method, through):
        losses = method.losses(batch())
        parameters = [method.cameras.table, method.non_biometric_heads[1].fc.weight]
        return torch.autograd.grad(losses[through], parameters)

    method = build(reversal_strength=strength).eval()
    camera, head = gradients(method, "clothing")
    method.reversal.strength = -1.0  # no reversal
    plain_camera, plain_head = gradients(method, "clothing")
    assert plain_camera.abs().max() > 0
    torch.testing.assert_close(camera, -strength * plain_camera)
    torch.testing.assert_close(head, plain_head)


def test_as_released_only_the_first_images_feel_the_non_biometric_heads():
    def felt(**settings):
        method, data = build(**settings).eval(), batch()
        data["image"].requires_grad_()
        losses = method.losses(data)
        adversarial = losses.get("non_biometric", losses.get("clothing"))
        return torch.autograd.grad(adversarial, data["image"])[0].flatten(1).norm(dim=1) > 0

    assert felt(as_released=True).tolist() == [True, True] + [False] * 6
    assert felt().all()


def test_without_a_camera_all_cameras_are_unknown():
    method, images = build().eval(), batch()["image"]
    unknown = torch.full((8,), -1)
    with torch.no_grad():
        assert torch.equal(method.embed(images), method.embed(images, unknown))
        assert not torch.equal(method.embed(images), method.embed(images, unknown + 1))


@pytest.mark.parametrize("gathered", [False, True])
def test_gathering_finds_texts_among_those_of_all_ranks(gathered, monkeypatch):
    method, data = build(gather_contrastive=gathered, targets="identity").eval(), batch()
    others = batch(perspectives=4)["caption"][:, 3]
    method._trainer = SimpleNamespace(world_size=2)

    def all_gather(value, sync_grads=False):
        assert sync_grads == value.requires_grad  # gradients flow to every rank's features
        return torch.stack([value, others if value.ndim == 2 else value + 100])

    monkeypatch.setattr(method, "all_gather", all_gather)
    projected = method.biometric_head(method.embed(data["image"], data["camid"]))
    text, pid = data["caption"][:, 0], data["pid"]
    got = method._contrastive(projected, text, pid)
    if gathered:
        projected, text = torch.cat([projected, others]), torch.cat([text, others])
        pid = torch.cat([pid, pid + 100])
    expected = image_text_contrastive_loss(projected, text, targets="identity", pids=pid)
    torch.testing.assert_close(got, expected)


def test_clips_of_one_frame_are_images():
    method, data = build().eval(), batch()
    clips = data | {"image": data["image"][:, None]}
    for name, loss in method.losses(data).items():
        torch.testing.assert_close(method.losses(clips)[name], loss, msg=name)


def rates(base, epochs=60, **settings):
    """Learning rates of weights and biases in every epoch, as a run sets them."""
    schedule = partial(warmup_cosine, epochs=epochs, **settings)
    method = build(partial(torch.optim.SGD, lr=base), schedule)
    configured = method.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    table = []
    for _ in range(epochs):
        table.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return table


@pytest.mark.parametrize("base", LR)
def test_the_official_learning_rates_of_weights_and_biases(base):
    np.testing.assert_allclose(rates(float(base)), LR[base], rtol=1e-9)


def test_learning_rates_without_warm_up_and_after_the_last_epoch():
    table = rates(1.0, epochs=2, warmup_epochs=0, final_factor=0.0)
    np.testing.assert_allclose(table, [[0.5, 1.0], [0.0, 0.0]], atol=1e-12)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, epochs=3, warmup_epochs=1)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.1)
    for settings in ({"epochs": 0}, {"warmup_epochs": -1}):
        with pytest.raises(ConfigError, match=r"method\.scheduler"):
            warmup_cosine(optimizer, **settings)


def test_every_trainable_parameter_is_in_one_group_and_biases_are_told_by_name():
    method = build(heads="clipMLP")
    weights, biases = (group["params"] for group in method.parameter_groups())
    names = {id(parameter): name for name, parameter in method.named_parameters()}
    assert {"classifier.bias", "non_biometric_heads.1.fc2.bias"} <= {names[id(p)] for p in biases}
    assert {"cameras.table", "classifier.weight"} <= {names[id(p)] for p in weights}
    assert all(("bias" in names[id(p)]) == (p in set(biases)) for p in [*weights, *biases])
    together = [id(p) for p in [*weights, *biases]]
    assert sorted(together) == sorted(id(p) for p in method.parameters() if p.requires_grad)


def test_biases_learn_at_another_rate_whatever_the_optimiser():
    for make in (SGD, partial(torch.optim.Adam, lr=0.1)):
        optimizer = build(make, bias_lr_factor=3.0).configure_optimizers()
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.3])


def test_the_ramp_of_the_reversal():
    assert adversarial_ramp(0) == 0
    assert adversarial_ramp(0.5) == pytest.approx(0.98661, abs=1e-5)
    assert adversarial_ramp(1) == pytest.approx(0.99991, abs=1e-5)
    strengths = {}
    for schedule in ("constant", "ramp"):
        method = build(reversal_strength=2.0, reversal_schedule=schedule)
        datamodule = SimpleNamespace(seed=0)
        strengths[schedule] = []
        for epoch in (0, 5):
            method._trainer = SimpleNamespace(
                current_epoch=epoch, max_epochs=10, datamodule=datamodule, global_rank=0
            )
            method.on_train_epoch_start()
            strengths[schedule].append(method.reversal.strength)
    assert strengths["constant"] == [2.0, 2.0]
    assert strengths["ramp"] == pytest.approx([0.0, 2 * 0.98661], abs=1e-4)


@pytest.mark.parametrize(
    ("camids", "said"),
    [([0, 3], "0 to 3; the camera embedding has rows for 0 to 2"), ([-2, 1], "-2 to 1")],
)
def test_a_training_camera_without_a_row_is_refused(camids, said):
    method = build()
    train = [Sample("a.jpg", pid=0, camid=camid) for camid in camids]
    method._trainer = SimpleNamespace(datamodule=SimpleNamespace(train=train))
    with pytest.raises(DataError, match=said):
        method.on_fit_start()
    train[:] = [Sample("a.jpg", pid=0, camid=camid) for camid in (-1, 0, 2)]
    method.on_fit_start()
    known = method.eval().knows_camera(torch.tensor([-1, 0, 1, 2, 3]))
    assert known.tolist() == [False, True, False, True, False]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.0}, "method.temperature"),
        ({"targets": "person"}, "method.targets"),
        ({"heads": "clip"}, "method.heads"),
        ({"hidden_dim": 0}, "method.hidden_dim"),
        ({"margin": "sofft"}, "method.margin"),
        ({"margin": -1.0}, "method.margin"),
        ({"distance": "manhattan"}, "method.distance"),
        ({"reversal_strength": -1.0}, "method.reversal_strength"),
        ({"reversal_schedule": "sigmoid"}, "method.reversal_schedule"),
        ({"non_biometric": []}, "method.non_biometric"),
        ({"non_biometric": ["pose", "pose"]}, "method.non_biometric"),
        ({"non_biometric": ["biometrics"]}, "method.non_biometric"),
        ({"triplet_weight": -1.0}, "method.triplet_weight"),
        ({"bias_lr_factor": 0.0}, "method.bias_lr_factor"),
        ({"camera_factor": -1.0}, "method.camera_factor"),
        ({"as_released": True, "targets": "identity"}, "Leave these out"),
        ({"as_released": True, "gather_contrastive": True}, "Leave these out"),
    ],
)
def test_impossible_settings_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        build(**settings)


@pytest.mark.parametrize(
    ("benchmark", "lr", "batch_size", "non_biometric", "encoder", "summary"),
    [
        ("ltcc", 2e-6, (8, 2), ["hairstyle", "clothing"], "EVA02-CLIP-B-16", False),
        ("prcc", 2e-6, (4, 4), ["hairstyle"], "EVA02-CLIP-L-14", True),
        ("celeb_reid_light", 2e-5, (4, 2), ["clothing"], "EVA02-CLIP-bigE-14", False),
        ("ccvid", 2e-5, (4, 2), ["clothing"], "EVA02-CLIP-bigE-14", False),
    ],
)
def test_the_published_recipes(benchmark, lr, batch_size, non_biometric, encoder, summary):
    cfg = compose("train", ["method=differ", f"data={benchmark}"])
    assert cfg.recipe_name == f"differ_{benchmark}"
    assert cfg.backbone.name == "eva02_large_patch14_clip_224.merged2b"
    assert (cfg.input.height, cfg.input.width, cfg.trainer.max_epochs) == (224, 224, 60)
    assert cfg.method.optimizer.lr == lr
    assert (cfg.data.identities_per_batch, cfg.data.images_per_identity) == batch_size
    assert cfg.method.non_biometric == non_biometric
    assert cfg.data.captions.encoder == encoder
    assert cfg.data.captions.get("summary", False) == summary
    assert cfg.method.scheduler.epochs == 60
    assert cfg.method.camera_factor == {"ccvid": 1, "celeb_reid_light": 0}.get(benchmark, 3)
