"""Settings that contradict each other are one ConfigError before any data is read."""

import pytest

from ccreid.config import compose, list_benchmarks
from ccreid.data.benchmarks.base import Benchmark
from ccreid.errors import ConfigError
from ccreid.settings.targets import class_of
from ccreid.train import train
from ccreid.training.combinations import require_possible

IMPOSSIBLE = {
    "method=cal data=celeb_reid": "CAL with these settings needs clothes labels",
    "method=cal data=folder": "data.benchmark.clothes_pattern=",
    "method=cal data=nkup": "data.benchmark.day_as_outfit=true",
    "method=cre_bsga data=celeb_reid": "method.triplet=batch_hard",
    "method=cre_bsga data=nkup data.benchmark.day_as_outfit=false": "needs clothes labels",
    "method=cre_bsga data=csv": "needs masks of the train images, and csv has none",
    "method=cre_bsga data=folder data.benchmark.clothes_pattern='(.)'": "ccreid.parse data=folder",
    "method=differ data=celeb_reid data.captions.layout=ccreid": "method.camera_factor=0",
    "method=differ data=last data.captions.layout=ccreid": "needs the cameras of the train images",
    "method=differ data=celeb_reid_light method.camera_factor=3": "method.camera_factor=0",
    "method=differ data=nkup": "needs captions of the train images, and nkup has none",
    "method=differ data=csv": "ccreid.caption data=csv",
    "method=baseline data=celeb_reid data.sampler=cross_clothes": "Set data.sampler=pk",
    "method=baseline data=nkup data.sampler=cross_clothes": "day_as_outfit=true",
    "method=fire2 data=prcc method.mining.start_epoch=31": "at most trainer.max_epochs=30",
    "method=cal data=prcc trainer.max_epochs=24": "method.start_epoch=25 should be at most",
    "method=fire2 data=prcc trainer.devices=3": "3 devices cannot share the 4 identities",
    "method=fire2 data=prcc trainer.devices=[0,1,2]": "3 devices cannot share",
    "method=fire2 data=prcc trainer.strategy=ddp_spawn": "trainer.strategy=ddp_spawn should be ddp",
    "method=fire2 data=prcc trainer.strategy=ddp_fork": "should be ddp or auto",
    "method=fire2 data=prcc trainer.num_nodes=8": "8 devices cannot share",
    "method=fire2 data=prcc +method.optimizer.weight_decy=1": (
        "There is no setting 'method.optimizer.weight_decy': torch.optim.Adam takes"
    ),
    "method=fire2 data=prcc +method.optimizer.epsilon=1": "Did you mean 'method.optimizer.eps'?",
    "method=fire2 data=prcc +method.optimizer.nesterov=true": "There is no setting",
    "method=fire2 data=prcc method.epsilon=abc": "method.epsilon=abc should be a number",
    "method=fire2 data=prcc method.mining.k1=2.5": "method.mining.k1=2.5 should be a whole number",
    "method=fire2 data=prcc backbone.channels_last=1": "should be true or false",
    "method=fire2 data=prcc backbone.name=5": "backbone.name=5 should be text",
    "method=fire2 data=prcc method.scheduler.milestones=20": "should be a list (a whole number",
    "method=fire2 data=prcc seed=1.5": "seed=1.5 should be a whole number",
    "method=fire2 data=prcc evaluation.batch_size=many": "evaluation.batch_size=many should be",
    "method=fire2 data=prcc data.parsing=5": "data.parsing=5 should be a group of settings",
    "method=fire2 data=prcc ~callbacks.evaluation": "callbacks.evaluation=None should be there",
    "method=fire2 data=prcc callbacks.progress=null": "~callbacks.progress leaves it out",
}


@pytest.mark.parametrize("settings", IMPOSSIBLE)
def test_an_impossible_combination_is_refused_before_data_is_read(settings, monkeypatch, tmp_path):
    def opened(*_, **__):
        raise AssertionError("data was read")

    monkeypatch.setattr("ccreid.build.ReIDDataModule.__init__", opened)
    monkeypatch.setattr("ccreid.data.benchmarks.root.find_root", opened)
    cfg = compose("train", [*settings.split(), f"output_dir={tmp_path / 'run'}"])
    with pytest.raises(ConfigError) as error:
        train(cfg)
    assert IMPOSSIBLE[settings] in str(error.value)
    assert not (tmp_path / "run").exists()


POSSIBLE = (
    "method=cal data=folder data.benchmark.clothes_pattern='(.)'",
    "method=cal data=csv",  # its columns are known when it is read
    "method=cal data=last",
    "method=cal data=celeb_reid_light",
    "method=cal data=nkup data.benchmark.day_as_outfit=true",
    "method=cre_bsga data=prcc",
    "method=cre_bsga data=celeb_reid method.triplet=batch_hard data.sampler=pk",
    "method=cre_bsga data=csv data.parsing.root=masks",
    "method=cre_bsga data=csv method.cre.enabled=false method.bsga.enabled=false",
    "method=differ data=celeb_reid_light",
    "method=differ data=celeb_reid data.captions.layout=ccreid method.camera_factor=0",
    "method=fire2 data=prcc method.mining.start_epoch=30",  # never mined: identities alone
    "method=fire2 data=prcc trainer.devices=4",
    "method=fire2 data=prcc trainer=ddp",
    "method=baseline data=virtual data.sampler=cross_clothes",
)


@pytest.mark.parametrize("settings", POSSIBLE)
def test_a_possible_combination_is_let_through(settings):
    require_possible(compose("train", [*settings.split(), "output_dir=out"]))


@pytest.mark.parametrize("data", list_benchmarks())
def test_what_a_benchmark_lacks_is_what_its_class_says(data):
    cfg = compose("evaluate", [f"data={data}", "checkpoint=none"])
    kind = class_of(cfg.data.benchmark)
    assert issubclass(kind, Benchmark)
    assert kind.unlabelled <= kind.lacks(cfg.data.benchmark).keys()
    assert kind.lacks(cfg.data.benchmark).keys() <= {"clothes", "cameras", "parsing", "captions"}


def test_what_the_shipped_benchmark_has_is_not_said_to_lack():
    benchmark = compose("train", ["method=baseline", "data=virtual"]).data.benchmark
    assert class_of(benchmark).lacks(benchmark) == {}
