"""An impossible setting is one clear error before the first epoch."""

import pytest

from ccreid.errors import ConfigError
from ccreid.train import train

BAD = {
    "method.parts=7": "method.parts=7 should be at most",
    "method.parts=0": "at least 1",
    "method.recompositions=0": "at least 1",
    "method.epsilon=2": "between 0 and 1",
    "method.epsilon=-0.1": "between 0 and 1",
    "method.epsilon=abc": "method.epsilon=abc should be a number",
    "method.label_smoothing=2": "method.label_smoothing=2 should be in [0, 1]",
    "method.recompositions=100": "at most 32, the images of a batch",
    "method.tau=0": "above 0",
    "method.recomposition_weight=-1": "at least 0",
    "method.mining.eps=0": "above 0 and at most 1",
    "method.mining.k1=0": "at least 1",
    "method.mining.start_epoch=-1": "at least 0",
    "method.mining.precision=half": "fp32, bf16, fp16",
    "method.mining.batch_size=0": "at least 1",
    "method.scheduler.milestones=20": "method.scheduler.milestones=20 should be a list",
    "method.scheduler.gamma=-1": "between 0 and 1",
    "method.optimizer.lr=-1": "method.optimizer or method.scheduler",
    "method._target_=ccreid.methods.fire2.Fire": "cannot be had",
    "evaluation.precision=fp99": "fp32, bf16, fp16",
    "evaluation.batch_size=0": "at least 1",
    "trainer.max_epochs=0": "1 or more",
    "trainer.max_epochs=many": "1 or more",
    "trainer.accelerator=tpu5": "No trainer for accelerator=tpu5",
    "seed=-1": "0 or more",
    "seed=abc": "seed=abc should be a whole number",
    "data.workers=-1": "at least 0",
    "data.identities_per_batch=65": "has only 64",
    "data.images_per_identity=1281": "at most 1280, the images of the whole train split",
    "data.train_transform.erasing.p=2": "data.train_transform.erasing.p=2 should be between",
    "data.train_transform.erasing.scale=[0.2]": "0 < low <= high",
    "data.train_transform.pad=-1": "at least 0",
    "input.height=0": "at least 1 and at most 8192",
    "backbone.mean=[0.5]": "red, green and blue",
    "backbone.name=test_vit input.height=67": "cannot take images of 67×32",
    "data.identities_per_batch=1 data.images_per_identity=1": "one image per device",
}


@pytest.mark.parametrize("settings", BAD)
def test_impossible_settings_are_refused_before_training(settings, tiny_config):
    cfg = tiny_config("method=fire2", "debug=fast", *settings.split())
    with pytest.raises(ConfigError) as error:
        train(cfg)
    assert BAD[settings] in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        "method.mining.start_epoch=0",
        "method.mining.min_samples=4",
        "method.recompositions=3 method.parts=1",
        "method.reset_optimizer_state=false",
        "input.height=61 input.width=35",
        "data.images_per_identity=25",  # more than anybody has
        "backbone.name=test_resnet backbone.last_stride=1",
        "backbone.name=test_vit input.height=64 input.width=32",
    ],
)
def test_unusual_settings_train(settings, tiny_config):
    cfg = tiny_config("method=fire2", "debug=fast", *settings.split())
    assert train(cfg).metrics["test/virtual/cc/num_valid_queries"] == 256
