from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from ccreid.build import build_datamodule, build_method
from ccreid.data.parsing.schemas import GARMENT
from ccreid.errors import ConfigError, DataError
from ccreid.losses import (
    attention_loss,
    batch_hard_triplet_loss,
    cross_clothes_triplet_loss,
    twin_consistency_loss,
)
from ccreid.methods.base import Method
from ccreid.methods.body_shape import BCTri, BodyShape
from ccreid.methods.clothes_erasure import ClothesErasure, label_numbers
from ccreid.methods.cre_bsga import CREBSGA
from ccreid.models import average_pool
from ccreid.models.attention import attention_target, body_mask
from ccreid.models.erasure import trusted_masks
from ccreid.models.random_erasing import BatchRandomErasing
from ccreid.train import train
from tests.conftest import trainer_at

OFF = ("method.cre.enabled=false", "method.bsga.enabled=false", "method.triplet=batch_hard")
ABLATION = {
    "baseline": OFF,
    "+CRE": OFF[1:],
    "+BSGA": (OFF[0], OFF[2]),
    "+BCTri": OFF[:2],
    "full": (),
}
PLAIN = "method.erasing=null"
PUBLISHED = ("method.bctri.distance=euclidean", "method.bsga.weight=1.0")  # not the recipe's


@pytest.fixture
def made(tiny_config, monkeypatch):
    """Return a function that builds the method of some settings, with a real batch, untrained."""
    logged = {}
    monkeypatch.setattr(Method, "log_dict", lambda self, values, **_: logged.update(values))

    def make(*settings, method="cre_bsga"):
        published = PUBLISHED if method == "cre_bsga" else ()
        cfg = tiny_config(f"method={method}", *published, *settings)
        data = build_datamodule(cfg, requires={"parsing", "clothes"})
        built = build_method(cfg, data.sizes).train()
        trainer = trainer_at(0, datamodule=data)
        data.trainer = built._trainer = trainer
        built.on_train_epoch_start()
        batch = next(iter(data.train_dataloader()))
        return SimpleNamespace(method=built, batch=batch, logged=logged, data=data)

    return make


def seen(method, batch):
    """What the network sees of a batch."""
    return method._views(batch, method._trusted_masks(batch))


def test_the_losses_are_those_of_the_reconstruction(made):
    run = made(PLAIN)
    method, batch = run.method, run.batch
    losses = method.losses(batch)

    labels, pid, size = batch["parsing"], batch["pid"].repeat(2), len(batch["pid"])
    clothes = torch.stack([labels == number for number in (2, 3, 4, 9)]).any(0)
    twins = batch["image"] * ~clothes[:, None]
    feature_map = method.backbone(torch.cat([batch["image"], twins]))
    (a,) = method.body_attention.take_maps().values()
    pooled = average_pool(feature_map)
    target = attention_target(labels != 0, a.shape[2:], floor=0.1).repeat(2, 1, 1, 1)
    erased = torch.arange(2 * size) >= size
    expected = {
        "id": cross_entropy(method.classifier(method.bnneck(pooled)), pid, label_smoothing=0.1),
        "triplet": cross_clothes_triplet_loss(
            pooled, pid, batch["clothes_id"].repeat(2), 0.3, erased=erased
        ),
        "attention": (a - target).square().mean(),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5, msg=name)
    assert run.logged["train/untrusted_masks"] == 0
    assert run.logged["train/erased_views"] == 0.5
    assert run.logged["train/triplet_fallback"] == 0


def test_every_part_learns_from_the_losses(made):
    run = made()
    sum(run.method.losses(run.batch).values()).backward()
    for name, parameter in run.method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name


@pytest.mark.parametrize("name", ABLATION)
def test_ablations_differ_in_what_they_switch_only(made, name):
    full, run = made(), made(*ABLATION[name])
    terms = {"id", "triplet"} | ({"attention"} if name in ("+BSGA", "full") else set())
    assert run.method.losses(run.batch).keys() == terms
    whole = dict(full.method.named_parameters())
    for parameter, value in run.method.named_parameters():
        assert torch.equal(value, whole[parameter]), parameter
    assert all(torch.equal(run.batch[key], full.batch[key]) for key in full.batch)


def test_the_images_get_the_same_rectangles_with_and_without_twins(made):
    views = []
    for settings in (ABLATION["baseline"], ABLATION["+CRE"], ("method.cre.fill=noise",)):
        run = made(*settings)
        seen(run.method, run.batch)  # the second batch must agree, too
        views.append(seen(run.method, run.batch).image[: len(run.batch["pid"])])
    assert torch.equal(views[0], views[1])
    assert torch.equal(views[0], views[2])
    assert not torch.equal(views[0], run.batch["image"])


def test_with_everything_off_it_is_the_baseline(made):
    ours = made(*OFF, PLAIN)
    theirs = made("method.distance=euclidean", method="baseline")
    theirs.method.load_state_dict(ours.method.state_dict())
    losses, expected = (run.method.losses(ours.batch) for run in (ours, theirs))
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("baseline", set()),
        ("+CRE", {"parsing"}),
        ("+BSGA", {"parsing"}),
        ("+BCTri", {"clothes"}),
        ("full", {"parsing", "clothes"}),
    ],
)
def test_the_settings_say_what_training_takes(tiny_config, name, needs):
    cfg = tiny_config("method=cre_bsga", *ABLATION[name])
    assert CREBSGA.needs(cfg.method) == needs
    assert needs <= CREBSGA.requires


def test_without_masks_the_switched_off_method_trains(made):
    run = made(*ABLATION["+BCTri"])
    del run.batch["parsing"]
    assert run.method.losses(run.batch)["triplet"] > 0


def test_test_time_needs_images_only_and_shows_its_attention(made):
    run = made("method.bsga.stages=[layer2,layer3]")
    method = run.method.eval()
    with torch.no_grad():
        assert method.embed(run.batch["image"]).shape == (32, method.bnneck.num_features)
        maps = method.attention(run.batch["image"])
    assert {stage: a.shape[1:] for stage, a in maps.items()} == {
        "layer2": (1, 8, 4),
        "layer3": (1, 4, 2),
    }
    assert all(((a > 0) & (a < 1)).all() for a in maps.values())
    assert made("method.bsga.enabled=false").method.attention(run.batch["image"]) == {}


@pytest.mark.parametrize("how", ["same_outfit", "separate"])
def test_settings_reach_the_triplets(made, how):
    run = made(PLAIN, f"method.bctri.erased_as={how}", "method.triplet_weight=0.5")
    method, batch = run.method, run.batch
    views = seen(method, batch)
    pooled = method._features(views.image).pooled
    expected = 0.5 * cross_clothes_triplet_loss(
        pooled,
        batch["pid"].repeat(2),
        batch["clothes_id"].repeat(2),
        erased=views.erased,
        erased_as=how,
    )
    torch.testing.assert_close(method.losses(batch)["triplet"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["mse", "ps_sigmoid", "cosine"])
def test_twins_can_be_held_to_their_originals(made, kind):
    run = made(PLAIN, f"method.cre.consistency={kind}", "method.cre.consistency_weight=2")
    views = seen(run.method, run.batch)
    original, twin = run.method._features(views.image).pooled.chunk(2)
    expected = 2 * twin_consistency_loss(original, twin, kind=kind)
    found = run.method.losses(run.batch)["consistency"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("mask", ["nonclothes", "contour", "body_no_bag"])
def test_the_target_is_the_mask_that_is_asked_for(made, mask):
    run = made(PLAIN, *OFF[::2], f"method.bsga.mask={mask}", "method.bsga.weight=7")
    labels = run.batch["parsing"]
    a = run.method._features(run.batch["image"]).attention["layer3"]
    target = attention_target(body_mask(labels, mask, (2, 3, 4, 9), (8,)), a.shape[2:])
    expected = 7 * attention_loss(a, target, torch.ones(len(a), dtype=torch.bool))
    found = run.method.losses(run.batch)["attention"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_split_statistics_normalise_each_half_by_itself_and_keep_the_originals(made):
    run = made(PLAIN, "method.cre.split_bn=true")
    twin = made(PLAIN)
    method, size = run.method, len(run.batch["pid"])
    views = seen(method, run.batch)
    features = method._view_features(views, size)
    alone = twin.method._features(views.image[:size])
    torch.testing.assert_close(features.pooled[:size], alone.pooled)
    state = twin.method.state_dict()
    for name, value in method.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(value, state[name], msg=name)
    second = twin.method._features(views.image[size:])
    torch.testing.assert_close(features.normalised[size:], second.normalised)
    assert features.attention["layer3"].shape[0] == 2 * size


def views_of(images, labels, turn=0, augment=lambda x, _: x, **settings):
    mean = torch.full((1, 3, 1, 1), 0.5)
    generator = torch.Generator().manual_seed(0)
    trusted = trusted_masks(labels, label_numbers(GARMENT))
    cre = ClothesErasure(**settings)
    return cre.views(images, labels, trusted, mean, augment, turn, generator)


def wearing(*numbers, images=6):
    """Images of 20×10 with a body of skin; each label takes three rows of it, from the top."""
    labels = torch.zeros(images, 20, 10, dtype=torch.uint8)
    labels[:, 2:18, 2:8] = 5
    for place, number in enumerate(numbers):
        labels[:, 2 + 3 * place : 5 + 3 * place, 2:8] = number
    return torch.rand(images, 3, 20, 10) * 0.9 + 0.1, labels


def erased_labels(views, images, labels):
    """Labels that lost their pixels, by view of an image, [V·B] sets."""
    gone = (views.image == 0).all(1)
    labels = labels.repeat(views.times, 1, 1)
    return [set(of[where].tolist()) for of, where in zip(labels, gone, strict=True)]


@pytest.mark.parametrize(
    ("settings", "gone"),
    [
        ({}, {2, 3, 9}),
        ({"clothes_set": "garment_plus"}, {2, 3, 7, 9}),
        ({"clothes_set": ["lower", "shoes"]}, {3, 7}),
        ({"region": "upper"}, {2, 9}),
        ({"region": "lower", "clothes_set": "garment_plus"}, {3, 7}),
    ],
)
def test_clothes_and_regions_are_chosen_by_name(settings, gone):
    images, labels = wearing(2, 3, 7, 9)
    views = views_of(images, labels, **settings)
    assert erased_labels(views, images, labels) == [set()] * 6 + [gone] * 6
    assert torch.equal(views.image[:6], images)
    assert views.erased.tolist() == [False] * 6 + [True] * 6
    assert views.kept is None


def test_a_random_subset_is_never_empty_and_one_piece_is_in_both_regions():
    images, labels = wearing(2, 3, images=200)
    gone = erased_labels(views_of(images, labels, region="random_subset"), images, labels)[200:]
    counts = [gone.count(subset) for subset in ({2}, {3}, {2, 3})]
    assert sum(counts) == 200
    assert min(counts) > 40
    for region in ("upper", "lower", "random_subset"):
        images, labels = wearing(4)
        views = views_of(images, labels, region=region)
        assert erased_labels(views, images, labels)[6:] == [{4}] * 6


def test_modes():
    images, labels = wearing(2, 3, images=400)
    joint = views_of(images, labels, n_variants=2, p=0.25)
    assert (joint.times, len(joint.image)) == (3, 1200)
    assert joint.kept[:400].all()
    assert joint.kept[400:].float().mean().item() == pytest.approx(0.25, abs=0.06)
    replaced = views_of(images, labels, mode="replace")
    assert (replaced.times, replaced.kept) == (1, None)
    assert replaced.erased.float().mean().item() == pytest.approx(0.5, abs=0.1)
    for erased, now, before in zip(replaced.erased, replaced.image, images, strict=True):
        assert erased.item() is not torch.equal(now, before)
    for turn, share in [(0, 0.0), (1, 1.0), (2, 0.0), (3, 1.0)]:
        alternating = views_of(images, labels, mode="alternate", turn=turn)
        assert alternating.erased.float().mean() == share


@pytest.mark.parametrize("how", ["keep", "vertical_prior", "drop"])
def test_a_mask_without_clothes_is_not_believed(how):
    images, labels = wearing(2, 3)
    labels[1], labels[2][labels[2] > 0] = 0, 5  # all background; nothing but skin
    views = views_of(images, labels, on_bad_parse=how)
    guessed = how == "vertical_prior"
    assert views.erased[6:].tolist() == [True, False, guessed, True, True, True]
    assert torch.equal(views.image[7], images[1])
    if how == "drop":
        assert views.kept.tolist() == [True] * 6 + [True, False, False, True, True, True]
    else:
        assert views.kept is None


def test_clothes_grow_before_they_are_erased():
    images, labels = wearing(0, 2, 3)
    gone = (views_of(images, labels, dilate_px=1).image[6:] == 0).all(1)
    assert gone.sum().item() == 6 * (6 + 2) * (6 + 2)


def test_dropped_twins_are_seen_by_no_loss(made):
    run = made(PLAIN, "method.cre.p=0.5", "method.cre.consistency=mse")
    method, batch, size = run.method, run.batch, len(run.batch["pid"])
    state = method._twin_draws.get_state()
    losses = method.losses(batch)
    method._twin_draws.set_state(state)
    views = seen(method, batch)
    features, kept = method._features(views.image), views.kept
    assert size < kept.sum() < 2 * size
    pid, clothes = batch["pid"].repeat(2)[kept], batch["clothes_id"].repeat(2)[kept]
    expected = {
        "id": cross_entropy(method.classifier(features.normalised[kept]), pid, label_smoothing=0.1),
        "triplet": cross_clothes_triplet_loss(
            features.pooled[kept], pid, clothes, erased=views.erased[kept]
        ),
        "consistency": (features.pooled[:size] - features.pooled[size:])[kept[size:]]
        .square()
        .mean(),
    }
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_a_batch_of_background_masks_erases_and_teaches_nothing(made):
    run = made(PLAIN)
    run.batch["parsing"] = torch.zeros_like(run.batch["parsing"])
    losses = run.method.losses(run.batch)
    assert losses["attention"] == 0
    assert run.logged["train/untrusted_masks"] == 1
    assert run.logged["train/erased_views"] == 0
    sum(losses.values()).backward()
    assert torch.isfinite(run.method.body_attention.gates[0].head[0].weight.grad).all()


def test_a_batch_without_cross_clothes_pairs_falls_back_visibly(made):
    run = made(*ABLATION["+BCTri"], PLAIN)
    run.batch["clothes_id"] = run.batch["pid"]  # everybody wears one outfit
    found = run.method.losses(run.batch)["triplet"]
    assert run.logged["train/triplet_fallback"] == 1
    pooled = run.method._features(run.batch["image"]).pooled
    expected = batch_hard_triplet_loss(pooled, run.batch["pid"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_masks_of_another_size_are_refused(made):
    run = made()
    run.batch["parsing"] = run.batch["parsing"][:, ::2]
    with pytest.raises(DataError, match="must have its image's size"):
        run.method.losses(run.batch)


def test_the_loaders_random_erasing_is_refused_beside_the_methods(tiny_config):
    erasing = "{_target_:ccreid.data.transforms.RandomErasing}"
    cfg = tiny_config("method=cre_bsga", f"data.train_transform.erasing={erasing}")
    with pytest.raises(ConfigError, match=r"set data.train_transform.erasing=null"):
        train(cfg)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("method.cre.mode=both", "method.cre.mode=both should be one of joint, replace"),
        ("method.cre.fill=white", "one of black, mean, noise"),
        ("method.cre.region=middle", "one of all, upper, lower, random_subset"),
        ("method.cre.clothes_set=garments", "Did you mean"),
        ("method.cre.clothes_set=[background]", "or a list of head, upper"),
        ("method.cre.clothes_set=[]", "not empty"),
        ("method.cre.p=2", "between 0 and 1"),
        ("method.cre.n_variants=0", "at least 1"),
        ("method.cre.dilate_px=-1", "at least 0"),
        ("method.cre.mode=replace method.cre.split_bn=true", "False unless method.cre.mode=joint"),
        ("method.cre.mode=replace method.cre.consistency=mse", "none unless"),
        ("method.cre.mode=alternate method.cre.n_variants=2", "1 unless"),
        ("method.cre.mode=replace method.cre.on_bad_parse=drop", "keep or vertical_prior"),
        ("method.bsga.stages=[layer9]", "This network has"),
        ("method.bsga.head=unet", "conv256, deskpro, cbam7"),
        ("method.bsga.gate=add", "mul, residual, concat_branch"),
        ("method.bsga.mask=head", "body, nonclothes, contour"),
        ("method.bsga.loss=l1", "mse, bce, dice"),
        ("method.bsga.target_floor=1", "below 1"),
        ("method.bctri.positives=hardest", "per_outfit_hardest, all"),
        ("method.bctri.erased_as=twin", "extra_outfit, same_outfit, separate"),
        ("method.triplet=bctri", "cross_clothes, batch_hard"),
        ("method.triplet_weight=-1", "at least 0"),
        ("method.erasing.p=2", "between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(tiny_config, settings, said):
    cfg = tiny_config("method=cre_bsga", *settings.split())
    with pytest.raises(ConfigError) as error:
        build_method(cfg, {"num_identities": 4})
    assert said in str(error.value)


def test_the_defaults_in_code_and_in_the_config_agree(tiny_config):
    cfg = tiny_config("method=cre_bsga", *PUBLISHED)
    method = build_method(cfg, {"num_identities": 4})
    assert method.cre == ClothesErasure()
    assert method.bctri == BCTri()
    ranges = {name: tuple(getattr(method.erasing, name)) for name in ("scale", "ratio")}
    assert BatchRandomErasing(method.erasing.p, **ranges) == BatchRandomErasing()
    assert {**vars(method.bsga), "stages": ("layer3",)} == vars(BodyShape())
    assert label_numbers(GARMENT) == (2, 3, 4, 9)


@pytest.mark.parametrize(
    "settings",
    [
        "method.bsga.gate=concat_branch method.bsga.stages=[layer2,layer4] method.cre.fill=swap",
        "method.cre.mode=alternate method.bsga.head=cbam7 method.bsga.loss=bce precision=bf16 "
        "backbone.name=test_resnet backbone.last_stride=1",
        "method.cre.n_variants=2 method.cre.on_bad_parse=drop method.cre.split_bn=true "
        "method.cre.consistency=cosine",
    ],
)
def test_unusual_settings_train(tiny_config, settings):
    cfg = tiny_config("method=cre_bsga", "debug=fast", *settings.split())
    assert train(cfg).metrics["test/virtual/cc/num_valid_queries"] == 256


@pytest.mark.parametrize(
    ("settings", "refused"),
    [((), True), (("method.cre.force=true",), False), (("method.cre.enabled=false",), False)],
)
def test_clothes_are_not_erased_by_masks_without_garments(made, settings, refused):
    run = made("data.train_transform.erasing=null", *settings)
    run.data.parsing = SimpleNamespace(has_garments=False)
    if refused:
        with pytest.raises(ConfigError, match="tells no garments from limbs"):
            run.method.on_fit_start()
    else:
        run.method.on_fit_start()
