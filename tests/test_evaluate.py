"""One checkpoint on several benchmarks, on video, and on a single-shot gallery."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ccreid.data.benchmarks.ccvid import CCVID
from ccreid.data.benchmarks.ltcc import LTCC
from ccreid.data.benchmarks.prcc import PRCC
from ccreid.errors import ConfigError
from ccreid.evaluate import evaluate
from ccreid.train import train
from tests.conftest import TINY
from tests.miniature.ccvid import write_ccvid
from tests.miniature.ltcc import write_ltcc
from tests.miniature.prcc import write_prcc


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    from ccreid.config import compose

    folder = tmp_path_factory.mktemp("run")
    cfg = compose("train", [*TINY, "method=baseline", "debug=fast", f"output_dir={folder}"])
    return train(cfg).checkpoint


@pytest.fixture
def root(tmp_path, monkeypatch):
    for benchmark, write in ((PRCC, write_prcc), (LTCC, write_ltcc), (CCVID, write_ccvid)):
        monkeypatch.setattr(benchmark, "counts", {})
        write(tmp_path)
    return tmp_path


def test_several_benchmarks_give_what_each_gives_alone(checkpoint, root, tiny_config, capsys):
    def run(*overrides, folder):
        return evaluate(
            tiny_config(
                f"checkpoint={checkpoint}", *overrides, folder=folder, config_name="evaluate"
            )
        )

    together = run("benchmarks=[prcc,ltcc,ccvid]", f"root={root}", folder="together")
    shown = capsys.readouterr().out
    assert "rank-1/mAP (%)" in shown
    rules = " ".join(shown.split())
    assert "cc_single_shot: queries of camera C, gallery of camera A; one gallery image" in rules
    assert "cc: gallery images of the same person, same camera or same clothes, do not" in rules
    for name in ("prcc", "ltcc", "ccvid"):
        alone = run(f"data={name}", f"data.root={root}", folder=name)
        assert alone.items() <= together.items()
    written = json.loads((root / "together" / "metrics.json").read_text())
    assert together.items() <= written.items()
    assert (root / "together" / "ltcc" / "pictures" / "ranked_cc.png").stat().st_size > 0
    single = together["test/prcc/cc_single_shot/mAP"]
    assert 0 < single <= 1
    # Two people and one image of each: a query is first or second.
    assert single == pytest.approx((1 + together["test/prcc/cc_single_shot/rank1"]) / 2)


def test_data_and_benchmarks_exclude_each_other(checkpoint, tiny_config):
    for overrides, message in (
        (["data=virtual", "benchmarks=[virtual]"], "not both"),
        (["benchmarks=[virtual,virtual]"], "once"),
        (["benchmarks=[vritual]"], "Did you mean 'virtual'"),
    ):
        cfg = tiny_config(f"checkpoint={checkpoint}", *overrides, config_name="evaluate")
        with pytest.raises(ConfigError, match=message):
            evaluate(cfg)


def test_all_benchmarks_are_those_that_are_found(checkpoint, tmp_path, tiny_config, capsys):
    cfg = tiny_config(
        f"checkpoint={checkpoint}",
        "benchmarks=all",
        f"root={tmp_path}",
        "device=cpu",
        "evaluation.workers=0",
        config_name="evaluate",
    )
    metrics = evaluate(cfg)
    found = {name.split("/")[1] for name in metrics if name.startswith("test/")}
    assert found == {"virtual"}
    absent = "ccvid, celeb_reid, celeb_reid_light, deepchange, last, ltcc, nkup, prcc, vc_clothes"
    assert f"not found and left out: {absent}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("method", ["baseline", "fire2"])
def test_image_methods_train_on_video_unchanged(root, tiny_config, method):
    cfg = tiny_config(
        f"method={method}",
        "data=ccvid",
        f"data.root={root}",
        "debug=fast",
        "data.identities_per_batch=2",
        "data.images_per_identity=2",
    )
    result = train(cfg)
    assert np.isfinite(result.metrics["test/ccvid/cc/mAP"])
    assert (result.output_dir / "pictures" / "ranked_cc.png").stat().st_size > 0


def test_a_benchmark_is_itself_wherever_it_lies_but_own_images_are_not(checkpoint):
    from ccreid.checkpoints.checkpoint import load_checkpoint
    from ccreid.config import compose

    def is_same(trained, asked):
        node = compose("evaluate", [*trained, "checkpoint=x"]).data
        config = load_checkpoint(checkpoint).config.copy()
        config.data = node
        other = compose("evaluate", [*asked, "checkpoint=x"]).data
        return replace(load_checkpoint(checkpoint), config=config).is_trained_on(other)

    assert is_same(["data=ltcc", "data.root=/a"], ["data=ltcc", "data.root=/b"])
    assert is_same(["data=ccvid"], ["data=ccvid", "data.benchmark.clips.length=4"])
    assert not is_same(["data=ltcc"], ["data=prcc"])
    assert not is_same(["data=folder", "data.root=/a"], ["data=folder", "data.root=/b"])
    assert not is_same(["data=virtual"], ["data=virtual", "data.archive=/large.zip"])
