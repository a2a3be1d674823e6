"""What a config may build, wherever it came from: this library's parts and what the user allows."""

import sys

import pytest
import torch
from omegaconf import OmegaConf

from ccreid.build import instantiate
from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.checkpoints.exported import Exported, write_exported
from ccreid.checkpoints.exporting import SETTINGS, load_exported
from ccreid.config import CONF_DIR, compose, compose_benchmarks
from ccreid.diagnose import diagnose
from ccreid.errors import CCReIDError, CheckpointError, ConfigError
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
    with pytest.raises(ConfigError, match=r"data\.benchmark\.archive\._target_"):
        load_checkpoint(checkpoint_with(tmp_path / "a.ckpt", benchmark=archive))
    assert not victim.exists()


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_sizes_are_numbers_and_no_settings(suffix, tmp_path):
    victim = tmp_path / "victim"
    file = {"_target_": "pathlib.Path", "_args_": [str(victim)]}
    attack = {"_target_": "pathlib.Path.touch", "_args_": [file]}
    path = checkpoint_with(tmp_path / "theirs.ckpt")
    content = torch.load(path, weights_only=True)
    content["ccreid"]["sizes"] = {"num_identities": attack}
    if suffix == ".ckpt":
        torch.save(content, path)
    else:
        path = path.with_suffix(suffix)
        config = {name: content["ccreid"]["config"][name] for name in SETTINGS}
        names = ("preprocessing", "left_out", "origin", "tensors")
        empty = {name: [] if name == "left_out" else {} for name in names}
        write_exported(path, Exported("x", config, content["ccreid"]["sizes"], **empty))
    for read in (load_checkpoint, load_exported):
        with pytest.raises(CheckpointError, match="its size num_identities is"):
            read(path).build_method()
    assert not victim.exists()


def test_arguments_are_looked_at_like_the_node_they_are_for():
    cfg = OmegaConf.create({"part": {"_target_": "torch.optim.Adam", "_partial_": True}})
    with pytest.raises(ConfigError, match=r"lr\._target_=os\.system"):
        instantiate(cfg.part, lr={"_target_": "os.system", "_args_": ["true"]})


WRITER = "lightning.pytorch.loggers.csv_logs.ExperimentWriter"
FETCHERS = [
    "ccreid.models.text_encoders.OpenClipEncoder",
    "ccreid.models.parsers.SegmentationParser",
]


@pytest.mark.parametrize("target", FETCHERS)
def test_a_checkpoint_names_nothing_that_fetches(target, tmp_path):
    require_allowed({"_target_": target})  # a command may
    path = checkpoint_with(tmp_path / "theirs.ckpt")
    content = torch.load(path, weights_only=True)
    content["ccreid"]["config"]["method"]["scheduler"] = {"_target_": target, "model": "x/y"}
    torch.save(content, path)
    with pytest.raises(ConfigError, match="nothing that a checkpoint may build"):
        load_checkpoint(path)


@pytest.mark.parametrize("part", ["method.scheduler", "data.benchmark", "data.test_transform"])
def test_a_checkpoint_names_nothing_that_writes(part, tmp_path):
    precious = tmp_path / "metrics.csv"
    precious.write_text("of another run")
    path = checkpoint_with(tmp_path / "theirs.ckpt")
    content = torch.load(path, weights_only=True)
    node, name = part.split(".")
    attack = {"_target_": WRITER, "log_dir": str(tmp_path)}
    content["ccreid"]["config"][node][name] = attack
    torch.save(content, path)
    with pytest.raises(ConfigError, match=rf"{part}\._target_=.* nothing that a checkpoint may"):
        evaluate(compose("evaluate", [f"checkpoint={path}", f"output_dir={tmp_path / 'out'}"]))
    assert precious.read_text() == "of another run"


def test_a_method_is_a_method_and_a_benchmark_a_benchmark(tmp_path):
    adam = {"_target_": "torch.optim.Adam"}
    with pytest.raises(CheckpointError, match="is no benchmark"):
        load_checkpoint(checkpoint_with(tmp_path / "a.ckpt", benchmark=adam))
    with pytest.raises(ConfigError, match="is no method"):
        load_checkpoint(checkpoint_with(tmp_path / "b.ckpt", method="torch.optim.Adam"))


ODD = {
    "ccreid": [None, [1]],
    "ccreid.config": [None, {1: 2}],
    "ccreid.config.seed": ["x", -1, None, torch.ones(1), "???"],
    "ccreid.config.method": [None, "x", {}],
    "ccreid.config.data": [None, 5, {}],
    "ccreid.config.data.benchmark": [None, 5],
    "ccreid.config.input": [None, 5, {}, {"height": "x", "width": 3}],
    "ccreid.config.evaluation": [None, {}],
    "ccreid.sizes": [None, [1], {"num_identities": "x"}, {"num_identities": -1}, {1: 1}],
    "state_dict": [None, [1], {"a": "b"}],
    "loops": [None, [1], {}],
    "loops.fit_loop.epoch_progress.current.processed": ["x", None],
}


@pytest.mark.parametrize(
    ("place", "value"), [(place, value) for place, values in ODD.items() for value in values]
)
def test_a_checkpoint_with_odd_content_is_one_error(place, value, tmp_path):
    path = checkpoint_with(tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    *owners, name = place.split(".")
    node = content
    for owner in owners:
        node = node[owner]
    node[name] = value
    torch.save(content, path)
    with pytest.raises(CCReIDError):
        load_checkpoint(path)
    del node[name]
    torch.save(content, path)
    with pytest.raises(CCReIDError):
        load_checkpoint(path)


def test_a_checkpoint_refers_to_nothing_outside_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "word")
    path = checkpoint_with(tmp_path / "a.ckpt", recipe_name="${oc.env:SECRET}")
    with pytest.raises(CheckpointError, match="is not what ccreid writes"):
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
