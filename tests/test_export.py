"""Exported weights: hashed, without what only training needs, the same numbers in every verb."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import ccreid
from ccreid.build import build_method
from ccreid.checkpoints.checkpoint import load_checkpoint, provenance
from ccreid.checkpoints.exporting import load_exported, used_in_embedding
from ccreid.config import compose, list_methods
from ccreid.errors import CheckpointError, ConfigError
from ccreid.evaluate import evaluate
from ccreid.export import export
from ccreid.features import evaluating
from ccreid.train import train
from tests.conftest import TINY
from tests.trust.few_people import write_few_people

SIZES = {"num_identities": 5, "num_clothes": 9, "num_cameras": 3, "caption_dim": 8}
IMAGES = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def disturb(method):
    """Make every weight another than a method that is built from its seed has."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for tensor in method.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)


def write_checkpoint(cfg, path):
    """Write the checkpoint of a method that was not trained."""
    built = build_method(cfg, SIZES)
    disturb(built)
    content = {
        "ccreid": provenance(cfg, SIZES),
        "state_dict": built.state_dict(),
        "loops": {"fit_loop": {"epoch_progress": {"current": {"processed": 7}}}},
    }
    torch.save(content, path)
    return path


@pytest.fixture
def checkpoint(tiny_config, tmp_path):
    """Return a function that writes such a checkpoint."""

    def write(method, *settings):
        return write_checkpoint(tiny_config(f"method={method}", *settings), tmp_path / "last.ckpt")

    return write


@pytest.fixture(scope="module")
def baseline(tmp_path_factory):
    """The checkpoint of a baseline and, in the folder `out`, what was exported of it."""
    folder = tmp_path_factory.mktemp("baseline")
    cfg = compose("train", [*TINY, "method=baseline", f"output_dir={folder}"])
    path = write_checkpoint(cfg, folder / "last.ckpt")
    return path, exported(path)


@pytest.fixture
def file(baseline, tmp_path):
    """A copy of the exported baseline, to be altered."""
    return Path(shutil.copy(baseline[1], tmp_path))


def exported(path, *settings, name="out"):
    return export(
        compose("export", [f"checkpoint={path}", f"output={path.parent / name}", *settings])
    )


def features(method):
    images = IMAGES.clone()
    with torch.no_grad(), evaluating(method):
        without = method.embed(images)
        return (
            torch.cat([without, method.embed(images, torch.tensor([0, 2]))])
            if method.uses_camera
            else without
        )


def deciding_weights(method):
    """Brute force: a weight decides the features if they break when it is no number."""
    names = set()
    for name, tensor in method.state_dict().items():
        if tensor.is_floating_point() and tensor.numel():
            kept = tensor.clone()
            tensor.fill_(torch.nan)
            if not torch.isfinite(features(method)).all():
                names.add(name)
            tensor.copy_(kept)
    return names


@pytest.mark.parametrize("name", list_methods())
def test_every_method_embeds_the_same_from_what_decides_its_features(name, checkpoint):
    path = checkpoint(name)
    before = load_checkpoint(path).build_method()
    file = exported(path)
    after = load_exported(file)
    assert type(after) is type(before)
    assert torch.equal(features(after), features(before))
    tensors = load_file(file)
    assert set(tensors) == deciding_weights(before)
    assert not any("classifier" in tensor for tensor in tensors)
    assert before.state_dict().keys() - tensors.keys() == set(load_checkpoint(file).left_out)
    assert file.stat().st_size < path.stat().st_size


def test_the_file_says_how_to_use_it(checkpoint, monkeypatch):
    monkeypatch.setattr("ccreid.report._commit", lambda: "0123abc")
    settings = ("input.interpolation=bicubic", "evaluation.mirror=false", "seed=3")
    path = exported(checkpoint("baseline", *settings))
    texts = texts_of(path)
    assert json.loads(texts["preprocessing"]) == {
        "height": 64,
        "width": 32,
        "interpolation": "bicubic",
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "mirror": False,
    }
    assert json.loads(texts["sizes"]) == SIZES
    origin = json.loads(texts["origin"])
    assert (origin["commit"], origin["versions/ccreid"]) == ("0123abc", ccreid.__version__)
    assert (origin["seed"], origin["epoch"]) == (3, 7)
    assert texts["method"] == "ccreid.methods.baseline.Baseline"
    config = json.loads(texts["config"])
    assert config["method"]["_target_"] == texts["method"]
    assert not {"output_dir", "logger", "callbacks", "trainer", "allow_targets"} & config.keys()


def test_evaluation_gives_the_same_numbers(checkpoint, tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr("ccreid.viz.protocols.draw_protocols", lambda *_: None)
    path = checkpoint("fire2", f"data.archive={write_few_people(tmp_path / 'few.zip')}")
    file = exported(path, name="model.safetensors")
    assert file.name == "model.safetensors"

    def metrics(checkpoint, folder):
        cfg = tiny_config(f"checkpoint={checkpoint}", config_name="evaluate", folder=folder)
        return evaluate(cfg)

    expected = metrics(path, "one")
    assert metrics(file, "other") == expected
    assert len(expected) > 9


def texts_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def alter_tensor(content):
    content["classifier-free"] = content.pop(sorted(content)[0])


def alter_number(content):
    content["bnneck.weight"][3] += 1e-6


def alter_shape(content):
    content["bnneck.weight"] = content["bnneck.weight"].reshape(2, -1)


def alter_type(content):
    content["bnneck.weight"] = content["bnneck.weight"].view(torch.int32)


@pytest.mark.parametrize("alter", [alter_tensor, alter_number, alter_shape, alter_type])
def test_altered_tensors_are_refused(alter, file):
    texts, tensors = texts_of(file), load_file(file)
    save_file(tensors, file, texts)
    load_checkpoint(file)  # writing it again changes nothing
    alter(tensors)
    save_file(tensors, file, texts)
    with pytest.raises(CheckpointError, match="was altered or damaged"):
        load_exported(file)


@pytest.mark.parametrize(
    "name", ["config", "sizes", "preprocessing", "left_out", "origin", "method", "tensors_sha256"]
)
def test_altered_texts_are_refused(name, file):
    texts = texts_of(file)
    texts[name] = texts[name][:-1] + " " + texts[name][-1]
    save_file(load_file(file), file, texts)
    with pytest.raises(CheckpointError, match="was altered or damaged"):
        load_exported(file)


def test_files_that_are_no_export(baseline, file, tmp_path):
    shutil.copy(baseline[0], tmp_path)
    whole = file.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bit.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    save_file({"weight": torch.ones(1)}, tmp_path / "foreign.safetensors")
    for name, said in {
        "cut.safetensors": "not a whole safetensors file",
        "bit.safetensors": "was altered or damaged",
        "foreign.safetensors": "was not written by python -m ccreid.export",
        "missing.safetensors": "No checkpoint at",
        "last.ckpt": "is no exported file",
    }.items():
        with pytest.raises(CheckpointError, match=said):
            load_exported(tmp_path / name)


def test_training_does_not_go_on_from_an_export(file, tiny_config):
    with pytest.raises(CheckpointError, match="was exported"):
        train(tiny_config("method=baseline", f"resume={file}"))


def test_nothing_is_overwritten(baseline):
    path, file = baseline
    before = file.read_bytes()
    with pytest.raises(ConfigError, match=r"There is a .*already"):
        exported(path)
    assert file.read_bytes() == before
    assert [p.name for p in file.parent.iterdir()] == ["model.safetensors"]


def test_an_export_can_be_exported_again(file):
    again = exported(file, name="again")
    assert load_file(file).keys() == load_file(again).keys()
    assert torch.equal(features(load_exported(file)), features(load_exported(again)))


OWN = """
import torch
from ccreid.methods.baseline import Baseline

class Own(Baseline):
    def __init__(self, backbone, num_identities, optimizer, scheduler=None, **settings):
        super().__init__(backbone, num_identities, optimizer, scheduler, **settings)
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.hidden = [self.scale.data]  # another name of the same numbers

    def embed(self, images):
        return super().embed(images) * self.hidden[0]
"""


def test_what_cannot_be_watched_is_kept_and_own_methods_ask_for_leave(
    checkpoint, tmp_path, monkeypatch
):
    (tmp_path / "own_method.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_method", raising=False)
    own = ("method._target_=own_method.Own", "allow_targets=[own_method]")
    path = checkpoint("baseline", *own)
    with pytest.raises(ConfigError, match=r"allow_targets=\[own_method\]"):
        exported(path)
    file = exported(path, "allow_targets=[own_method]")
    with pytest.raises(ConfigError, match=r"allow_targets=\[own_method\]"):
        load_exported(file)
    before = load_checkpoint(path, ["own_method"]).build_method()
    after = load_exported(file, ["own_method"])
    assert torch.equal(features(after), features(before))
    assert load_checkpoint(file, ["own_method"]).left_out == ()
    assert used_in_embedding(before, 64, 32) == set(after.state_dict())
