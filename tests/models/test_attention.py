"""Body-shape-guided attention in networks of several kinds; its targets against closed forms."""

import copy

import pytest
import torch
from torch import nn

from ccreid.errors import ConfigError
from ccreid.losses import attention_loss
from ccreid.models import Backbone, average_pool
from ccreid.models.attention import HEADS, BodyShapeAttention, attention_target, body_mask
from ccreid.models.split_norm import running_statistics_kept
from ccreid.models.stages import stages_of


def backbone(name="test_resnet", **settings):
    torch.manual_seed(0)
    return Backbone(name, weights="none", **settings)


def gated(name="test_resnet", last_stride=None, **settings):
    network = backbone(name, last_stride=last_stride)
    return network, BodyShapeAttention(network, **settings)


def unusual_heads(attention):
    """Weights of the heads large enough that the maps are not nearly constant."""
    for parameter in attention.parameters():
        nn.init.normal_(parameter, std=0.3)


IMAGES = torch.rand(3, 3, 128, 64, generator=torch.Generator().manual_seed(1))


def test_resnets_stages_have_their_names_and_shapes():
    stages = {s.name: (s.path, s.channels) for s in stages_of(backbone(last_stride=1))}
    assert stages["layer3"] == ("layer3", 192)
    network, attention = gated(last_stride=1, stages=["layer1", "layer2", "layer3", "layer4"])
    network(IMAGES)
    shapes = {stage: tuple(a.shape) for stage, a in attention.take_maps().items()}
    assert shapes == {
        "layer1": (3, 1, 32, 16),
        "layer2": (3, 1, 16, 8),
        "layer3": (3, 1, 8, 4),
        "layer4": (3, 1, 8, 4),
    }


@pytest.mark.parametrize(
    ("name", "path", "channels"),
    [
        ("test_resnet", "layer3", 192),
        ("test_efficientnet", "blocks.3", 48),
        ("test_convnext", "stages.2", 48),
        ("tf_efficientnet_lite0", "blocks.4", 112),
    ],
)
def test_layer3_is_the_last_map_of_a_sixteenth_in_every_network(name, path, channels):
    network, attention = gated(name)
    (stage,) = (s for s in stages_of(network) if s.name == "layer3")
    assert (stage.path, stage.channels) == (path, channels)
    network.eval()
    attention.eval()
    network(IMAGES)
    assert attention.take_maps()["layer3"].shape == (3, 1, 8, 4)


def test_a_channels_last_network_is_gated_like_the_others():
    network = Backbone("swin_tiny_patch4_window7_224", weights="none", last_stride=None).eval()
    plain = network(IMAGES)
    attention = BodyShapeAttention(network, gate="residual", head="deskpro").eval()
    seen = []
    network.network.get_submodule("layers.3").register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0])
    )
    gated_map = network(IMAGES)
    (a,) = attention.take_maps().values()
    assert a.shape == (3, 1, 8, 4)
    assert seen[0].shape == (3, 8, 4, 384)
    assert gated_map.shape == plain.shape
    assert not torch.allclose(gated_map, plain)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("gate", ["mul", "residual"])
def test_the_stage_after_sees_the_gated_map(gate, head):
    network, attention = gated(head=head, gate=gate)
    unusual_heads(attention)
    network.eval()
    attention.eval()
    plain = copy.deepcopy(network).network
    for module in plain.modules():
        module._forward_hooks.clear()
    x = plain.maxpool(plain.act1(plain.bn1(plain.conv1((IMAGES - network.mean) / network.std))))
    features = plain.layer3(plain.layer2(plain.layer1(x)))
    a = attention.gates[0].head(features).sigmoid()
    expected = plain.layer4(features * (a if gate == "mul" else 1 + a))
    torch.testing.assert_close(network(IMAGES), expected)
    torch.testing.assert_close(attention.take_maps()["layer3"], a)
    assert a.std() > 0.01
    assert ((a > 0) & (a < 1)).all()


def test_a_branch_widens_the_feature_and_leaves_the_map():
    network, attention = gated(gate="concat_branch", stages=["layer3", "layer4"])
    network.eval()
    attention.eval()
    plain = backbone(last_stride=None).eval()
    feature_map = network(IMAGES)
    torch.testing.assert_close(feature_map, plain(IMAGES))
    pooled = attention.pool(feature_map)
    maps = attention.take_maps()
    assert attention.num_features == 192 + 96
    assert pooled.shape == (3, 96 + 192 + 96)
    torch.testing.assert_close(pooled[:, :96], average_pool(feature_map))
    torch.testing.assert_close(pooled[:, 96 + 192 :], average_pool(feature_map * maps["layer4"]))


def test_attention_starts_at_a_half():
    network, attention = gated()
    nn.init.zeros_(attention.gates[0].head[-1].weight)
    network(IMAGES)
    (a,) = attention.take_maps().values()
    assert torch.equal(a, torch.full_like(a, 0.5))


def test_a_copy_of_the_whole_gates_with_its_own_heads():
    network, attention = gated()
    whole = nn.ModuleDict({"network": network, "attention": attention}).eval()
    twin = copy.deepcopy(whole)
    for parameter in twin["attention"].parameters():
        nn.init.constant_(parameter, 0.7)
    expected = whole["network"](IMAGES)
    assert not torch.allclose(twin["network"](IMAGES), expected)
    torch.testing.assert_close(whole["network"](IMAGES), expected)


def test_it_overfits_one_batch_of_masks_and_reaches_the_backbone():
    network, attention = gated(last_stride=1)
    labels = torch.zeros(4, 128, 64, dtype=torch.uint8)
    for i in range(4):
        labels[i, 16 * i : 16 * i + 64, 8 * i : 8 * i + 32] = 2
    images = torch.rand(4, 3, 128, 64, generator=torch.Generator().manual_seed(0))
    target = attention_target(body_mask(labels, "body", (2,), (8,)), (8, 4))
    trusted = torch.ones(4, dtype=torch.bool)
    parameters = [*network.parameters(), *attention.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    for _ in range(60):
        network(images)
        loss = attention_loss(attention.take_maps()["layer3"], target, trusted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.01
    gradient = network.network.get_submodule("conv1.0").weight.grad
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "stages", "said"),
    [
        ("test_resnet", ["layer9"], r"no stage layer9. This network has .*layer3 \(layer3, 192"),
        ("test_efficientnet", ["stages.1"], r"layer3 \(blocks.3, 48 channels\)"),
        ("test_vit", ["layer3"], "none: it gives no maps on the way"),
        ("test_resnet", [], "name one or more"),
        ("test_resnet", ["layer3", "layer3"], "once"),
    ],
)
def test_a_stage_that_is_not_there_lists_those_that_are(name, stages, said):
    with pytest.raises(ConfigError, match=said):
        gated(name, stages=stages)


@pytest.mark.parametrize("setting", ["head", "gate"])
def test_an_unknown_part_lists_the_choices(setting):
    with pytest.raises(ConfigError, match=rf"method.bsga.{setting}=other should be one of"):
        gated(**{setting: "other"})


def person():
    """A body of 8×6 in the middle of 32×16: a head, a top, trousers and a bag."""
    labels = torch.zeros(1, 32, 16, dtype=torch.uint8)
    labels[0, 8:10, 4:10], labels[0, 10:13, 4:10], labels[0, 13:16, 4:10] = 1, 2, 3
    labels[0, 12, 9] = 8
    return labels


@pytest.mark.parametrize(
    ("kind", "pixels"),
    [("body", 48), ("nonclothes", 13), ("body_no_bag", 47), ("contour", 48 - 6 * 4)],
)
def test_what_the_attention_should_see(kind, pixels):
    labels = person()
    mask = body_mask(labels, kind, garments=(2, 3, 4, 9), bags=(8,))
    assert mask.sum() == pixels
    assert not mask[labels == 0].any()
    with pytest.raises(ValueError, match="body, nonclothes, contour, body_no_bag"):
        body_mask(labels, "head", (2,), (8,))


def test_targets_are_area_means_with_a_floor():
    mask = body_mask(person(), "body", (2,), (8,))
    bare = attention_target(mask, (4, 2), floor=0.0)
    assert bare.shape == (1, 1, 4, 2)
    assert bare.mean().item() == pytest.approx(48 / (32 * 16))
    # Rows 8 to 15 are the second of four; columns 4 to 7 and 8 to 9 of the two halves of 8.
    assert bare[0, 0].tolist() == [[0, 0], [0.5, 0.25], [0, 0], [0, 0]]
    floored = attention_target(mask, (4, 2), floor=0.3)
    assert floored[0, 0].flatten().tolist() == pytest.approx([0.3, 0.3, 0.5, 0.3] + [0.3] * 4)


def test_statistics_are_kept_while_what_passes_is_normalised_by_its_own():
    norm = nn.Sequential(nn.BatchNorm1d(3, momentum=0.4))
    norm(torch.randn(8, 3))
    before = norm[0].running_mean.clone(), norm[0].running_var.clone()
    x = torch.randn(8, 3) * 5 + 2
    with running_statistics_kept(norm):
        y = norm(x)
    torch.testing.assert_close(norm[0].running_mean, before[0], rtol=0, atol=0)
    torch.testing.assert_close(norm[0].running_var, before[1], rtol=0, atol=0)
    torch.testing.assert_close(y.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    assert norm[0].momentum == 0.4
