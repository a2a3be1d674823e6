import pytest
from omegaconf import OmegaConf

from ccreid.config import CONF_DIR, compose, list_benchmarks, list_methods, list_options
from ccreid.errors import ConfigError


@pytest.mark.parametrize("method", list_methods())
@pytest.mark.parametrize("data", list_benchmarks())
def test_every_method_composes_with_every_benchmark(method, data):
    cfg = compose("train", [f"method={method}", f"data={data}", "output_dir=out"])
    resolved = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert resolved["method"]["backbone"] == resolved["backbone"]


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
