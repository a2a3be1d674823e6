"""CAL: the order of its two optimisers, and its phases."""

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from ccreid.build import build_datamodule, build_method, build_trainer, instantiate
from ccreid.errors import ConfigError, DataError
from ccreid.losses import clothes_adversarial_loss


def example(tiny_config, **settings):
    cfg = tiny_config("method=cal", *(f"method.{key}={value}" for key, value in settings.items()))
    data = build_datamodule(cfg, requires={"clothes"})
    method = build_method(cfg, data.sizes)
    method.trainer = build_trainer(cfg, [])
    method.trainer.datamodule = data
    method.log = lambda *args, **kwargs: None
    method.on_fit_start()
    return method, data


def test_a_negative_margin_is_refused(tiny_config):
    with pytest.raises(ConfigError, match=r"method\.margin=-3"):
        example(tiny_config, margin=-3)


def batch_of(data, size=8):
    index = torch.arange(0, 40 * size, 40)
    return {
        "image": torch.rand(size, 3, 64, 32),
        "pid": data.train_pid[index],
        "clothes_id": data.train_clothes_id[index],
    }


def test_the_adversary_sees_the_classifier_after_its_step(tiny_config):
    method, data = example(tiny_config, start_epoch=0)
    batch = batch_of(data)
    before = method.clothes_weight.detach().clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(256))
    state = method.norm.state_dict()
    losses = method.losses(batch)
    after = method.clothes_weight.detach().clone()

    # By hand: one Adam step on the same feature, then the loss with the new rows.
    method.norm.load_state_dict(state)
    feature = method.embed(batch["image"]).detach()
    rows = before.clone().requires_grad_()
    adam = torch.optim.Adam([rows], lr=3.5e-4, weight_decay=5e-4)
    cross_entropy(16 * normalize(feature) @ normalize(rows).T, batch["clothes_id"]).backward()
    adam.step()
    torch.testing.assert_close(after, rows.detach())
    assert not torch.equal(after, before)
    owner = torch.empty(256, dtype=torch.long)
    owner[data.train_clothes_id] = data.train_pid
    cosine = normalize(feature) @ normalize(rows.detach()).T
    expected = clothes_adversarial_loss(cosine, batch["clothes_id"], owner == batch["pid"][:, None])
    torch.testing.assert_close(losses["adversarial"].detach(), expected)


def test_the_network_learns_nothing_of_the_classifiers_step(tiny_config):
    method, data = example(tiny_config, start_epoch=0)
    losses = method.losses(batch_of(data))
    assert method.clothes_weight.grad is None
    assert all(p.grad is None for p in method.parameters())
    sum(losses.values()).backward()
    assert method.clothes_weight.grad is None
    assert method.norm.weight.grad is not None


def test_before_its_epoch_the_classifier_stays_at_its_start(tiny_config):
    method, data = example(tiny_config, start_epoch=1)
    before = method.clothes_weight.detach().clone()
    assert set(method.losses(batch_of(data))) == {"id"}
    assert torch.equal(method.clothes_weight, before)


def test_the_main_optimiser_does_not_know_the_classifier(tiny_config):
    method, _ = example(tiny_config)
    (group,) = method.parameter_groups()
    assert all(p is not method.clothes_weight for p in group["params"])
    assert len(group["params"]) == sum(1 for p in method.parameters() if p.requires_grad) - 1


def test_a_triplet_loss_is_an_option(tiny_config):
    method, data = example(tiny_config, triplet_weight=1)
    assert set(method.losses(batch_of(data))) == {"id", "triplet"}


def test_clothes_labels_are_needed(tiny_config, monkeypatch):
    from dataclasses import replace

    cfg = tiny_config("method=cal")
    benchmark = instantiate(cfg.data.benchmark)
    first, *rest = benchmark.train
    benchmark.train = (replace(first, clothes_id=-1), *rest)
    monkeypatch.setattr("ccreid.build.instantiate", lambda node, **_: benchmark)
    with pytest.raises(DataError, match="needs clothes labels"):
        build_datamodule(cfg, requires={"clothes"})
