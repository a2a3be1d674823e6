"""From a config to objects: the datamodule, the method and the precision they compute in."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from ccreid.data.cache import image_reader
from ccreid.data.cache_files import Resizing
from ccreid.data.datamodule import ReIDDataModule
from ccreid.errors import CCReIDError, ConfigError, require
from ccreid.features import evaluating
from ccreid.methods.base import Method
from ccreid.runs.checkpoint_io import WholeCheckpointIO
from ccreid.settings.kinds import require_arguments
from ccreid.settings.targets import class_of, require_allowed

LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def instantiate(node: Any, **arguments: Any) -> Any:
    """Build what a config node names; the library's own errors come out as they were raised.

    Raises:
        ConfigError: `_target_` names what a config may not build (`ccreid.settings.targets`), or
            the arguments do not fit.
    """
    require_arguments(node)
    require_allowed(arguments)  # Hydra reads them as it reads the node
    try:
        return hydra_instantiate(node, **arguments)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, CCReIDError):
                raise cause from None
            cause = cause.__cause__
        raise ConfigError(f"These settings cannot be used: {error}") from error


def build_datamodule(cfg: DictConfig, requires: Iterable[str] = ()) -> ReIDDataModule:
    """Read the benchmark of `cfg.data` and wrap it for training.

    Raises:
        DataError: the benchmark, or side information in `requires`, is missing.
    """
    data = ReIDDataModule(
        benchmark=instantiate(cfg.data.benchmark),
        train_transform=instantiate(cfg.data.train_transform),
        test_transform=instantiate(cfg.data.test_transform),
        identities_per_batch=cfg.data.identities_per_batch,
        images_per_identity=cfg.data.images_per_identity,
        workers=cfg.data.workers,
        seed=cfg.seed,
        requires=requires,
        parsing=cfg.data.parsing,
        captions=_captions(cfg) if "captions" in requires else None,
        sampler=cfg.data.sampler,
        outfits_per_identity=cfg.data.outfits_per_identity,
        validation=cfg.data.validation,
        validation_people=cfg.data.validation_people,
        on_damaged=cfg.data.on_damaged,
    )
    data.read = image_reader(  # last, so that nothing is missing when a long build begins
        data.benchmark,
        cfg.data.cache,
        Resizing(**cfg.input),
        (data.train_transform, data.test_transform),
        cfg.data.cache_folder,
    )
    return data


def _captions(cfg: DictConfig) -> dict[str, Any]:
    """The settings of the captions: where they are is the data's, which are read the method's."""
    names = ("biometric", "non_biometric")  # a method without them takes the store's own
    chosen = {name: cfg.method[name] for name in names if name in cfg.method}
    return {**chosen, **cfg.data.captions}


def method_class(cfg: DictConfig) -> type[Method]:
    """Return the class that `cfg.method` names.

    Raises:
        ConfigError: there is none, or it may not be used.
    """
    cls: type[Method] = class_of(cfg.method)
    if not issubclass(cls, Method):
        raise ConfigError(f"method._target_={cfg.method._target_} is no method, see ccreid.methods")
    return cls


def build_method(cfg: DictConfig, sizes: Mapping[str, int]) -> Method:
    """Build the network and its losses; what is not pretrained is drawn from `cfg.seed`.

    Args:
        cfg: of the run.
        sizes: of the data, as `ReIDDataModule.sizes`; the method's constructor names what it wants.

    Raises:
        ConfigError: impossible settings, or a backbone that cannot take images of this size.
    """
    torch.manual_seed(cfg.seed)
    wanted = inspect.signature(method_class(cfg)).parameters.keys() & sizes.keys()
    method: Method = instantiate(cfg.method, **{name: sizes[name] for name in wanted})
    _require_fitting_images(method, cfg.input.height, cfg.input.width)
    if cfg.get("compile", False):
        # What was compiled of another network in this process would be taken for this one where
        # they differ by hooks alone, such as attention.
        torch.compiler.reset()
        method.backbone.compile()
    return method


def _require_fitting_images(method: Method, height: int, width: int) -> None:
    images = torch.zeros(1, 3, height, width)
    try:
        with torch.no_grad(), evaluating(method):
            method.backbone(images)
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(
            f"The backbone cannot take images of {height}×{width} pixels ({error}). "
            "Change input.height and input.width, or backbone.name."
        ) from None


def choose_device(name: str) -> torch.device:
    """Turn `auto` into the first GPU, else the CPU.

    Raises:
        ConfigError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={name} cannot be used here: {str(error).splitlines()[0]} "
            "Choose auto, cpu, cuda or cuda:<number>."
        ) from None


def build_trainer(cfg: DictConfig, callbacks: Iterable[Callback]) -> Trainer:
    """Build the trainer with its loggers.

    Raises:
        ConfigError: the devices asked for do not exist, or cannot share a batch's identities.
    """
    epochs = cfg.trainer.max_epochs
    require(isinstance(epochs, int) and epochs >= 1, "trainer.max_epochs", epochs, "1 or more")
    loggers = list(instantiate(cfg.logger).values())
    require_arguments(cfg.trainer)  # outside of what is told as "no trainer" below
    try:
        trainer: Trainer = instantiate(
            cfg.trainer,
            precision=LIGHTNING_PRECISION[cfg.precision],
            logger=loggers,
            callbacks=list(callbacks),
            plugins=[WholeCheckpointIO()],
        )
    except (MisconfigurationException, ConfigError) as error:
        raise ConfigError(
            f"No trainer for accelerator={cfg.trainer.accelerator}, devices={cfg.trainer.devices}: "
            f"{error}\nThis machine has {torch.cuda.device_count()} GPUs; trainer=cpu needs none."
        ) from None
    require_even_shares(cfg, trainer.world_size)
    return trainer


def require_even_shares(cfg: DictConfig, devices: int) -> None:
    """Raise a ConfigError unless so many devices divide the identities of a batch."""
    identities = cfg.data.identities_per_batch
    if identities % devices:
        raise ConfigError(
            f"{devices} devices cannot share the {identities} identities of a batch evenly. Set "
            f"data.identities_per_batch to a multiple of {devices}, or trainer.devices to a "
            "divisor."
        )


def require_monitored(callbacks: Iterable[Callback], data: ReIDDataModule) -> None:
    """Raise a ConfigError if a callback chooses by held-out people and nobody is held out."""
    monitored = [str(getattr(callback, "monitor", None)) for callback in callbacks]
    if data.validation is None and any(name.startswith("val/") for name in monitored):
        raise ConfigError(
            "A callback chooses by the metrics of held-out people, but nobody is held out: set "
            "data.validation=identities, or callbacks=default."
        )


def choose_precision(name: str, accelerator: str) -> str:
    """Turn `auto` into bf16 where the hardware computes in it, else fp32.

    Args:
        name: auto, fp32, bf16 or fp16.
        accelerator: Lightning's trainer.accelerator.

    Raises:
        ConfigError: an unknown name, or fp16 without a GPU.
    """
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    if name == "fp16" and not on_gpu:
        raise ConfigError("precision=fp16 needs a GPU. On a CPU take precision=bf16 or fp32.")
    if name in LIGHTNING_PRECISION:
        return name
    if name != "auto":
        raise ConfigError(
            f"precision={name} should be one of auto, {', '.join(LIGHTNING_PRECISION)}."
        )
    if on_gpu:
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    has_bf16: Any = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if has_bf16() else "fp32"
