"""From a checkpoint to an exported file, and back to a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ccreid.checkpoints.checkpoint import Checkpoint, load_checkpoint
from ccreid.checkpoints.exported import SUFFIX, Exported, write_exported
from ccreid.errors import CheckpointError, ConfigError
from ccreid.features import evaluating
from ccreid.methods.base import Method

SETTINGS = (
    "method",
    "backbone",
    "data",
    "input",
    "evaluation",
    "seed",
    "precision",
    "compile",
    "recipe_name",
)
"""What is kept of a run's config; its folder, its loggers and its trainer stay at home."""


def load_exported(path: Path | str, allow_targets: Sequence[str] = ()) -> Method:
    """Read an exported file, compare it with its hashes, and rebuild the method for inference.

    Args:
        path: a file that `python -m ccreid.export` or `ccreid.convert` wrote.
        allow_targets: modules beyond this library's that its config may name.

    Raises:
        CheckpointError: no such file, or it was altered, or it does not fit its method.
        ConfigError: its method is of a module that is not allowed.
    """
    checkpoint = load_checkpoint(path, allow_targets)
    if checkpoint.left_out is None:
        raise CheckpointError(f"{path} is no exported file; load_checkpoint reads it.")
    return checkpoint.build_method().eval()


def export_checkpoint(
    checkpoint: Checkpoint, output: Path | str, origin: Mapping[str, Any]
) -> Path:
    """Write what embedding images takes of a checkpoint into a safetensors file, and return it.

    Left out are the weights that `embed` makes no use of, such as classifiers: that is watched, on
    random images, and believed only if the features stay the same without them. Else all are kept.

    Args:
        checkpoint: with the method's own weights.
        output: the file, or the folder that becomes the place of `model.safetensors`.
        origin: facts that the file shall keep.

    Raises:
        CheckpointError: the weights do not fit the method.
        ConfigError: there is such a file.
    """
    path = Path(output).expanduser()
    path = path if path.suffix == SUFFIX else path / f"model{SUFFIX}"
    if path.exists():
        raise ConfigError(f"There is a {path} already. Say output=<another file or folder>.")
    plain = checkpoint.config.copy()
    plain.compile = False  # compiled code shows nobody what it uses
    method = replace(checkpoint, config=plain).build_method()
    weights = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    size = checkpoint.config.input
    kept = used_in_embedding(method, size.height, size.width)
    settings: Any = OmegaConf.to_container(checkpoint.config)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"Cannot make {path.parent}: {error}. Say output=<elsewhere>.") from None
    write_exported(
        path,
        Exported(
            method=checkpoint.config.method._target_,
            config={name: settings[name] for name in SETTINGS if name in settings},
            sizes=dict(checkpoint.sizes),
            preprocessing={
                **{name: size[name] for name in ("height", "width", "interpolation")},
                "mean": _decimals(method.backbone.mean),
                "std": _decimals(method.backbone.std),
                "mirror": checkpoint.config.evaluation.mirror,
            },
            left_out=sorted(weights.keys() - kept),
            origin={**origin, "epoch": checkpoint.epoch},
            tensors={name: weights[name] for name in weights.keys() & kept},
        ),
    )
    return path


def _decimals(values: Tensor) -> list[float]:
    """Return float32 numbers as a person writes them; as float32 these are the same again."""
    return [round(value, 7) for value in values.flatten().tolist()]


def used_in_embedding(method: Method, height: int, width: int) -> set[str]:
    """Return the names of the weights that decide a method's features; all if that cannot be told.

    Every operation of `embed` on random images is watched. What no operation took is then replaced
    by numbers that would be seen in the features; the method is of no use afterwards.

    Args:
        method: at least its weights that `embed` uses are trained.
        height: of its images.
        width: of its images.
    """
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), evaluating(method):
        with _Watch() as watch:
            before = _features(method, images)
        weights = method.state_dict(keep_vars=True)
        used = {name for name, tensor in weights.items() if id(tensor) in watch.seen}
        for name in weights.keys() - used:
            weights[name].fill_(torch.nan if weights[name].is_floating_point() else 0)
        same = torch.equal(_features(method, images), before)
    return used if same else set(weights)


def _features(method: Method, images: Tensor) -> Tensor:
    """Return the features of images from no camera and, where cameras matter, from the first."""
    if not method.uses_camera:
        return method.embed(images)
    cameras = torch.zeros(len(images), dtype=torch.int64)
    embed: Any = method.embed  # the declared one takes images alone
    return torch.cat([embed(images), embed(images, cameras)])


class _Watch(TorchFunctionMode):
    """Remembers which tensors torch's operations were given."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = tree_leaves((args, kwargs))
        self.seen.update(id(value) for value in given if isinstance(value, Tensor))
        return function(*args, **(kwargs or {}))
