"""DIFFER's network on any timm backbone, and the authors' network through the converters."""

import re
from functools import partial
from pathlib import Path

import ccreid  # noqa: F401 - before timm: makes torchvision importable

# isort: split
import numpy as np
import pytest
import timm
import torch
from timm.models import Eva

from ccreid.errors import ConfigError, DataError
from ccreid.methods.differ import DIFFER
from ccreid.models import Backbone, CameraEmbedding, text_projection
from ccreid.models.converters import differ_state, eva_clip_state

with np.load(Path(__file__).parents[1] / "golden" / "differ.npz") as golden:
    GOLDEN = {k: torch.from_numpy(golden[k]) for k in golden.files if k.startswith("eva/")}
OFFICIAL = {k.removeprefix("eva/sd/"): v for k, v in GOLDEN.items() if k.startswith("eva/sd/")}
VITS = ["test_vit", "test_vit2", "test_vit3", "tiny_eva02_clip"]
CNNS = ["test_efficientnet", "test_convnext", "test_mambaout"]


@pytest.fixture(scope="module", autouse=True)
def tiny_eva():
    """Register the authors' network at the golden size under a name, as any timm network."""

    def tiny_eva02_clip(pretrained=False, **settings):
        size = {"patch_size": 14, "embed_dim": 32, "depth": 3, "num_heads": 2}
        eva02 = {
            "qkv_fused": False,
            "mlp_ratio": 4 * 2 / 3,
            "swiglu_mlp": True,
            "scale_mlp": True,
            "scale_attn_inner": True,
            "use_rot_pos_emb": True,
            "ref_feat_shape": (16, 16),
            "global_pool": "token",
        }
        network = Eva(img_size=28, **size, **eva02, dynamic_img_size=True, num_classes=0)
        network.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
        return network

    tiny_eva02_clip.__module__ = __name__
    timm.models.register_model(tiny_eva02_clip)


def build(
    name="tiny_eva02_clip", *, num_cameras=4, caption_dim=24, mean=None, std=None, **settings
):
    torch.manual_seed(0)
    backbone = Backbone(name, "none", last_stride=None, mean=mean, std=std)
    optimizer = partial(torch.optim.SGD, lr=0.1)
    return DIFFER(backbone, 5, num_cameras, caption_dim, optimizer, **settings)


def official(**settings):
    as_they_are = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}  # the input is normalised
    method = build(**as_they_are, **settings)
    method.load_state_dict(differ_state(OFFICIAL))
    return method.eval()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_official_network_is_reproduced_from_its_own_weights(prefix):
    method = build(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    method.load_state_dict(differ_state({prefix + name: v for name, v in OFFICIAL.items()}))
    method.eval()
    with torch.no_grad():
        feature = method.embed(GOLDEN["eva/x"], GOLDEN["eva/cam"])
        hidden = method.reversal(feature)
        reverse = torch.stack([head(hidden) for head in method.non_biometric_heads], dim=1)
        got = {
            "feat_eval": feature,
            "cls_score": method.classifier(feature),
            "clip_bio_score": method.biometric_head(feature),
            "clip_bio_reverse_score": reverse,
        }
    for name, value in got.items():
        torch.testing.assert_close(value, GOLDEN[f"eva/{name}"], rtol=1e-5, atol=1e-5, msg=name)


def test_the_camera_decides_the_official_feature():
    x, camid, expected = (GOLDEN[f"eva/{name}"] for name in ("x", "cam", "feat_eval"))
    method, weaker, without = official(), official(camera_factor=1.0), official(camera_factor=0.0)
    with torch.no_grad():
        unknown = method.embed(x)
        assert (unknown - expected).abs().max() > 0.01
        assert (weaker.embed(x, camid) - expected).abs().max() > 0.01
        torch.testing.assert_close(method.embed(x, torch.tensor([-1, -1, 9])), unknown)
        torch.testing.assert_close(without.embed(x, camid), unknown)


def test_a_clip_is_the_mean_of_its_frames():
    method, x, camid = official(), GOLDEN["eva/x"], torch.tensor([2])
    with torch.no_grad():
        frames = method.embed(x, camid.expand(3))
        torch.testing.assert_close(method.embed(x[None], camid), frames.mean(dim=0, keepdim=True))


def test_clip_mlp_heads_have_the_official_names():
    method = build(heads="clipMLP", hidden_dim=7)
    renamed = {}
    for name, value in OFFICIAL.items():
        if not name.startswith("head_clip"):
            renamed[name] = value
    for head in ("head_clip_bio", "head_clip_bioReverse.0", "head_clip_bioReverse.1"):
        renamed |= {
            f"{head}.fc1.weight": torch.randn(7, 32),
            f"{head}.fc1.bias": torch.randn(7),
            f"{head}.fc2.weight": torch.randn(24, 7),
            f"{head}.fc2.bias": torch.randn(24),
        }
    method.load_state_dict(differ_state(renamed))
    feature = torch.randn(2, 32)
    for ours, theirs in (
        (method.biometric_head, "head_clip_bio"),
        (method.non_biometric_heads[1], "head_clip_bioReverse.1"),
    ):
        weights = [renamed[f"{theirs}.fc{i}.{kind}"] for i in (1, 2) for kind in ("weight", "bias")]
        hidden = torch.nn.functional.gelu(feature @ weights[0].T + weights[1])
        torch.testing.assert_close(ours(feature), hidden @ weights[2].T + weights[3])


def test_a_checkpoint_with_biases_in_the_non_biometric_heads_has_its_setting():
    state = differ_state(
        OFFICIAL | {f"head_clip_bioReverse.{k}.head_fc.bias": torch.ones(24) for k in range(2)}
    )
    build(non_biometric_bias=True).load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"non_biometric_heads\.0\.fc\.bias"):
        build().load_state_dict(state)


def test_other_checkpoints_are_no_differ_checkpoints():
    with pytest.raises(ConfigError, match="no DIFFER checkpoint"):
        differ_state({"blocks.0.weight": torch.zeros(1)})
    with pytest.raises(ConfigError, match=r"begins with 'visual\.'"):
        eva_clip_state({"text.weight": torch.zeros(1)})


def test_weights_of_eva_clip_fit_the_timm_network(tmp_path):
    network = Backbone("tiny_eva02_clip", "none", last_stride=None).network
    ours = network.state_dict()
    theirs = {"text.x": torch.zeros(1), "logit_scale": torch.zeros(1)}
    theirs |= {
        "visual.rope.freqs_cos": torch.zeros(4, 16),
        "visual.head.weight": torch.zeros(8, 32),
    }
    back = {
        "attn.norm.": "attn.inner_attn_ln.",
        "attn.q_proj.bias": "attn.q_bias",
        "attn.v_proj.bias": "attn.v_bias",
        "mlp.norm.": "mlp.ffn_ln.",
        "mlp.fc1_g.": "mlp.w1.",
        "mlp.fc1_x.": "mlp.w2.",
        "mlp.fc2.": "mlp.w3.",
    }
    for name, value in ours.items():
        for new, old in back.items():
            name = name.replace(new, old)
        theirs[f"visual.{name}"] = value
    converted = eva_clip_state(theirs)
    assert converted.keys() == ours.keys()
    assert all(torch.equal(converted[name], value) for name, value in ours.items())
    in_timms_names = {f"visual.trunk.{name}": value for name, value in ours.items()}
    assert eva_clip_state(in_timms_names).keys() == ours.keys()
    torch.save(theirs, tmp_path / "eva.pth")
    loaded = Backbone("tiny_eva02_clip", str(tmp_path / "eva.pth"), last_stride=None).network
    assert all(torch.equal(value, ours[name]) for name, value in loaded.state_dict().items())


def test_the_golden_network_has_the_tensors_of_the_published_backbone():
    with torch.device("meta"):
        published = timm.create_model("eva02_large_patch14_clip_224", num_classes=0)
    assert sum(p.numel() for p in published.parameters()) == 303_317_952
    tiny = timm.create_model("tiny_eva02_clip")
    names = [
        {re.sub(r"\.\d+\.", ".N.", name) for name in n.state_dict()} for n in (published, tiny)
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize("name", [*VITS, *CNNS])
def test_any_backbone_learns_every_parameter_and_its_cameras(name):
    method = build(name, num_cameras=2).train()
    side = 2 * method.backbone.reduction
    images, camid = torch.rand(2, 3, 2 * side, side), torch.tensor([1, -1])
    feature = method.embed(images, camid)
    assert feature.shape == (2, method.backbone.num_features)
    feature.square().mean().backward()
    trainable = {n: p for n, p in method.backbone.named_parameters() if p.requires_grad}
    assert all(p.grad is not None for p in trainable.values())
    moved = method.cameras.table.grad.norm(dim=1)
    assert moved[0] == 0
    assert moved[1] > 0


@pytest.mark.parametrize("name", CNNS)
def test_for_a_cnn_the_camera_is_added_to_the_pooled_feature(name):
    method = build(name, camera_factor=2.0).eval()
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        pooled = method.backbone(images).mean(dim=(2, 3))
        expected = pooled + 2.0 * method.cameras.table[torch.tensor([3, 0])]
        torch.testing.assert_close(method.embed(images, torch.tensor([3, 0])), expected)


def test_for_a_vit_every_token_gets_the_camera_beside_its_position():
    method = build("test_vit").eval()
    network, images = method.backbone.network, torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        features = method.embed(images, torch.tensor([1, 2]))
        for row, camera in enumerate((1, 2)):
            plain = network.pos_embed.clone()
            network.pos_embed += 3.0 * method.cameras.table[camera]
            expected = method.backbone(images, pooled=True)
            network.pos_embed.copy_(plain)
            torch.testing.assert_close(features[row], expected[row])


def test_without_a_class_token_the_patches_are_averaged():
    backbone = Backbone("vit_tiny_patch16_224", "none", last_stride=None).eval()
    network = backbone.network
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        tokens = network.forward_features((images - backbone.mean) / backbone.std)
        torch.testing.assert_close(backbone(images, pooled=True), tokens[:, 0])
    gap = Backbone("vit_medium_patch16_gap_240", "none", last_stride=None).eval()
    with torch.no_grad():
        torch.testing.assert_close(gap(images, pooled=True), gap(images).mean(dim=(2, 3)))


def test_a_shift_needs_a_vector_to_act_on():
    backbone = Backbone("test_efficientnet", "none", last_stride=None)
    with pytest.raises(ValueError, match="pooled=True"):
        backbone(torch.rand(1, 3, 64, 32), torch.zeros(1, backbone.shift_dim))


def test_given_statistics_stand_in_for_those_of_the_weights():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    backbone = Backbone("test_efficientnet", "none", last_stride=None, mean=mean, std=std)
    assert backbone.mean.flatten().tolist() == pytest.approx(mean)
    assert backbone.std.flatten().tolist() == pytest.approx(std)


def test_the_final_norm_is_reset_only_when_asked():
    def features(reset):
        torch.manual_seed(0)
        backbone = Backbone("tiny_eva02_clip", "none", last_stride=None)
        torch.nn.init.normal_(backbone.network.norm.weight)
        torch.nn.init.normal_(backbone.network.norm.bias)
        before = backbone.network.norm.weight.clone()
        optimizer = partial(torch.optim.SGD, lr=0.1)
        method = DIFFER(backbone, 5, 4, 24, optimizer, reset_final_norm=reset).eval()
        assert torch.equal(before, backbone.network.norm.weight) != reset
        with torch.no_grad():
            return method.embed(torch.rand(4, 3, 28, 28))

    start = features(True)
    # Layer-normed: mean 0 and variance 1 over the 32 channels, so of length sqrt(32).
    torch.testing.assert_close(start.mean(dim=1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(start.norm(dim=1), torch.full((4,), 32**0.5), atol=1e-3, rtol=0)
    assert (features(False).norm(dim=1) - 32**0.5).abs().min() > 0.01


def test_heads_begin_as_in_the_released_code():
    method = build("test_vit", caption_dim=512)
    assert method.classifier.weight.std().item() == pytest.approx(2e-5, rel=0.2)
    assert method.classifier.bias.abs().max() == 0
    assert method.biometric_head.fc.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert method.biometric_head.fc.bias.abs().max() == 0
    assert all(head.fc.bias is None for head in method.non_biometric_heads)
    with pytest.raises(ValueError, match="clipFc, clipMLP"):
        text_projection(4, 4, "clip", 2)


def test_the_camera_table():
    cameras = CameraEmbedding(3, 4, factor=2.0).eval()
    rows = cameras(torch.tensor([2, -1, 0, 3], dtype=torch.int32))
    torch.testing.assert_close(rows[[0, 2]], 2.0 * cameras.table[[2, 0]])
    assert rows[[1, 3]].abs().max() == 0
    none = CameraEmbedding(0, 4)
    assert none(torch.tensor([-1, 0])).tolist() == [[0.0] * 4] * 2
    with pytest.raises(DataError, match="camera -2"):
        cameras(torch.tensor([0, -2]))
    with pytest.raises(DataError, match="integers"):
        cameras(torch.tensor([0.0, 1.0]))
    with pytest.raises(ConfigError, match="camera_factor"):
        CameraEmbedding(3, 4, factor=-1.0)
    with pytest.raises(DataError, match="Number the cameras from 0"):
        CameraEmbedding(20261120163000, 4)


def test_a_camera_that_was_not_trained_with_is_unknown():
    cameras = CameraEmbedding(4, 6).eval()
    kept = cameras.table[[0, 2]].clone()
    asked = torch.tensor([-1, 0, 1, 2, 3, 4])
    assert cameras.knows(asked).tolist() == [False, True, True, True, True, False]
    cameras.forget_all_but(torch.tensor([2, -1, 0, 2]))
    assert cameras.knows(asked).tolist() == [False, True, False, True, False, False]
    assert torch.equal(cameras.table[[0, 2]], kept)
    optimizer = torch.optim.AdamW(cameras.parameters(), lr=0.1, weight_decay=0.1)
    cameras(torch.tensor([0, 2])).square().sum().backward()
    optimizer.step()
    assert cameras.knows(asked).tolist() == [False, True, False, True, False, False]


def test_blocks_of_the_class_token_alone_are_trained_where_the_vector_is():
    backbone = Backbone("xcit_nano_12_p16_224", "none", last_stride=None)
    named = dict(backbone.network.named_parameters())
    of_class = {name for name in named if name.startswith("cls_")}
    assert {name for name, p in named.items() if not p.requires_grad} == of_class
    backbone.train_for_vector()
    assert all(p.requires_grad for p in named.values())
    assert backbone.network.training
