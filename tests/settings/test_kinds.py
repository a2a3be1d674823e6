"""A setting's kind is what its consumer's signature says."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from omegaconf import OmegaConf
from torch import Tensor

from ccreid.config import compose
from ccreid.errors import ConfigError
from ccreid.settings.kinds import fits_kind, require_arguments, require_sound
from ccreid.settings.plain import PLAIN, Between

FITS = {
    int: [0, -3, 2**63 - 1],
    float: [0, 0.5, -1e30],
    bool: [True, False],
    str: ["", "a"],
    str | None: ["a", None],
    Path | str | None: ["a", None],
    Sequence[str]: [[], ["a", "b"]],
    Sequence[float] | None: [[1, 0.5], None],
    tuple[float, float]: [[1, 2.5]],
    tuple[int, ...]: [[], [1], [1, 2, 3]],
    list[int] | str | int: [[0, 1], "auto", 2],
    float | Literal["soft"]: [0.3, "soft"],
    Mapping[str, Any]: [{}, {"a": 1}],
    float | Tensor: [0.1, 3],
    Annotated[int, Between(1, 3)]: [1, 3],
    Callable[[int], int] | None: [None],
    Any: [None, "a", [1]],
}
DOES_NOT = {
    int: [True, 1.0, "1", None, [1], 2**63, math.nan],
    float: [False, "1", None, math.nan, math.inf, 1e31, [0.5]],
    bool: [0, 1, "true", None],
    str: [1, None, ["a"]],
    Path | str | None: [5, ["a"]],
    Sequence[str]: ["a", [1], None, {}],
    Sequence[float] | None: [0.5, ["a"], [None]],
    tuple[float, float]: [[1], [1, 2, 3], 1, ["a", "b"]],
    float | Literal["soft"]: ["hard", None],
    Mapping[str, Any]: [[], "a", None],
    float | Tensor: ["a", None],
    Annotated[int, Between(1, 3)]: [0, 4, 2.0, "2"],
    Callable[[int], int] | None: [5, "a", []],
}


@pytest.mark.parametrize(("kind", "value"), [(k, v) for k, values in FITS.items() for v in values])
def test_a_value_of_the_kind_fits(kind, value):
    assert fits_kind(value, kind)


@pytest.mark.parametrize(
    ("kind", "value"), [(k, v) for k, values in DOES_NOT.items() for v in values]
)
def test_a_value_of_another_kind_does_not(kind, value):
    assert not fits_kind(value, kind)


def test_the_message_names_the_setting_where_it_was_given():
    cfg = compose("train", ["method=fire2", "data=virtual", "output_dir=out"])
    cfg.backbone.last_stride = "one"
    with pytest.raises(ConfigError, match=r"^backbone\.last_stride=one should be a whole number"):
        require_arguments(cfg.method)  # which refers to it


def test_an_unknown_argument_is_told_with_the_nearest():
    node = OmegaConf.create({"_target_": "torch.optim.SGD", "_partial_": True, "momentun": 0.9})
    with pytest.raises(ConfigError, match=r"SGD takes lr, momentum.* mean 'optimizer\.momentum'"):
        require_arguments(OmegaConf.create({"optimizer": node}))


def test_null_is_as_in_the_run_where_there_is_a_checkpoint_only():
    require_sound(compose("evaluate", ["checkpoint=none", "output_dir=out"]))
    cfg = compose("train", ["method=fire2", "data=virtual", "output_dir=out"])
    cfg.evaluation.mirror = None
    with pytest.raises(ConfigError, match=r"evaluation\.mirror=None should be true or false"):
        require_sound(cfg)


def test_every_plain_setting_exists_in_some_verb():
    configs = [
        compose("train", ["method=fire2", "data=virtual"]),
        compose("train", ["method=fire2", "data=csv"]),
        compose("evaluate", ["checkpoint=none"]),
        compose("visualize", ["checkpoint=none"]),
        compose("verify"),
        compose("parse", ["data=prcc"]),
        compose("caption", ["data=prcc", "captioner=endpoint"]),
        compose("convert", ["method=differ", "data=prcc", "weights=file.pth"]),
    ]
    for name in PLAIN:
        *groups, last = name.split(".")
        nodes = [OmegaConf.select(cfg, ".".join(groups)) if groups else cfg for cfg in configs]
        assert any(node is not None and last in list(node) for node in nodes), name


def test_called_from_python_a_verb_asks_for_its_folder():
    with pytest.raises(ConfigError, match="Say output_dir=<folder>: Hydra"):
        require_sound(compose("train", ["method=fire2", "data=virtual"]))
    require_sound(compose("train", ["method=fire2", "data=virtual", "output_dir=run"]))
