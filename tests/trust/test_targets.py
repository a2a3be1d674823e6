"""What a config may build, wherever it came from: this library's parts and what the user allows."""

import sys

import pytest
import torch
from omegaconf import OmegaConf

from ccreid.build import instantiate
from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.config import CONF_DIR, compose, compose_benchmarks
from ccreid.diagnose import diagnose
from ccreid.errors import CheckpointError, ConfigError
from ccreid.evaluate import evaluate
from ccreid.export import export
from ccreid.settings.targets import class_of, require_allowed
from ccreid.visualize import visualize

ATTACKS = [
    "os.system",
    "os.remove",
    "builtins.eval",
    "subprocess.run",
    "shutil.rmtree",
    "importlib.import_module",
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "omegaconf.OmegaConf.load",
    "pickle.load",
    "torch.load",
    "torch.hub.load",
    "torch.optim.optimizer.torch.load",
    "torch.serialization.load",
    "numpy.load",
    "timm.create_model",
    "lightning.pytorch.cli.LightningCLI",
    "lightning.pytorch.callbacks.model_checkpoint.shutil.rmtree",
    # Through the library's own modules to what they import.
    "ccreid.runs.jobs.tempfile.os.system",
    "ccreid.models.weights.torch.load",
    "ccreid.models.weights.importlib.import_module",
    "ccreid.methods.base.os.system",
    "ccreid.data.benchmarks.virtual.Path",
    "ccreid.data.benchmarks.virtual.json.loads",
    "ccreid.data.transforms.torch.hub.load",
    "ccreid.annotation.endpoint.build_opener",
    "ccreid.callbacks.loggers.finish_loggers.__globals__",
    # Functions of the library that execute, write or build in turn, and methods of its classes.
    "ccreid.build.instantiate",
    "ccreid.checkpoints.checkpoint.load_checkpoint",
    "ccreid.config.compose",
    "ccreid.train.train",
    "ccreid.models.weights.read_tensors",
    "ccreid.methods.base.Method.load_from_checkpoint",
    "ccreid.data.benchmarks.virtual.Virtual.__subclasses__",
    "ccreid.data.benchmarks.virtual.Virtual.__class__",
    # Names that only begin like an allowed one, and what is no name at all.
    "ccreid_evil.Thing",
    "ccreid.methods_evil.Thing",
    "torch.optimal.Adam",
    "ccreid",
    "",
    "ccreid.methods..fire2",
    3,
    None,
]


@pytest.mark.parametrize("target", ATTACKS)
def test_what_is_not_allowed_is_refused_and_not_called(target, tmp_path):
    victim = tmp_path / "victim"
    victim.touch()
    cfg = OmegaConf.create({"part": {"_target_": target, "_args_": [f"rm {victim}"]}})
    with pytest.raises(ConfigError) as error:
        instantiate(cfg.part)
    assert "part._target_" in str(error.value)
    assert victim.exists()


def test_the_refusal_names_key_target_packages_and_the_way_out():
    cfg = OmegaConf.create({"method": {"backbone": [{"_target_": "plain.nets.Net"}]}})
    with pytest.raises(ConfigError) as error:
        instantiate(cfg.method)
    for part in ("method.backbone[0]._target_=plain.nets.Net", "ccreid.methods", "torch.optim"):
        assert part in str(error.value)
    assert "allow_targets=[plain.nets]" in str(error.value)


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": "os.system", "_partial_": True},
        {"_target_": "torch.optim.Adam", "_partial_": True, "params": {"_target_": "os.system"}},
        {"deep": [[{"deeper": {"_target_": "os.system", "_args_": []}}]]},
        [{"_target_": "os.system"}],
    ],
)
def test_partial_nested_and_listed_targets_are_seen(node):
    with pytest.raises(ConfigError, match=r"_target_=os\.system"):
        instantiate(OmegaConf.create({"node": node}).node)
    with pytest.raises(ConfigError, match=r"_target_=os\.system"):
        require_allowed(node)


def test_a_target_behind_a_reference_is_seen():
    cfg = OmegaConf.create(
        {"name": "os.system", "other": {"_target_": "${name}"}, "part": {"x": "${other}"}}
    )
    with pytest.raises(ConfigError, match=r"part\.x\._target_=os\.system"):
        instantiate(cfg.part)


def test_what_is_refused_by_name_is_never_imported(tmp_path, monkeypatch):
    (tmp_path / "unseen_module.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"unseen_module\.Thing"):
        class_of(OmegaConf.create({"_target_": "unseen_module.Thing"}))
    assert "unseen_module" not in sys.modules


def test_every_target_in_conf_is_allowed():
    seen = 0
    for path in sorted(CONF_DIR.rglob("*.yaml")):
        settings = OmegaConf.to_container(OmegaConf.load(path))
        settings.pop("hydra", None)  # Hydra builds these itself
        require_allowed(settings)
        seen += str(settings).count("'_target_'")
    assert seen > 40


@pytest.mark.parametrize(
    ("allowed", "target", "is_allowed"),
    [
        (["own_parts"], "own_parts.Own", True),
        (["own_parts"], "own_parts.make", True),
        ("own_parts", "own_parts.Own", True),
        (["own_parts.Own"], "own_parts.Own", True),
        (["own_parts.Own"], "own_parts.make", False),
        (["own_parts"], "own_parts.os.system", False),  # allowed is what the module defines
        (["own"], "own_parts.Own", False),
        (["os.getcwd"], "os.getcwd", True),  # in so many words
        ([], "own_parts.Own", False),
    ],
)
def test_the_user_allows_modules_and_names(allowed, target, is_allowed, tmp_path, monkeypatch):
    code = "import os\n\nclass Own:\n    pass\n\ndef make():\n    return Own()\n"
    (tmp_path / "own_parts.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    cfg = OmegaConf.create({"allow_targets": allowed, "part": {"_target_": target}})
    if is_allowed:
        assert instantiate(cfg.part) is not None
    else:
        with pytest.raises(ConfigError, match="is nothing that a config may build"):
            instantiate(cfg.part)


@pytest.mark.parametrize("given", [["own parts"], [3], ["own..parts"], [""], ["*"]])
def test_allow_targets_is_a_list_of_modules(given):
    cfg = OmegaConf.create({"allow_targets": given, "part": {"_target_": "torch.optim.Adam"}})
    with pytest.raises(ConfigError, match=r"allow_targets=.* should be a list of modules"):
        instantiate(cfg.part)


@pytest.mark.parametrize("verb", sorted(path.stem for path in CONF_DIR.glob("*.yaml")))
def test_every_verb_has_the_setting_and_allows_nothing_by_itself(verb):
    settings = OmegaConf.load(CONF_DIR / f"{verb}.yaml")
    if verb == "convert":  # its settings are those of train
        settings = compose("convert", ["method=fire2", "data=ltcc", "weights=x"])
    assert settings.allow_targets == []


def checkpoint_with(path, method=None, benchmark=None, **config):
    """Write what looks like a checkpoint of ours, whose config someone else wrote."""
    cfg = compose("train", ["method=baseline", "data=virtual", "output_dir=out"])
    settings = OmegaConf.to_container(cfg, resolve=True)
    settings["method"]["_target_"] = method or settings["method"]["_target_"]
    settings["data"]["benchmark"] = benchmark or settings["data"]["benchmark"]
    settings |= config
    progress = {"epoch_progress": {"current": {"processed": 1}}}
    content = {"ccreid": {"config": settings, "sizes": {}}, "state_dict": {}}
    torch.save({**content, "loops": {"fit_loop": progress}}, path)
    return path


def test_a_checkpoint_cannot_allow_itself_anything(tmp_path, monkeypatch):
    (tmp_path / "their_method.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    path = checkpoint_with(
        tmp_path / "theirs.ckpt", method="their_method.Net", allow_targets=["their_method"]
    )
    with pytest.raises(ConfigError, match=r"method\._target_=their_method\.Net"):
        load_checkpoint(path)
    with pytest.raises(SystemExit, match="it ran"):  # whoever allows it runs it
        load_checkpoint(path, ["their_method"])


def test_what_a_checkpoint_names_is_looked_at_wherever_it_is_used(tmp_path):
    victim = tmp_path / "victim"
    file = {"_target_": "pathlib.Path", "_args_": [str(victim)]}
    attack = {"_target_": "pathlib.Path.touch", "_args_": [file]}
    archive = {"_target_": "ccreid.data.benchmarks.virtual.Virtual", "archive": attack}
    checkpoint = load_checkpoint(checkpoint_with(tmp_path / "a.ckpt", benchmark=archive))
    asked = compose("evaluate", ["checkpoint=x"])
    with pytest.raises(ConfigError, match=r"data\.benchmark\.archive\._target_"):
        instantiate(checkpoint.data_node(asked).benchmark)
    assert not victim.exists()


def test_a_checkpoint_refers_to_nothing_outside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "word")
    path = checkpoint_with(tmp_path / "a.ckpt", recipe_name="${oc.env:SECRET}")
    with pytest.raises(CheckpointError, match="its config is not what ccreid writes"):
        load_checkpoint(path)


@pytest.mark.parametrize("verb", [evaluate, visualize, diagnose, export])
def test_the_command_lines_word_reaches_the_checkpoint(verb, tmp_path, monkeypatch):
    (tmp_path / "their_method.py").write_text("raise SystemExit('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    path = checkpoint_with(tmp_path / "theirs.ckpt", method="their_method.Net")
    with pytest.raises(ConfigError, match=r"allow_targets=\[their_method\]"):
        verb(compose(verb.__name__, [f"checkpoint={path}"]))
    with pytest.raises(SystemExit, match="it ran"):
        verb(compose(verb.__name__, [f"checkpoint={path}", "allow_targets=[their_method]"]))


def test_the_command_lines_word_reaches_several_benchmarks():
    overrides = ["checkpoint=x", "benchmarks=[ltcc,virtual]", "allow_targets=[mine]"]
    nodes = compose_benchmarks(compose("evaluate", overrides))
    for node in nodes.values():
        node.benchmark._target_ = "mine.Own"
        with pytest.raises(ConfigError, match="cannot be had"):  # allowed, but there is none
            instantiate(node.benchmark)
