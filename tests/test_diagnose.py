"""The verb, on checkpoints of a tiny network."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.data.factors import LEVELS, controlled_images
from ccreid.diagnose import diagnose, name_checkpoints
from ccreid.errors import CheckpointError, ConfigError
from ccreid.features import evaluating, extract_features
from ccreid.retrieval.factors import factor_similarities
from ccreid.train import train
from tests.conftest import TINY


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from ccreid.config import compose

    folder = tmp_path_factory.mktemp("run")
    overrides = ("method=baseline", "debug=fast", "evaluation.mirror=true")
    return train(compose("train", [*TINY, *overrides, f"output_dir={folder}"])).checkpoint


def test_two_checkpoints_side_by_side(checkpoint, tmp_path, tiny_config, capsys):
    other = tmp_path / "weaker" / "checkpoints" / "last.ckpt"
    other.parent.mkdir(parents=True)
    content = torch.load(checkpoint, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in content["state_dict"].items():
        if tensor.ndim == 4:
            content["state_dict"][name] = tensor + tensor.std() * torch.randn(
                tensor.shape, generator=generator
            )
    torch.save(content, other)

    cfg = tiny_config(f"checkpoint=[{checkpoint},{other}]", config_name="diagnose")
    metrics = diagnose(cfg)

    run = checkpoint.parent.parent.name
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("similarity kept", "clothes+camera", run, "weaker"))
    folder = tmp_path / "run"
    written = json.loads((folder / "metrics.json").read_text())
    np.testing.assert_equal({key: written[key] for key in metrics}, metrics)  # NaN is NaN
    assert "commit" in written
    assert (folder / "factors.png").stat().st_size > 0
    names = {key.split("/")[1] for key in metrics}
    assert names == {run, "weaker"}
    assert metrics[f"diagnose/{run}/clothes/cosine"] != metrics["diagnose/weaker/clothes/cosine"]

    with np.load(folder / "people.npz") as people:
        assert len(people["pid"]) == 12
        for change in ("clothes", "clothes+camera", "camera"):
            assert people[f"weaker/{change}/cosine"].mean() == pytest.approx(
                metrics[f"diagnose/weaker/{change}/cosine"]
            )


def test_one_checkpoint_is_embedded_as_its_run_evaluates(checkpoint, tiny_config):
    metrics = diagnose(tiny_config(f"checkpoint={checkpoint}", config_name="diagnose"))
    loaded = load_checkpoint(checkpoint)
    assert loaded.config.evaluation.mirror
    method, images = loaded.build_method(), controlled_images()
    from ccreid.build import instantiate

    transform = instantiate(loaded.config.data.test_transform)
    assert (transform.height, transform.width) == (64, 32)
    with evaluating(method):
        features, single = (
            extract_features(
                method.embed, images.samples, transform, device=method.device, mirror=mirror
            )
            for mirror in (True, False)
        )
    expected, unlike = (
        factor_similarities(each, images.levels, images.others) for each in (features, single)
    )
    assert {key.split("/")[2] for key in metrics} == {*expected.changes, "person", "person+camera"}
    for change in expected.changes:
        for measure in ("kept", "ranked_right", "cosine"):
            key = f"diagnose/baseline/{change}/{measure}"
            found = [metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"]]
            np.testing.assert_allclose(found, getattr(expected, measure)(change), rtol=1e-4)
    pair = metrics["diagnose/baseline/pose/cosine_0_2"]
    assert pair == pytest.approx(expected.pairs("pose")[0, 2], abs=1e-5)
    assert abs(pair - unlike.pairs("pose")[0, 2]) > 1e-4
    pairs = [key for key in metrics if key.rsplit("/", 1)[-1][:8] in ("cosine_0", "cosine_1")]
    assert len(pairs) == sum(len(n) * (len(n) - 1) // 2 for n in LEVELS.values()) - 3


def test_a_method_that_uses_cameras_is_told_none(checkpoint, tiny_config, monkeypatch):
    from ccreid.methods.baseline import Baseline

    seen = []

    def embed(self, images, *cameras):
        seen.append(cameras)
        return images.flatten(1)

    monkeypatch.setattr(Baseline, "uses_camera", True)
    monkeypatch.setattr(Baseline, "embed", embed)
    diagnose(tiny_config(f"checkpoint={checkpoint}", config_name="diagnose"))
    assert set(seen) == {()}


def test_checkpoints_are_named_by_what_tells_them_apart(checkpoint, tmp_path):
    one = load_checkpoint(checkpoint)

    def at(path, method="ccreid.methods.baseline.Baseline"):
        config = one.config.copy()
        config.method._target_ = method
        return replace(one, path=tmp_path / path, config=config)

    def names(*checkpoints):
        return list(name_checkpoints(checkpoints))

    cal = at("x/a/checkpoints/last.ckpt", "ccreid.methods.cal.CAL")
    assert names(at("x/a/checkpoints/last.ckpt")) == ["baseline"]
    assert names(cal, at("x/b/checkpoints/last.ckpt")) == ["cal", "baseline"]
    runs = [at("x/a/checkpoints/last.ckpt"), at("x/b/checkpoints/last.ckpt")]
    assert names(*runs) == ["a", "b"]
    assert names(runs[0], at("y/a/checkpoints/last.ckpt")) == ["x/a", "y/a"]
    epochs = [at("x/a/checkpoints/1.ckpt"), at("x/a/checkpoints/2.ckpt")]
    assert names(*epochs) == [str(each.path) for each in epochs]
    with pytest.raises(ConfigError, match="once"):
        names(runs[0], runs[0])


def test_what_is_missing_is_said(tmp_path, tiny_config):
    with pytest.raises(ConfigError, match="checkpoint=<run folder>"):
        diagnose(tiny_config(config_name="diagnose"))
    with pytest.raises(ConfigError, match="checkpoint=<run folder>"):
        diagnose(tiny_config("checkpoint=[]", config_name="diagnose"))
    with pytest.raises(CheckpointError, match="No checkpoint at"):
        diagnose(tiny_config(f"checkpoint=[{tmp_path}/none.ckpt]", config_name="diagnose"))
    assert not (tmp_path / "run").exists()
