"""Half precision, and batches in which a loss has nothing to do: everything stays finite."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import normalize

from ccreid import list_methods
from ccreid.build import build_datamodule, build_method, method_class
from ccreid.config import compose
from ccreid.losses import (
    attention_loss,
    attribute_aware_loss,
    batch_hard_triplet_loss,
    clothes_adversarial_loss,
    cross_clothes_triplet_loss,
    image_text_contrastive_loss,
    released_reverse_loss,
    twin_consistency_loss,
)
from ccreid.methods.base import Method
from ccreid.models import average_pool, cosine_similarity, max_average_pool
from ccreid.models.tokens import token_feature
from tests.conftest import TINY, trainer_at

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
BEGIN = {"fire2": ["method.mining.start_epoch=0"], "cal": ["method.start_epoch=0"]}


@pytest.fixture(scope="module", params=list_methods())
def phase(request):
    """A method in the first epoch of its last phase, with a real batch, outside of a Trainer."""
    name = request.param
    cfg = compose("train", [*TINY, f"method={name}", "output_dir=out", *BEGIN.get(name, [])])
    data = build_datamodule(cfg, requires=method_class(cfg).needs(cfg.method))
    method = build_method(cfg, data.sizes).train()
    trainer = trainer_at(
        0,
        datamodule=data,
        max_epochs=2,
        accumulate_grad_batches=1,
        optimizers=[method.configure_optimizers()["optimizer"]],
    )
    data.trainer = method._trainer = trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Method, "log", lambda self, *_, **__: None)
        patch.setattr(Method, "log_dict", lambda self, *_, **__: None)
        method.on_fit_start()
        method.on_train_epoch_start()
        yield method, next(iter(data.train_dataloader()))


@pytest.mark.parametrize("precision", ["fp32", *HALF])
def test_losses_and_gradients_of_every_method_are_finite(phase, precision):
    method, batch = phase
    method.zero_grad()
    with torch.autocast("cpu", HALF.get(precision), enabled=precision in HALF):
        losses = method.losses(batch)
    assert len(losses) >= 2
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(bool(loss.isfinite()) for loss in losses.values()), losses
    sum(losses.values()).backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize("precision", HALF)
def test_the_feature_that_is_compared_and_clustered_is_never_rounded_to_half(phase, precision):
    method, batch = phase
    with torch.autocast("cpu", HALF[precision]), torch.no_grad():
        feature = method.embed(batch["image"])
    assert feature.dtype == torch.float32


SIZE, WIDTH = 12, 64
PID = torch.arange(SIZE) // 4
OUTFIT = torch.arange(SIZE) // 2
CLUSTER = torch.arange(SIZE) % 8
OWNER = torch.arange(8) % 3


def contrastive(f, g, **settings):
    return image_text_contrastive_loss(f, g, pids=PID, **settings)


def by_cluster(loss, **settings):
    """A loss of cosines with prototypes, of which not all have an image in the batch."""

    def of_features(f, g):
        same = PID[:, None] == OWNER
        return loss(cosine(f, g[:8]), CLUSTER, same, **settings)

    return of_features


def cosine(f, g):
    if f.dtype == torch.float64:  # the reference
        return normalize(f) @ normalize(g).T
    return cosine_similarity(f, g)


LOSSES = {
    "triplet": lambda f, _: batch_hard_triplet_loss(f, PID),
    "soft triplet": lambda f, _: batch_hard_triplet_loss(f, PID, "soft"),
    "cosine triplet": lambda f, _: batch_hard_triplet_loss(f, PID, distance="cosine"),
    "cross-clothes": lambda f, _: cross_clothes_triplet_loss(f, PID, OUTFIT, 5.0),
    "cosine cross-clothes": lambda f, _: cross_clothes_triplet_loss(
        f, PID, OUTFIT, distance="cosine"
    ),
    "attribute": by_cluster(attribute_aware_loss),
    "adversarial": by_cluster(clothes_adversarial_loss),
    "contrastive": lambda f, g: contrastive(f, g, temperature=0.05),
    "identity contrastive": lambda f, g: contrastive(f, g, targets="identity"),
    "released contrastive": lambda f, g: released_reverse_loss(
        f.view(SIZE, 2, -1), g.view(SIZE, 2, -1)
    ),
    "mse twins": lambda f, g: twin_consistency_loss(f, g),
    "cosine twins": lambda f, g: twin_consistency_loss(f, g, kind="cosine"),
    "sigmoid twins": lambda f, g: twin_consistency_loss(f / 1e3, g / 1e3, kind="ps_sigmoid"),
}


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_long_half_features_are_those_of_float64(name, precision):
    generator = torch.Generator().manual_seed(0)
    f, g = torch.randn(2, SIZE, WIDTH, generator=generator)
    f, g = (1e3 * normalize(each).to(HALF[precision]) for each in (f, g))  # its square overflows
    assert (f.float().norm(dim=1) > 900).all()
    exact = LOSSES[name](f.double(), g.double())
    f.requires_grad_()
    with torch.autocast("cpu", HALF[precision]):
        loss = LOSSES[name](f, g)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=2e-5, atol=1e-6)
    loss.backward()
    assert f.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["mse", "bce", "dice", "mse+dice"])
@pytest.mark.parametrize("precision", HALF)
def test_attention_losses_of_half_maps_are_those_of_float64(kind, precision):
    attention, target = torch.rand(2, 5, 1, 8, 4, generator=torch.Generator().manual_seed(0))
    attention, target = attention.to(HALF[precision]), target.to(HALF[precision])
    trusted = torch.tensor([True, False, True, True, True])
    exact = attention_loss(attention.double(), target.double(), trusted, kind)
    with torch.autocast("cpu", HALF[precision]):
        loss = attention_loss(attention, target, trusted, kind)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("pool", [average_pool, max_average_pool])
def test_half_maps_are_pooled_in_float32(pool, precision):
    maps = 30 * torch.rand(3, 7, 24, 12, generator=torch.Generator().manual_seed(0))
    maps = maps.to(HALF[precision]).requires_grad_()
    pooled = pool(maps)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(pooled.double(), pool(maps.double()), rtol=1e-6, atol=1e-6)
    pooled.sum().backward()
    assert maps.grad.dtype == maps.dtype
    assert pool(maps.double()).dtype == torch.float64


def test_half_tokens_are_averaged_in_float32():
    network = SimpleNamespace(num_prefix_tokens=1, blocks=[None])
    network.forward_features = lambda images: images
    tokens = (100 + torch.randn(2, 50, 6)).bfloat16()
    feature = token_feature(network, tokens)
    assert feature.dtype == torch.float32
    torch.testing.assert_close(feature.double(), tokens[:, 1:].double().mean(1), rtol=1e-6, atol=0)


ONE_PERSON = torch.zeros(6, dtype=torch.long)
STRANGERS = torch.arange(6)


@pytest.mark.parametrize("pid", [ONE_PERSON, STRANGERS, ONE_PERSON[:1]], ids=["one", "all", "1"])
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_without_a_triplet_the_loss_and_its_gradient_are_zero(pid, distance):
    features = torch.randn(len(pid), 8, requires_grad=True)
    outfits = torch.arange(len(pid))
    for loss in (
        batch_hard_triplet_loss(features, pid, distance=distance),
        cross_clothes_triplet_loss(features, pid, outfits, distance=distance),
    ):
        assert loss == 0
        (gradient,) = torch.autograd.grad(loss, features)
        assert torch.equal(gradient, torch.zeros_like(features))


def test_nothing_trusted_and_nothing_kept_is_zero():
    maps = torch.rand(3, 1, 4, 2, requires_grad=True)
    features = torch.randn(3, 8, requires_grad=True)
    nobody = torch.zeros(3, dtype=torch.bool)
    for given, loss in (
        *((maps, attention_loss(maps, maps.detach(), nobody, kind)) for kind in ("bce", "dice")),
        (features, twin_consistency_loss(features, features.detach() + 1, nobody)),
    ):
        assert loss == 0
        assert torch.equal(torch.autograd.grad(loss, given)[0], torch.zeros_like(given))


def test_one_image_finds_its_own_text():
    projected = torch.randn(1, 8, requires_grad=True)
    loss = image_text_contrastive_loss(projected, torch.randn(1, 8))
    loss.backward()
    assert loss == 0
    assert torch.equal(projected.grad, torch.zeros_like(projected))


def test_one_person_has_no_strangers_to_be_told_from():
    cosines = torch.rand(4, 3, requires_grad=True)
    mask = torch.ones(4, 3, dtype=torch.bool)
    loss = clothes_adversarial_loss(cosines, torch.tensor([0, 1, 2, 0]), mask)
    loss.backward()
    torch.testing.assert_close(loss, torch.tensor(0.0))
    assert cosines.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_features_of_zero_have_finite_losses_and_gradients(name):
    f = torch.zeros(SIZE, WIDTH, requires_grad=True)
    for g in (torch.zeros(SIZE, WIDTH), torch.randn(SIZE, WIDTH)):
        loss = LOSSES[name](f, g)
        assert loss.isfinite()
        (gradient,) = torch.autograd.grad(loss, f)
        assert gradient.isfinite().all()
