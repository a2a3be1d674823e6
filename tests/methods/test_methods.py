"""What holds for every method: it trains, evaluates and is rebuilt from its checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ccreid import list_methods
from ccreid.build import build_datamodule, build_method, method_class
from ccreid.callbacks.evaluation import EvaluationSettings, evaluate_method
from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.transforms import TestTransform
from ccreid.errors import CheckpointError, ConfigError, TrainingError
from ccreid.evaluate import evaluate
from ccreid.train import train
from tests.trust.few_people import write_few_people

METHODS = list_methods()


def overrides(method):
    return (f"method={method}", "debug=fast")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One short run per method, shared by the tests that only read."""
    from ccreid.config import compose
    from tests.conftest import TINY

    results = {}
    for method in METHODS:
        folder = tmp_path_factory.mktemp(method)
        cfg = compose("train", [*TINY, *overrides(method), f"output_dir={folder}"])
        results[method] = train(cfg)
    return results


def test_results_say_of_how_many_images_the_camera_was_known(runs, tiny_config, capsys):
    told = {
        method: {k: v for k, v in run.metrics.items() if k.startswith("cameras/")}
        for method, run in runs.items()
    }
    known = {"cameras/virtual/known": 640, "cameras/virtual/unknown": 0}
    assert told == {method: known if method == "differ" else {} for method in METHODS}
    written = json.loads((runs["differ"].output_dir / "metrics.json").read_text())
    assert known.items() <= written.items()
    blind = train(tiny_config(*overrides("differ"), "method.camera_factor=0"))
    assert not any(key.startswith("cameras/") for key in blind.metrics)
    assert "told the camera" not in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_everything_in_its_folder(runs, method):
    result = runs[method]
    metrics = json.loads((result.output_dir / "metrics.json").read_text())
    assert metrics == result.metrics
    for protocol in ("general", "sc", "cc"):
        for name in ("rank1", "rank5", "rank10", "mAP", "mINP"):
            assert 0 <= metrics[f"test/virtual/{protocol}/{name}"] <= 1
        assert metrics[f"test/virtual/{protocol}/num_valid_queries"] == 256
    for key in ("seconds_per_epoch", "images_per_second", "peak_memory_gib"):
        assert metrics[key] > 0
    assert metrics["seed"] == 0
    assert metrics["versions/torch"] == torch.__version__
    with np.load(result.output_dir / "queries.npz", allow_pickle=False) as queries:
        assert len(set(queries["cc/pid"].tolist())) == 32
        mean = np.nanmean(queries["cc/average_precision"])
        assert mean == pytest.approx(metrics["test/virtual/cc/mAP"])
        first = queries["cc/first_hit_rank"] == 1
        assert first.mean() == pytest.approx(metrics["test/virtual/cc/rank1"])
    for file in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "pictures/ranked_cc.png"):
        assert (result.output_dir / file).stat().st_size > 0
    header = (result.output_dir / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/id", "test/virtual/cc/mAP"} <= set(header)


@pytest.mark.parametrize("method", METHODS)
def test_the_checkpoint_alone_gives_the_same_numbers(runs, method, tiny_config):
    cfg = tiny_config(
        f"checkpoint={runs[method].checkpoint}", "data=virtual", config_name="evaluate"
    )
    metrics = evaluate(cfg)
    assert metrics == {k: v for k, v in runs[method].metrics.items() if k.startswith("test/")}
    written = json.loads((Path(cfg.output_dir) / "metrics.json").read_text())
    assert metrics.items() <= written.items()


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_of_another_method_is_refused(runs, method, tiny_config):
    other = next(name for name in METHODS if name != method)
    checkpoint = runs[method].checkpoint
    cfg = tiny_config(f"checkpoint={checkpoint}", f"method={other}", config_name="evaluate")
    with pytest.raises(CheckpointError, match="was trained with"):
        evaluate(cfg)
    with pytest.raises(CheckpointError, match="was trained with"):
        train(tiny_config(*overrides(other), f"resume={checkpoint}"))


@pytest.mark.parametrize("method", METHODS)
def test_a_used_folder_is_not_overwritten(runs, method, tiny_config):
    before = (runs[method].output_dir / "metrics.json").read_bytes()
    cfg = tiny_config(*overrides(method), f"output_dir={runs[method].output_dir}")
    with pytest.raises(ConfigError, match="already holds a run"):
        train(cfg)
    assert (runs[method].output_dir / "metrics.json").read_bytes() == before


@pytest.mark.parametrize("method", METHODS)
def test_test_time_sees_images_only(runs, method):
    network = load_checkpoint(runs[method].checkpoint).build_method().eval()
    images = torch.rand(3, 3, 64, 32)
    with torch.no_grad():
        together = network.embed(images)
        alone = torch.cat([network.embed(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_loss_that_is_not_finite_stops_the_run(method, tiny_config, monkeypatch):
    cls = method_class(tiny_config(*overrides(method)))
    losses = cls.losses

    def broken(self, batch):
        terms = losses(self, batch)
        return terms | {"id": terms["id"] * float("nan")}

    monkeypatch.setattr(cls, "losses", broken)
    with pytest.raises(TrainingError, match="id=nan") as error:
        train(tiny_config(*overrides(method)))
    assert ".jpg" in str(error.value)


def test_a_method_of_ones_own_that_takes_cameras_is_said_to_know_them(tiny_config):
    method = build_method(tiny_config("method=baseline"), {"num_identities": 4})
    cameras = torch.tensor([-1, 0, 7])
    assert method.knows_camera(cameras).tolist() == [False, False, False]
    method.uses_camera = True
    assert method.knows_camera(cameras).tolist() == [False, True, True]


def test_a_method_of_ones_own_may_ask_for_captions(tiny_config):
    cfg = tiny_config("method=baseline")
    data = build_datamodule(cfg, requires={"captions"})
    assert data.captions.perspectives == ("biometrics", "hairstyle", "clothing")


def test_no_more_places_are_kept_than_the_gallery_has(tiny_config, tmp_path):
    cfg = tiny_config("method=baseline", "evaluation.depth=1000000000", "evaluation.mirror=false")
    method = build_method(cfg, {"num_identities": 4})
    benchmark = Virtual(write_few_people(tmp_path / "few.zip"))
    settings = EvaluationSettings(**cfg.evaluation)
    results = evaluate_method(method, benchmark, TestTransform(64, 32), settings)
    for protocol in ("general", "sc", "cc"):
        indices = results[protocol].indices
        assert indices.shape == (len(benchmark.query), len(benchmark.gallery))
