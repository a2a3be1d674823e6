import pytest
from omegaconf import OmegaConf

from ccreid.config import CONF_DIR, compose, list_benchmarks, list_methods, list_options
from ccreid.errors import ConfigError
from ccreid.settings.kinds import require_arguments, require_sound

GROUPS = ("trainer", "logger", "callbacks", "debug")


@pytest.mark.parametrize("method", list_methods())
@pytest.mark.parametrize("data", list_benchmarks())
def test_every_method_composes_with_every_benchmark(method, data):
    cfg = compose("train", [f"method={method}", f"data={data}", "output_dir=out"])
    resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert resolved["method"]["backbone"] == resolved["backbone"]
    require_sound(cfg)
    require_arguments(cfg)


OPTIONS = [
    *(f"{group}={name}" for group in GROUPS for name in list_options(group)),
    *(f"+launcher={name}" for name in list_options("launcher")),
]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize(
    "method",
    [pytest.param(m, marks=() if m == "fire2" else pytest.mark.slow) for m in list_methods()],
)
def test_every_option_of_a_training_composes_and_names_what_there_is(option, method):
    if "launcher" in option:
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    settings = [f"method={method}", "data=virtual", "output_dir=out", option]
    cfg = compose("train", settings, with_hydra=True)
    require_sound(cfg)
    for part in ("method", "data", "trainer", "logger", "callbacks"):
        require_arguments(cfg[part])


@pytest.mark.parametrize("sweep", list_options("sweep"))
def test_every_sweep_varies_settings_that_there_are(sweep):
    if "optuna" in sweep:
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    method = next(name for name in list_methods() if sweep.startswith(name))
    given = [f"method={method}", "data=virtual", "output_dir=out"]
    cfg = compose("train", [*given, f"+sweep={sweep}"], with_hydra=True)
    for key in cfg.hydra.sweeper.params:
        assert OmegaConf.select(cfg, key) is not None, key


VERBS = [
    *(
        ("parse", "data=prcc", "output_dir=out", f"parser={name}")
        for name in list_options("parser")
    ),
    *(("caption", "data=prcc", f"captioner={name}") for name in list_options("captioner")),
    *(("encode_text", "data=prcc", f"encoder={name}") for name in list_options("encoder")),
    ("evaluate", "checkpoint=none", "output_dir=out"),
    ("visualize", "checkpoint=none", "output_dir=out"),
    ("diagnose", "checkpoint=none", "output_dir=out"),
    ("verify", "data=prcc", "manifest=out"),
]


@pytest.mark.parametrize("command", VERBS, ids=" ".join)
def test_the_config_of_every_other_verb_is_sound(command):
    verb, *overrides = command
    cfg = compose(verb, overrides)
    require_sound(cfg)
    for part in ("parser", "captioner", "encoder"):
        require_arguments(cfg.get(part))
    if cfg.get("data") is not None:
        require_arguments(cfg.data.benchmark)


@pytest.mark.parametrize("recipe", list_options("recipe"))
def test_recipes_are_named_after_a_method_and_a_benchmark(recipe):
    pairs = [(m, d) for m in list_methods() for d in list_benchmarks() if f"{m}_{d}" == recipe]
    ((method, data),) = pairs
    assert compose("train", [f"method={method}", f"data={data}"]).recipe_name == recipe


def test_the_recipe_is_picked_by_itself_and_the_command_line_wins():
    cfg = compose("train", ["method=fire2", "data=virtual"])
    assert cfg.method.mining.k1 == 6
    assert cfg.trainer.max_epochs == 15
    cfg = compose("train", ["method=fire2", "data=virtual", "method.mining.k1=9"])
    assert cfg.method.mining.k1 == 9


def test_the_published_prcc_setting():
    cfg = compose("train", ["method=fire2", "data=prcc", "output_dir=out"])
    assert (cfg.input.height, cfg.input.width) == (384, 192)
    assert (cfg.trainer.max_epochs, cfg.method.mining.start_epoch) == (30, 25)
    assert (cfg.data.identities_per_batch, cfg.data.images_per_identity) == (4, 8)
    assert (cfg.backbone.name, cfg.backbone.last_stride) == ("resnet50.tv_in1k", 1)
    assert cfg.precision == "fp32"


def test_debug_reaches_every_phase():
    cfg = compose("train", ["method=fire2", "data=virtual", "debug=fast"])
    assert cfg.method.mining.start_epoch < cfg.trainer.max_epochs


def test_config_files_are_short():
    for path in CONF_DIR.rglob("*.yaml"):
        assert len(path.read_text().splitlines()) <= 50, path


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["method=fir2", "data=virtual"], "Did you mean 'fire2'?"),
        (["method=fire2", "data=prc"], "Did you mean 'prcc'?"),
        (["method=fire2", "data=virtual", "method.epsilonn=1"], "Did you mean 'method.epsilon'?"),
        (["method=fire2", "data=virtual", "mehod.epsilon=1"], "Did you mean 'method.epsilon'?"),
        (["method=fire2", "data=virtual", "lr=1"], "Did you mean 'method.optimizer.lr'?"),
        (["method=fire2", "data=virtual", "method.mining.esp=1"], "'method.mining.eps'"),
        (["metod=fire2", "data=virtual"], "'metod=fire2' names no setting"),
        (["data=virtual"], f"method=<one of: {', '.join(list_methods())}>"),
        (["method=fire2", "data=virtual", "debug=fats"], "Did you mean 'fast'?"),
        (["method=fire2", "data=virtual", "nonsense"], "nonsense"),
    ],
)
def test_a_mistake_names_the_nearest_right_word(overrides, said):
    with pytest.raises(ConfigError) as error:
        compose("train", overrides)
    assert said in str(error.value)


def test_a_setting_that_there_is_is_no_mistake_for_the_one_that_is_missing():
    with pytest.raises(ConfigError) as error:
        compose("encode_text", ["data=virtual", "folder=texts"])
    assert str(error.value) == "Say which encoder: encoder=<one of: minilm, open_clip, tfidf>"
