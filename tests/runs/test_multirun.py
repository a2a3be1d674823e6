from functools import partial

import pytest
from omegaconf import DictConfig

from ccreid.config import compose, list_options
from ccreid.errors import ConfigError
from ccreid.runs.jobs import METRICS, SETTINGS
from ccreid.runs.multirun import plan_command, require_one_process

FIRE2 = ("method=fire2", "data=virtual")
composing = partial(compose, "train", with_hydra=True)


def plan(*overrides, multirun=True):
    return plan_command(overrides, multirun, composing)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_of_a_single_run_the_config_is_returned():
    cfg = plan(*FIRE2, "seed=3", multirun=False)
    assert isinstance(cfg, DictConfig)
    assert cfg.seed == 3


def test_jobs_have_readable_folders():
    sweep = plan(*FIRE2, "method.epsilon=0.05,0.1", "seed=0,1")
    assert list(sweep.jobs) == [
        "epsilon-0.05_seed-0",
        "epsilon-0.05_seed-1",
        "epsilon-0.1_seed-0",
        "epsilon-0.1_seed-1",
    ]
    assert sweep.jobs["epsilon-0.1_seed-1"] == {"method.epsilon": "0.1", "seed": "1"}
    assert sweep.folder.name.startswith("fire2_virtual_epsilon_")


def test_the_same_sweep_has_the_same_folder_also_with_further_values_and_seeds():
    folder = plan(*FIRE2, "method.epsilon=0.1,0.2").folder
    for same in (
        ("method.epsilon=0.10,0.2", *FIRE2),
        (*FIRE2, "method.epsilon=0.4,0.1,0.2", "seed=1,2"),
        (*FIRE2, "method.epsilon=0.1,0.2", "seed=3", "hydra.sweeper.max_batch_size=1"),
        (*FIRE2, "method.epsilon=range(0.1,0.5,0.1)"),
    ):
        assert plan(*same).folder == folder
    for other in (
        ("method=fire2", "data=prcc", "method.epsilon=0.1,0.2"),
        (*FIRE2, "method.epsilon=0.1,0.2", "method.tau=0.5"),
        (*FIRE2, "method.epsilon=0.1,0.2", "method.tau=0.5,1"),
        (*FIRE2, "method.mining.eps=0.1,0.2"),
    ):
        assert plan(*other).folder != folder


def test_a_seed_is_in_the_name_whether_typed_or_not():
    assert list(plan(*FIRE2, "method.epsilon=1").jobs) == ["seed-0"]
    assert next(iter(plan(*FIRE2, "method.epsilon=1,2", "seed=7").jobs)) == "epsilon-1_seed-7"


@pytest.mark.parametrize("name", [n for n in list_options("sweep") if n != "fire2_optuna"])
def test_every_sweep_file_says_itself_that_it_is_a_sweep(name):
    sweep = plan(*FIRE2, f"+sweep={name}", "seed=0,1", multirun=False)
    assert len(sweep.jobs) >= 6
    assert len(sweep.swept) == 2
    (key,) = set(sweep.swept) - {"seed"}
    values = [float(values[key]) for values in sweep.jobs.values()]
    released = composing(list(FIRE2))
    for part in key.split("."):
        released = released[part]
    assert released in values


def test_the_command_line_wins_over_a_sweep_file():
    sweep = plan(*FIRE2, "+sweep=fire2_epsilon", "method.epsilon=0.3,0.5", multirun=False)
    assert list(sweep.jobs) == ["epsilon-0.3_seed-0", "epsilon-0.5_seed-0"]


def test_the_optuna_file_lets_the_sampler_choose():
    pytest.importorskip("optuna")
    sweep = plan(*FIRE2, "+sweep=fire2_optuna", multirun=False)
    assert sweep.jobs == {}
    assert sweep.swept == ("method.epsilon", "method.mining.eps", "method.tau")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([*FIRE2, "method.epsilonn=1,2"], "Did you mean 'method.epsilon'?"),
        ([*FIRE2, "+sweep=fire2_epsilonn"], "Did you mean 'fire2_epsilon'?"),
        ([*FIRE2, "+sweep=fire3"], "conf/sweep/ offers: fire2_eps, fire2_epsilon"),
        (["method=fire2,basline", "data=virtual"], "Did you mean 'baseline'?"),
        (["data=virtual", "+sweep=fire2_epsilon"], "Say which method"),
        ([*FIRE2, "method.epsilon=1,,2"], "method.epsilon=1,,2"),
        ([*FIRE2, "method.epsilon=${nothing},2"], "nothing"),
        ([*FIRE2, "hydra.sweep.subdir=same", "seed=0,1"], "share the folder same"),
    ],
)
def test_a_mistake_is_refused_before_any_job(overrides, said, tmp_path):
    with pytest.raises(ConfigError) as error:
        plan(*overrides)
    assert said in str(error.value)
    assert not list(tmp_path.iterdir())


def test_values_without_m_are_explained():
    with pytest.raises(ConfigError, match="--multirun"):
        plan(*FIRE2, "method.epsilon=1,2", multirun=False)


@pytest.mark.parametrize(
    "several",
    ["trainer.devices=2", "trainer.devices=[0,1]", "trainer.devices=auto", "++trainer.num_nodes=2"],
)
def test_jobs_of_several_processes_are_refused_with_the_way_out(several):
    with pytest.raises(ConfigError, match=r"(?s)trainer\.devices=1.*loop.*torchrun") as error:
        plan(*FIRE2, "seed=0,1", several)
    assert "hang" in str(error.value)


def test_one_process_may_be_said_in_several_ways(monkeypatch):
    for one in ("trainer.devices=1", "trainer.devices=[3]"):
        require_one_process(composing([*FIRE2, one]))
    require_one_process(composing([*FIRE2, "trainer=cpu", "trainer.devices=auto"]))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError):
        require_one_process(composing(list(FIRE2)))


def test_two_sweeps_do_not_mix_in_one_folder():
    plan(*FIRE2, "seed=0,1", "hydra.sweep.dir=mine").write_plan()
    plan(*FIRE2, "seed=1,2", "hydra.sweep.dir=mine").write_plan()
    with pytest.raises(ConfigError, match="holds another sweep"):
        plan(*FIRE2, "method.tau=1,2", "hydra.sweep.dir=mine").write_plan()


def test_further_seeds_and_values_extend_a_sweep_that_has_begun():
    plan(*FIRE2, "method.epsilon=0.1,0.2", "seed=0").write_plan()
    sweep = plan(*FIRE2, "method.epsilon=0.1,0.2,0.4", "seed=0,1")
    sweep.write_plan()
    assert len(sweep.jobs) == 6


def test_results_of_other_settings_are_refused_before_any_job():
    sweep = plan(*FIRE2, "method.epsilon=1,2")
    folder = sweep.folder / "epsilon-2_seed-0"
    folder.mkdir(parents=True)
    (folder / SETTINGS).write_text("{}")
    plan(*FIRE2, "method.epsilon=1,2")
    (folder / METRICS).write_text("{}")
    with pytest.raises(ConfigError, match="was made with other settings"):
        plan(*FIRE2, "method.epsilon=1,2")
