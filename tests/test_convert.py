"""The authors' checkpoints become files that every verb takes; what does not fit is named."""

import json
import re

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors import safe_open

from ccreid.build import build_method
from ccreid.callbacks.evaluation import EvaluationSettings, evaluate_method, flat_metrics
from ccreid.checkpoints.exporting import load_exported
from ccreid.config import compose
from ccreid.convert import convert
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.transforms import TestTransform
from ccreid.errors import ConfigError
from ccreid.evaluate import evaluate
from ccreid.models.converters import differ_state, fire2_state, from_differ
from tests.models.test_differ_network import GOLDEN, OFFICIAL, tiny_eva  # noqa: F401 - registers
from tests.trust.few_people import write_few_people

GOLDEN_SIZE = (
    "backbone.name=tiny_eva02_clip",
    "backbone.mean=[0,0,0]",  # the golden input is normalised
    "backbone.std=[1,1,1]",
    "input.height=28",
    "input.width=28",
)
TINY_RESNET = ("backbone.name=test_resnet", "input.height=64", "input.width=32")


def converted(content, tmp_path, *settings, name="out"):
    path = tmp_path / "official.pth"
    torch.save(content, path)
    overrides = [f"weights={path}", f"output={tmp_path / name}", f"output_dir={tmp_path}"]
    return convert(compose("convert", [*overrides, *settings]))


def differ(content, tmp_path, *settings, data="ltcc", **more):
    given = ("method=differ", f"data={data}", *GOLDEN_SIZE, *settings)
    return converted(content, tmp_path, *given, **more)


def test_the_golden_differ_network_comes_out(tmp_path):
    path = differ({f"module.{name}": value for name, value in OFFICIAL.items()}, tmp_path)
    method = load_exported(path)
    with torch.no_grad():
        feature = method.embed(GOLDEN["eva/x"], GOLDEN["eva/cam"])
    torch.testing.assert_close(feature, GOLDEN["eva/feat_eval"], rtol=1e-5, atol=1e-5)
    with safe_open(path, framework="pt") as file:
        texts = file.metadata()
    sizes = {"num_identities": 5, "num_cameras": 4, "caption_dim": 24}
    assert json.loads(texts["sizes"]) == sizes
    assert json.loads(texts["origin"])["converted_from"] == "official.pth"
    config = json.loads(texts["config"])
    assert config["method"]["non_biometric"] == ["hairstyle", "clothing"]  # the recipe's
    assert config["recipe_name"] == "differ_ltcc"
    assert not config["evaluation"]["mirror"]


def test_evaluation_is_that_of_the_network_built_by_hand(tmp_path, tiny_config, monkeypatch):
    """The golden network again, but through the verbs, cameras included."""
    monkeypatch.setattr("ccreid.viz.protocols.draw_protocols", lambda *_: None)
    archive = write_few_people(tmp_path / "few.zip")
    path = differ(OFFICIAL, tmp_path, f"data.archive={archive}", "precision=fp32", data="virtual")
    overrides = (f"checkpoint={path}", "evaluation.workers=0")
    got = evaluate(tiny_config(*overrides, config_name="evaluate"))

    settings = ("method=differ", "data=virtual", *GOLDEN_SIZE, "backbone.weights=none")
    cfg = compose("train", [*settings, "output_dir=out", "precision=fp32"])
    method = build_method(cfg, {"num_identities": 5, "num_cameras": 4, "caption_dim": 24})
    method.load_state_dict(differ_state(OFFICIAL))
    how = EvaluationSettings(**{**cfg.evaluation, "workers": 0})
    benchmark = Virtual(archive)
    results = evaluate_method(method, benchmark, TestTransform(28, 28), how, cameras=True)
    assert got == flat_metrics(results, "virtual")
    told_nothing = evaluate_method(method, benchmark, TestTransform(28, 28), how, cameras=False)
    assert got != flat_metrics(told_nothing, "virtual")


def test_without_cameras_the_only_one_becomes_part_of_the_positions(tmp_path):
    one = {**OFFICIAL, "camera_embed": OFFICIAL["camera_embed"][:1]}
    expected = load_exported(differ(one, tmp_path))
    light = ("method.non_biometric=[hairstyle,clothing]",)
    released = load_exported(
        differ(one, tmp_path, *light, data="celeb_reid_light", name="released")
    )
    settings = (*light, "single_camera_factor=1")
    first_commit = load_exported(
        differ(one, tmp_path, *settings, data="celeb_reid_light", name="first")
    )
    x, camera = GOLDEN["eva/x"], torch.zeros(3, dtype=torch.int64)
    with torch.no_grad():
        feature = released.embed(x)  # an image of celeb_reid_light has no camera
        torch.testing.assert_close(feature, expected.embed(x, camera))
        assert (feature - expected.embed(x)).abs().max() > 0.01
        assert torch.equal(feature, released.embed(x, camera))
        assert (first_commit.embed(x) - feature).abs().max() > 0.01
    with pytest.raises(ConfigError, match="knows 4 cameras, and the benchmark named by data= has"):
        differ(OFFICIAL, tmp_path, data="celeb_reid_light", name="four")


def test_the_kind_of_the_heads_is_told_by_the_tensors():
    mlp = {name: value for name, value in OFFICIAL.items() if not name.startswith("head_clip")}
    for head in ("head_clip_bio", "head_clip_bioReverse.0"):
        mlp |= {f"{head}.fc1.weight": torch.randn(7, 32), f"{head}.fc1.bias": torch.randn(7)}
        mlp |= {f"{head}.fc2.weight": torch.randn(9, 7), f"{head}.fc2.bias": torch.randn(9)}
    told = from_differ({"state_dict": mlp})
    assert told.settings == {"heads": "clipMLP", "hidden_dim": 7}
    assert told.sizes["caption_dim"] == 9
    plain = from_differ(OFFICIAL)
    assert plain.settings == {"heads": "clipFc", "non_biometric_bias": False}
    biased = {**OFFICIAL, "head_clip_bioReverse.0.head_fc.bias": torch.zeros(24)}
    assert from_differ(biased).settings["non_biometric_bias"]


def official_fire2(cfg, identities=5):
    """Return a network of ours as the authors' code would save it, and the network."""
    method = build_method(cfg, {"num_identities": identities})
    with torch.no_grad():
        for tensor in method.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape)
    children = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    model, classifier = {}, {}
    for name, value in method.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "backbone":
            child, _, inner = rest.removeprefix("network.").partition(".")
            model[f"backbone.{children.index(child)}.{inner}"] = value
        elif part == "classifier":
            classifier[name] = value
        else:
            theirs = {"bnneck": "bottleneck", "recomposed_bnneck": "FAR_bottleneck"}
            model[f"{theirs.get(part, 'FAR_classifier')}.{rest}"] = value
    content = {"model_state_dict": model, "classifier_state_dict": classifier, "epoch": 79}
    return {**content, "rank1": np.float32(0.4), "mAP": np.float64(0.2)}, method


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_fire2_network_comes_out(tmp_path, prefix):
    given = ("method=fire2", "data=ltcc", *TINY_RESNET)
    cfg = compose("train", [*given, "backbone.weights=none", "output_dir=out"])
    content, method = official_fire2(cfg)
    for part in ("model_state_dict", "classifier_state_dict"):
        content[part] = {prefix + name: value for name, value in content[part].items()}
    found = load_exported(converted(content, tmp_path, *given))
    x = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        assert torch.equal(found.embed(x), method.eval().embed(x))


def test_the_names_of_torchvisions_resnet50_are_timms():
    """The authors keep torchvision's network as a list of its children, all but the last two."""
    with torch.device("meta"):
        theirs = torch.nn.Sequential(*list(torchvision.models.resnet50().children())[:-2])
        ours = timm.create_model("resnet50", num_classes=0)
    model = {f"backbone.{name}": value for name, value in theirs.state_dict().items()}
    classifier = {"classifier.weight": torch.ones(3, 4096)}
    state = fire2_state({"model_state_dict": model, "classifier_state_dict": classifier})
    shapes = {name: value.shape for name, value in state.items() if name != "classifier.weight"}
    wanted = {f"backbone.network.{name}": value.shape for name, value in ours.state_dict().items()}
    assert shapes == wanted
    assert len(wanted) == 318


def test_what_does_not_fit_is_named(tmp_path):
    more = {**OFFICIAL, "meta_head.weight": torch.ones(2)}
    with pytest.raises(ConfigError, match=r"1 unexpected \(backbone\.network\.meta_head\.weight\)"):
        differ(more, tmp_path)
    fewer = {name: value for name, value in OFFICIAL.items() if name != "pos_embed"}
    with pytest.raises(ConfigError, match=r"1 missing \(backbone\.network\.pos_embed\)"):
        differ(fewer, tmp_path)
    other = {**OFFICIAL, "pos_embed": torch.ones(1, 6, 32)}
    with pytest.raises(ConfigError, match=r"pos_embed \[1, 6, 32\] instead of \[1, 5, 32\]"):
        differ(other, tmp_path)


def test_the_number_of_heads_is_the_recipes(tmp_path):
    """PRCC's recipe has one non-biometric text, this checkpoint two heads."""
    with pytest.raises(ConfigError, match=r"unexpected \(non_biometric_heads\.1\.fc\.weight\)"):
        differ(OFFICIAL, tmp_path, data="prcc")


@pytest.mark.parametrize(
    ("content", "method", "said"),
    [
        ({"a": torch.ones(1)}, "differ", "This is no DIFFER checkpoint: it has no 'head_bio"),
        ({1: torch.ones(1)}, "differ", "This is no DIFFER checkpoint: it has no 'head_bio"),
        ({"blocks.x.weight": torch.ones(1)}, "differ", "This is no DIFFER checkpoint"),
        ({"a": 3}, "differ", "it holds more than a state dict"),
        ([torch.ones(1)], "differ", "holds no state dict but a list"),
        (OFFICIAL, "fire2", "lacks the state dicts 'model_state_dict'"),
        ({"model_state_dict": 3, "classifier_state_dict": {}}, "fire2", "no FIRe² checkpoint"),
        ({"model_state_dict": {}, "classifier_state_dict": {}}, "fire2", "no classifier.weight"),
        (OFFICIAL, "baseline", "no reader for official checkpoints of ccreid.methods.baseline"),
    ],
)
def test_what_is_no_such_checkpoint_is_refused(content, method, said, tmp_path):
    with pytest.raises(ConfigError, match=re.escape(said)):
        converted(content, tmp_path, f"method={method}", "data=ltcc")


def test_a_whole_object_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match=r"holds more than tensors.*Nothing was run.*state_dict"):
        converted({"model": torch.nn.Linear(1, 1)}, tmp_path, "method=differ", "data=ltcc")


def test_the_file_must_be_there(tmp_path):
    given = ["method=differ", "data=ltcc", f"output={tmp_path}"]
    with pytest.raises(ConfigError, match="Say which file: weights="):
        convert(compose("convert", given))
    with pytest.raises(ConfigError, match="there is no file"):
        convert(compose("convert", [*given, f"weights={tmp_path / 'nowhere.pth'}"]))
