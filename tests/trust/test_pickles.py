"""A pickle that would run code is refused wherever a file is read, and nothing runs."""

import ast
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import ccreid
from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.config import compose
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.cache_files import Resizing, open_or_build
from ccreid.data.captions.features import stored_features
from ccreid.data.captions.released import released_features
from ccreid.data.parsing.files import read_source
from ccreid.errors import CCReIDError
from ccreid.evaluate import evaluate
from ccreid.export import export
from ccreid.models.weights import build_network, read_tensors
from ccreid.train import train


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def bare_pickle(path, attack):
    path.write_bytes(pickle.dumps(attack))


def torch_file(path, attack):
    torch.save({"state_dict": {"weight": torch.ones(1)}, "ccreid": attack}, path)


def old_torch_file(path, attack):
    torch.save({"weight": attack}, path, _use_new_zipfile_serialization=False)


def array_of_objects(path, attack):
    with path.open("wb") as file:
        np.save(file, np.array([attack], dtype=object), allow_pickle=True)


def arrays_of_objects(path, attack):
    with path.open("wb") as file:
        names = np.array([attack], dtype=object)
        np.savez(file, data=np.zeros((1, 2), np.float32), metadata=names)


KINDS = [bare_pickle, torch_file, old_torch_file, array_of_objects, arrays_of_objects]


@pytest.mark.parametrize("write", KINDS)
def test_these_files_would_run_code(write, tmp_path):
    """Otherwise the tests below would prove nothing."""
    victim, path = tmp_path / "victim", tmp_path / "file"
    write(path, Attack(victim))
    if write is bare_pickle:
        pickle.loads(path.read_bytes())
    elif write in (torch_file, old_torch_file):
        torch.load(path, weights_only=False)
    else:
        loaded = np.load(path, allow_pickle=True)
        assert write is array_of_objects or loaded["metadata"] is not None
    assert victim.exists()


def as_checkpoint(path, tiny_config):
    load_checkpoint(path)


def as_evaluated(path, tiny_config):
    evaluate(tiny_config(f"checkpoint={path}", config_name="evaluate"))


def as_exported(path, tiny_config):
    export(compose("export", [f"checkpoint={path}", f"output={path.parent / 'out'}"]))


def as_resumed(path, tiny_config):
    train(tiny_config("method=baseline", "debug=fast", f"resume={path}"))


def as_backbone(path, tiny_config):
    build_network("test_resnet", str(path))


def as_official_weights(path, tiny_config):
    read_tensors(path)


def as_mask(path, tiny_config):
    read_source(str(path))


def as_released_captions(path, tiny_config):
    folder = path.parent / "captions" / "encoder"
    folder.mkdir(parents=True)
    path.rename(folder / path.name)
    released_features(folder.parent, "encoder", ())


def as_own_captions(path, tiny_config):
    stored_features(path.parent, path.stem, {}, (), "virtual")


def as_cache(path, tiny_config):
    open_or_build([], Resizing(2, 2), path)


READERS = {
    as_checkpoint: "a.ckpt",
    as_evaluated: "b.ckpt",
    as_exported: "c.ckpt",
    as_resumed: "d.ckpt",
    as_backbone: "e.pth",
    as_official_weights: "f.pth",
    as_mask: "g.npy",
    as_released_captions: "train.npz",
    as_own_captions: "i.safetensors",
    as_cache: "j.npy",
}


VERBS = (as_evaluated, as_exported, as_resumed)  # which read through load_checkpoint
CASES = [(r, w) for r in READERS for w in (KINDS if r not in VERBS else [torch_file])]


@pytest.mark.parametrize(("read", "write"), CASES)
def test_it_is_refused_and_nothing_runs(read, write, tmp_path, tiny_config):
    victim, path = tmp_path / "victim", tmp_path / READERS[read]
    write(path, Attack(victim))
    with pytest.raises(CCReIDError) as error:
        read(path, tiny_config)
    assert not victim.exists()
    assert path.name in str(error.value)
    assert "weights_only=False" not in str(error.value)  # torch's own advice is the opposite


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "backbone.safetensors"])
@pytest.mark.parametrize("write", KINDS)
def test_another_suffix_changes_nothing(name, write, tmp_path):
    victim, path = tmp_path / "victim", tmp_path / name
    write(path, Attack(victim))
    with pytest.raises(CCReIDError):
        load_checkpoint(path) if name.startswith("check") else build_network("test_vit", str(path))
    assert not victim.exists()


def test_a_mask_folder_reads_no_pickle_through_its_store(tmp_path):
    from ccreid.data.parsing import ParsingStore

    victim, benchmark = tmp_path / "victim", Virtual()
    sample = benchmark.train[0]
    path = tmp_path / "train" / Path(sample.path).with_suffix(".npy").name
    path.parent.mkdir()
    array_of_objects(path, Attack(victim))
    with pytest.raises(CCReIDError):
        ParsingStore(benchmark, root=tmp_path, schema="lip20").get(sample)
    assert not victim.exists()


def calls_in_the_library():
    for path in sorted(Path(ccreid.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                settings = {k.arg: ast.unparse(k.value) for k in node.keywords}
                yield path.name, ast.unparse(node.func), settings


def test_no_call_in_the_library_unpickles():
    found = {"torch.load": 0, "np.load": 0, "trainer.fit": 0}
    for file, function, settings in calls_in_the_library():
        assert function not in ("eval", "exec", "pickle.load", "pickle.loads", "joblib.load"), file
        assert settings.get("allow_pickle", "False") == "False", file
        assert settings.get("trust_remote_code", "False") == "False", file
        if function in ("torch.load", "trainer.fit"):
            assert settings["weights_only"] == "True", file
        if function in found:
            found[function] += 1
    assert all(found.values()), found  # else the names above are no longer those that are used
