from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from ccreid.build import build_datamodule, build_method
from ccreid.losses import attribute_aware_loss, batch_hard_triplet_loss
from ccreid.methods.base import Method
from ccreid.models import max_average_pool, recompose
from tests.conftest import trainer_at


@pytest.fixture
def mined(tiny_config, monkeypatch):
    """FIRe² right after its first mining, with a real batch, outside of a Trainer."""
    cfg = tiny_config("method=fire2", "method.recompositions=2", "method.mining.start_epoch=0")
    data = build_datamodule(cfg)
    torch.manual_seed(0)
    method = build_method(cfg, data.sizes)
    logged = {}
    monkeypatch.setattr(Method, "log", lambda self, name, value, **_: logged.update({name: value}))
    monkeypatch.setattr(Method, "log_dict", lambda self, values, **_: logged.update(values))
    optimizers = [method.configure_optimizers()["optimizer"]]
    trainer = trainer_at(0, datamodule=data, optimizers=optimizers)
    data.trainer = trainer
    method._trainer = trainer
    method.train()
    method.on_train_epoch_start()
    batch = next(iter(data.train_dataloader()))
    return SimpleNamespace(method=method, batch=batch, logged=logged, trainer=trainer, data=data)


def test_mining_makes_one_prototype_per_cluster(mined):
    method, data = mined.method, mined.data
    clusters = method.attributes.weight.shape[0]
    assert method.attributes.cluster.shape == (1280,)
    assert set(method.attributes.cluster.tolist()) == set(range(clusters))
    for cluster in range(clusters):  # clusters are never shared between people
        assert len(set(data.train_pid[method.attributes.cluster == cluster].tolist())) == 1
    assert mined.logged["mining/num_clusters"] == clusters
    assert {"mining/purity", "mining/nmi", "mining/seconds"} <= set(mined.logged)


def test_prototypes_start_at_the_centres_of_the_test_features(mined):
    from ccreid.features import evaluating, extract_features

    method, data = mined.method, mined.data
    with evaluating(method):
        features = extract_features(
            method.embed, data.benchmark.train, data.test_transform, device=torch.device("cpu")
        )
    unit = normalize(features)
    for cluster in range(0, len(method.attributes.weight), 7):
        centre = unit[method.attributes.cluster == cluster].mean(0)
        torch.testing.assert_close(method.attributes.weight[cluster], centre, rtol=1e-4, atol=1e-6)


def test_mining_leaves_the_network_as_it_was(mined):
    method = mined.method
    assert all(part.training for part in method.modules())
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method.on_train_epoch_start()
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_losses_are_those_of_the_paper(mined):
    method, batch = mined.method, mined.batch
    torch.manual_seed(5)
    losses = method.losses(batch)

    torch.manual_seed(5)
    pid, cluster = batch["pid"], method.attributes.cluster[batch["index"]]
    feature_map = method.backbone(batch["image"])
    f = method.bnneck(max_average_pool(feature_map))
    r = method.recomposed_bnneck(max_average_pool(recompose(feature_map, cluster, 2, 2)))
    owner = torch.stack(
        [
            mined.data.train_pid[method.attributes.cluster == c][0]
            for c in range(len(method.attributes.weight))
        ]
    )
    cosine = normalize(f) @ normalize(method.attributes.weight).T
    expected = {
        "id": cross_entropy(method.classifier(f), pid, label_smoothing=0.1),
        "triplet": batch_hard_triplet_loss(f, pid, 0.3),
        "attribute": attribute_aware_loss(cosine, cluster, owner == pid[:, None], 1 / 16, 0.1),
        "recomposition": 0.3
        * cross_entropy(method.recomposed_classifier(r), pid.repeat(2), label_smoothing=0.1),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_every_part_learns_from_the_losses(mined):
    method = mined.method
    sum(method.losses(mined.batch).values()).backward()
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
    assert method.attributes.weight.grad.abs().sum() > 0


def step(mined):
    optimizer = mined.trainer.optimizers[0]
    optimizer.zero_grad()
    sum(mined.method.losses(mined.batch).values()).backward()
    optimizer.step()


def test_the_prototypes_are_trained_inside_the_epoch_and_anew_each(mined):
    method = mined.method
    first = method.attributes.weight
    start = first.detach().clone()
    step(mined)
    assert not torch.equal(first, start)
    method.on_train_epoch_start()
    assert method.attributes.weight is not first
    assert mined.trainer.optimizers[0].param_groups[1]["params"] == [method.attributes.weight]


@pytest.mark.parametrize("reset", [True, False])
def test_adam_forgets_at_each_mining_only_when_asked(mined, reset):
    method, optimizer = mined.method, mined.trainer.optimizers[0]
    method.reset_optimizer_state = reset
    step(mined)
    old = method.attributes.weight
    network = method.classifier.weight
    assert {old, network} <= set(optimizer.state)
    method.on_train_epoch_start()
    assert old not in optimizer.state
    assert (network in optimizer.state) is not reset
    step(mined)
    assert optimizer.state[method.attributes.weight]["step"] == 1


def test_identities_alone_until_mining_has_begun(mined):
    method = mined.method
    method.attributes = None
    assert set(method.losses(mined.batch)) == {"id"}
    method.mining = type(method.mining)(start_epoch=3)
    for epoch, expected in [(0, False), (2, False), (3, True)]:  # epochs 1, 3 and 4 for people
        mined.trainer.current_epoch = epoch
        method.on_train_epoch_start()
        assert (method.attributes is not None) is expected


def test_checkpoints_leave_the_prototypes_out(mined):
    method, optimizer = mined.method, mined.trainer.optimizers[0]
    step(mined)
    checkpoint = {
        "state_dict": dict(method.state_dict()),
        "optimizer_states": [optimizer.state_dict()],
    }
    network_size = len(optimizer.param_groups[0]["params"])
    method.on_save_checkpoint(checkpoint)
    prototypes = method.attributes.weight.shape
    assert all(value.shape != prototypes for value in checkpoint["state_dict"].values())
    (saved,) = checkpoint["optimizer_states"]
    assert saved["param_groups"][1]["params"] == []
    assert set(saved["state"]) == set(range(network_size))
    assert optimizer.state[method.attributes.weight]  # the running optimiser is not touched


def test_one_image_identities_are_mined(mined):
    data = mined.data
    data.train_pid = torch.arange(1280) // 20
    data.train_pid[0] = 64  # a person with a single image
    mined.method.on_train_epoch_start()
    alone = mined.method.attributes.cluster[0]
    assert (mined.method.attributes.cluster == alone).sum() == 1
    assert mined.method.attributes.pid[alone] == 64
