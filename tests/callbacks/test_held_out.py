"""Held-out people are evaluated during training, the test people only at its end."""

import csv

import pytest
import torch

from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.errors import ConfigError
from ccreid.train import train


def column(folder, name):
    with open(folder / "metrics.csv") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_validation_and_the_best_checkpoint(tiny_config):
    result = train(
        tiny_config(
            "method=baseline",
            "debug=fast",
            "callbacks=best",
            "data.validation=identities",
            "trainer.max_epochs=3",
        )
    )
    validated = column(result.output_dir, "val/mAP")
    assert validated == column(result.output_dir, "val/virtual/cc/mAP")
    assert len(validated) == 3
    assert len(column(result.output_dir, "test/virtual/cc/mAP")) == 1
    best = load_checkpoint(result.checkpoint.with_name("best.ckpt"))
    assert best.epoch == validated.index(max(validated)) + 1
    assert best.sizes["num_identities"] == 52  # of 64


def test_without_held_out_people_there_is_nothing_to_choose_by(tiny_config):
    with pytest.raises(ConfigError, match=r"data\.validation=identities"):
        train(tiny_config("method=baseline", "debug=fast", "callbacks=best"))


def test_a_run_without_validation_is_what_it_was(tiny_config):
    settings = ("method=baseline", "debug=fast", "callbacks.evaluation.every_n_epochs=1")
    result = train(tiny_config(*settings))
    assert len(column(result.output_dir, "test/virtual/cc/mAP")) == 2
    weights = torch.load(result.checkpoint, weights_only=True)["state_dict"]
    again = train(tiny_config("method=baseline", "debug=fast", folder="again"))
    for name, value in torch.load(again.checkpoint, weights_only=True)["state_dict"].items():
        assert torch.equal(value, weights[name])
