"""Every recipe trains and evaluates for a moment, on the miniature of its benchmark."""

import json
from importlib import import_module

import numpy as np
import pytest
from hydra.utils import get_class

from ccreid.build import instantiate
from ccreid.config import compose, list_benchmarks, list_methods, list_options
from ccreid.data.captions.files import PERSPECTIVES, image_key
from ccreid.data.parsing.folder import MaskFolder
from ccreid.encode_text import encode_text
from ccreid.train import train
from tests.conftest import TINY

RECIPES = list_options("recipe")
SMALL = (
    *TINY[1:],
    "debug=fast",
    "data.identities_per_batch=2",
    "data.images_per_identity=2",
    "input.height=64",
    "input.width=64",
)
WRITERS = {"celeb_reid_light": ("celeb_reid", "Celeb-reID-light")}


def pair(recipe):
    ((method, data),) = [
        (m, d) for m in list_methods() for d in list_benchmarks() if f"{m}_{d}" == recipe
    ]
    return method, data


def write_miniature(data, root):
    module, *name = WRITERS.get(data, (data,))
    getattr(import_module(f"tests.miniature.{module}"), f"write_{module}")(root, *name)


def write_masks(benchmark, folder):
    folder.mkdir()
    masks = MaskFolder(
        folder, benchmark, benchmark.train, model="none", schema="atr18", num_labels=18
    )
    labels = np.zeros((32, 16), dtype=np.uint8)
    labels[2:30, 4:12] = np.repeat([2, 4, 6, 9], 7)[:, None]  # hair, shirt, trousers, shoes
    for sample in benchmark.train:
        masks.add(sample, labels)
    masks.record()


def write_captions(benchmark, data, root, folder):
    folder.mkdir()
    lines = [
        {
            "image": image_key(sample),
            "captions": {name: f"{name} of {number % 5} and {number % 3}" for name in PERSPECTIVES},
        }
        for number, sample in enumerate(benchmark.train)
    ]
    (folder / "captions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    places = (f"data.root={root}", f"folder={folder}")
    encode_text(compose("encode_text", [f"data={data}", "encoder=tfidf", *places]))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains(recipe, tmp_path, monkeypatch):
    method, data = pair(recipe)
    settings = [f"method={method}", f"data={data}", *SMALL, f"output_dir={tmp_path / 'run'}"]
    if data != "virtual":
        write_miniature(data, tmp_path)
        settings.append(f"data.root={tmp_path}")
    cfg = compose("train", settings)
    assert cfg.recipe_name == recipe
    kind = get_class(cfg.data.benchmark._target_)
    if data != "virtual":
        monkeypatch.setattr(kind, "counts", {})
    needs = get_class(cfg.method._target_).needs(cfg.method)
    if "parsing" in needs and data != "virtual":
        write_masks(instantiate(cfg.data.benchmark), tmp_path / "masks")
        cfg.data.parsing.root, cfg.data.parsing.cache = str(tmp_path / "masks"), str(tmp_path / "c")
    if "captions" in needs and data != "virtual":
        write_captions(instantiate(cfg.data.benchmark), data, tmp_path, tmp_path / "captions")
        captions = {"layout": "ccreid", "folder": str(tmp_path / "captions")}
        cfg.data.captions.update({**captions, "encoder": "tfidf", "summary": False})
    metrics = train(cfg).metrics
    found = {name.split("/")[2] for name in metrics if name.startswith("test/")}
    assert {protocol.name for protocol in kind.protocols} == found
