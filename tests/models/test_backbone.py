"""The backbone: maps of every kind of network, its normalisation and the last stride."""

import copy

import ccreid  # noqa: F401 - before timm: makes torchvision importable

# isort: split
import pytest
import timm
import torch

from ccreid.errors import ConfigError
from ccreid.models import Backbone

CONVOLUTIONAL = ["resnet18", "test_resnet", "test_efficientnet", "test_byobnet"]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("name", "reduction"),
    [(name, 32) for name in [*CONVOLUTIONAL, "test_convnext"]] + [("test_vit", 16)],
)
def test_gives_the_networks_map_with_a_gradient(name, reduction, channels_last):
    backbone = Backbone(name, "none", last_stride=None, channels_last=channels_last)
    assert backbone.reduction == reduction
    feature_map = backbone(torch.rand(2, 3, 128, 64))
    expected = (2, backbone.num_features, 128 // reduction, 64 // reduction)
    assert feature_map.shape == expected
    feature_map.square().mean().backward()
    # Distributed training waits for every trainable parameter: each must have a gradient.
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)
    assert any(p.requires_grad for p in backbone.parameters())
    assert backbone.network.training


@pytest.mark.parametrize("name", ["resnet18", "test_convnext", "tf_efficientnet_lite0"])
def test_normalises_with_the_statistics_of_the_weights(name):
    backbone = Backbone(name, "none", last_stride=2).eval()
    config = timm.get_pretrained_cfg(name)
    assert backbone.mean.flatten().tolist() == pytest.approx(config.mean)
    assert backbone.std.flatten().tolist() == pytest.approx(config.std)
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.mean, config.std))
    with torch.no_grad():
        expected = backbone.network.forward_features((images - mean) / std)
        torch.testing.assert_close(backbone(images), expected)
    assert not {"mean", "std"} & set(backbone.state_dict())


def test_statistics_of_the_lite_packages_are_one_half():
    backbone = Backbone("tf_efficientnet_lite0", "none")
    assert backbone.mean.flatten().tolist() == backbone.std.flatten().tolist() == [0.5, 0.5, 0.5]


def test_patch_tokens_are_put_back_in_place():
    backbone = Backbone("test_vit", "none", last_stride=None).eval()
    images = torch.rand(2, 3, 96, 32)
    with torch.no_grad():
        normalised = (images - backbone.mean) / backbone.std
        tokens = backbone.network.forward_features(normalised)[:, 1:]  # without the class token
        feature_map = backbone(images)
    assert feature_map.shape == (2, 64, 6, 2)
    for row in range(6):
        for column in range(2):
            expected = tokens[:, row * 2 + column]
            torch.testing.assert_close(feature_map[:, :, row, column], expected)


def test_networks_with_channels_at_the_end_give_them_first():
    backbone = Backbone("test_mambaout", "none", last_stride=None).eval()
    images = torch.rand(1, 3, 128, 96)
    with torch.no_grad():
        normalised = (images - backbone.mean) / backbone.std
        expected = backbone.network.forward_features(normalised).permute(0, 3, 1, 2)
        torch.testing.assert_close(backbone(images), expected)
    assert expected.shape == (1, backbone.num_features, 4, 3)


def test_swin_takes_any_size():
    backbone = Backbone("swin_tiny_patch4_window7_224", "none", last_stride=2).eval()
    with torch.no_grad():
        assert backbone(torch.rand(1, 3, 160, 96)).shape == (1, 768, 5, 3)


def test_last_stride_of_resnet50_is_the_classical_change():
    backbone = Backbone("resnet50", "none", last_stride=1).eval()
    assert backbone.reduction == 16
    classical = timm.create_model("resnet50", num_classes=0).eval()
    classical.load_state_dict(backbone.network.state_dict())
    classical.layer4[0].conv2.stride = (1, 1)
    classical.layer4[0].downsample[0].stride = (1, 1)
    changed = {k: m.stride for k, m in backbone.network.named_modules() if hasattr(m, "stride")}
    wanted = {k: m.stride for k, m in classical.named_modules() if hasattr(m, "stride")}
    assert changed == wanted
    assert all(
        m.dilation == (1, 1)
        for m in classical.modules()
        if hasattr(m, "kernel_size") and isinstance(m, torch.nn.Conv2d)
    )
    images = torch.rand(1, 3, 64, 32)
    with torch.no_grad():
        expected = classical.forward_features((images - backbone.mean) / backbone.std)
        torch.testing.assert_close(backbone(images), expected)


@pytest.mark.parametrize("name", [*CONVOLUTIONAL, "tf_efficientnet_lite0", "densenet121"])
def test_last_stride_doubles_the_map_and_keeps_weights_and_gradients(name):
    torch.manual_seed(0)
    plain = Backbone(name, "none", last_stride=2)
    torch.manual_seed(0)
    backbone = Backbone(name, "none", last_stride=1)
    assert backbone.reduction == plain.reduction // 2
    assert backbone.num_features == plain.num_features
    feature_map = backbone(torch.rand(2, 3, 96, 64))
    assert feature_map.shape == (2, plain.num_features, 6, 4)
    feature_map.square().mean().backward()
    assert all(p.grad is not None for p in backbone.parameters() if p.requires_grad)
    theirs, ours = plain.state_dict(), backbone.state_dict()
    assert list(theirs) == list(ours)
    parameters = dict(plain.named_parameters())
    assert all(torch.equal(p, parameters[key]) for key, p in backbone.named_parameters())


def test_last_stride_spares_the_side_branches_of_a_pyramid_transformer():
    # Stage 3 shrinks its keys with a strided convolution between the same two sizes.
    backbone = Backbone("pvt_v2_b0", "none", last_stride=1)
    assert backbone.network.stages[3].downsample.proj.stride == (1, 1)
    assert backbone.network.stages[2].blocks[0].attn.sr.stride == (2, 2)


def test_a_changed_backbone_can_be_copied():
    backbone = Backbone("test_resnet", "none", last_stride=1).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(backbone)(images), backbone(images))


@pytest.mark.parametrize("name", ["test_convnext", "test_vit", "swin_tiny_patch4_window7_224"])
def test_patch_networks_have_no_last_stride_to_remove(name):
    with pytest.raises(ConfigError, match=r"backbone\.last_stride=2"):
        Backbone(name, "none", last_stride=1)


def test_networks_of_one_image_size_are_refused():
    with pytest.raises(ConfigError, match="any image size"):
        Backbone("test_vit_relpos", "none", last_stride=None)


def test_other_last_strides_are_refused():
    with pytest.raises(ConfigError, match="1, 2 or null"):
        Backbone("test_resnet", "none", last_stride=4)


@pytest.mark.parametrize(
    "images", [torch.rand(3, 64, 64), torch.rand(1, 1, 64, 64), torch.zeros(1, 3, 64, 64).byte()]
)
def test_what_is_no_batch_of_images_is_refused(images):
    with pytest.raises(ValueError, match="floating RGB"):
        Backbone("test_resnet", "none")(images)


def test_clips_give_one_map_per_frame():
    backbone = Backbone("test_efficientnet", weights="none").eval()
    clips = torch.rand(2, 3, 3, 64, 32)
    maps = backbone(clips)
    assert maps.shape[:2] == (2, 3)
    torch.testing.assert_close(maps[1], backbone(clips[1]))
