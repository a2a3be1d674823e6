"""Backbone: any timm network as a map from images to a feature map, normalisation included."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ccreid.errors import ConfigError, require
from ccreid.models.pooling import average_pool
from ccreid.models.tokens import has_tokens, token_feature
from ccreid.models.weights import build_network


class Backbone(nn.Module):
    """A timm network that turns RGB images in [0, 1] into a feature map.

    The images are normalised here, with the mean and deviation that belong to the network's weights
    (timm's `pretrained_cfg`), so that no caller can pair weights with the wrong statistics.

    The map is what timm's `forward_features` gives, as [B, C, h, w]; of a vision transformer, the
    normalised patch tokens put back in place. Parameters that the map does not depend on (a head's
    own norm, for example) are frozen: distributed training would wait for their gradients.

    Args:
        name: timm model name, with or without a weight tag (`resnet50`, `resnet50.tv_in1k`).
        weights: `hub`, `none`, `package` or the path of a local file; see `weights.build_network`.
        last_stride: 1 removes the network's last downsampling by setting its stride to 1, without
            dilation: a map of twice the size from the same weights (Luo et al., CVPR Workshops
            2019, and most re-identification work since). 2 or None leaves the network as it is.
        channels_last: keep the network and its input in channels-last memory format.
        mean, std: RGB statistics to normalise with instead of those of the weights.

    Attributes:
        num_features: channels C of the map.
        shift_dim: length of the vectors that `forward` can shift by.
        reduction: height of the image over height of the map.
        mean: [1, 3, 1, 1], subtracted from the images.
        std: [1, 3, 1, 1], what they are then divided by.

    Raises:
        ConfigError: if the network is unknown, gives no map, takes one image size only, or has no
            stride to remove; or if the weights cannot be had.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "resnet50",
        weights: str = "hub",
        last_stride: int | None = 1,
        channels_last: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if last_stride not in (1, 2, None):
            raise ConfigError(f"backbone.last_stride={last_stride}: choose 1, 2 or null.")
        network: Any = build_network(name, weights)  # timm's networks share methods, but no type
        reduction = network.feature_info[-1]["reduction"]
        # Twice as high as wide, so that a network that only takes squares is found out here.
        probe = torch.zeros(1, 3, 4 * reduction, 2 * reduction)
        network.eval()
        try:
            _feature_map(network, probe)
        except (AssertionError, RuntimeError) as error:
            raise ConfigError(
                f"The network '{name}' gives no feature map for images of "
                f"{probe.shape[2]}x{probe.shape[3]} ({error}). Choose one that takes any image "
                f"size: a convolutional network, a plain vision transformer or a Swin."
            ) from error
        if last_stride == 1:
            _remove_last_stride(network, name, probe)
        feature_map = _freeze_unused(network, partial(_feature_map, network, probe))
        self._probe_size = probe.shape[2:]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network = network.train().to(memory_format=self.memory_format)
        self.num_features = feature_map.shape[1]
        self.reduction = probe.shape[2] // feature_map.shape[2]
        self.shift_dim: int = network.embed_dim if has_tokens(network) else self.num_features
        config = network.pretrained_cfg
        colour = {"mean": mean, "std": std}
        for statistic, own in colour.items():
            chosen = config[statistic] if own is None else own
            fits = len(chosen) == 3 and (statistic == "mean" or min(chosen) > 0)
            require(fits, f"backbone.{statistic}", own, "red, green and blue; a deviation above 0")
            self.register_buffer(statistic, _per_channel(chosen), persistent=False)

    def train_for_vector(self) -> None:
        """Train what the vector depends on, and freeze all else; at first this holds of the map.

        The two differ where a class token has blocks of its own, which only the vector depends on.
        """
        if has_tokens(self.network):
            probe = self.mean.new_zeros(1, 3, *self._probe_size)
            self.network.requires_grad_(True).eval()
            _freeze_unused(self.network, partial(token_feature, self.network, probe))
            self.network.train()

    def forward(self, images: Tensor, shift: Tensor | None = None, pooled: bool = False) -> Tensor:
        """Return the feature map or, if `pooled`, one vector per image.

        The vector is the class token of a vision transformer that has one, else the mean over all
        positions.

        Args:
            images: RGB in [0, 1], [B, 3, H, W], floating; or clips, [B, T, 3, H, W].
            shift: [B, shift_dim], added to every token of a vision transformer beside its position
                embedding, to the vector of any other network; with `pooled` only.
            pooled: return the vector.

        Returns:
            [B, num_features, H / reduction, W / reduction], of clips [B, T, ...] one map per frame.
            Where H or W is not a multiple of the reduction the network rounds in its own way, or
            refuses. If `pooled`, [B, num_features], of clips [B, T, num_features].
        """
        if shift is not None and not pooled:
            raise ValueError("A shift is for the pooled vector: call with pooled=True.")
        if images.ndim == 5:
            frame_shift = None if shift is None else shift.repeat_interleave(images.shape[1], 0)
            features: Tensor = self(images.flatten(0, 1), frame_shift, pooled)
            return features.reshape(*images.shape[:2], *features.shape[1:])
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(
                f"The backbone got {list(images.shape)} {images.dtype}: give floating RGB images "
                f"in [0, 1] of shape [B, 3, H, W] or [B, T, 3, H, W]."
            )
        normalised = (images - self.mean) / self.std
        normalised = normalised.contiguous(memory_format=self.memory_format)
        if not pooled:
            return _feature_map(self.network, normalised)
        if has_tokens(self.network):
            return token_feature(self.network, normalised, shift)
        vector = average_pool(_feature_map(self.network, normalised))
        return vector if shift is None else vector + shift


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


def _feature_map(network: Any, images: Tensor) -> Tensor:
    if hasattr(network, "patch_embed") and hasattr(network, "num_prefix_tokens"):
        # A vision transformer: timm drops the class tokens and puts the patches back in place.
        maps: list[Tensor] = network.forward_intermediates(
            images, indices=1, norm=True, intermediates_only=True
        )
        return maps[-1]
    features: Tensor = network.forward_features(images)
    if features.ndim != 4:
        raise RuntimeError(f"its features have the shape {list(features.shape)}")
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return features.permute(0, 3, 1, 2)
    return features


def _freeze_unused(network: nn.Module, output: Callable[[], Tensor]) -> Tensor:
    with torch.enable_grad():
        features = output()
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
    return features.detach()


@torch.no_grad()
def _remove_last_stride(network: nn.Module, name: str, probe: Tensor) -> None:
    """Set the stride of the layers that halve the map for the last time to 1.

    Found by running the network: a layer qualifies if it takes a map of twice the final size to the
    final size, and if the result breaks or grows when this layer alone keeps the size. (The second
    condition spares side branches such as the shrunk keys of a pyramid transformer.)
    """
    final = tuple(_feature_map(network, probe).shape[2:])
    double = (2 * final[0], 2 * final[1])
    replacements = {
        path: replacement
        for path in _layers_between(network, probe, double, final)
        if (replacement := _without_stride(network.get_submodule(path))) is not None
        and _decides_size(network, probe, path, replacement, final)
    }
    for path, replacement in replacements.items():
        network.set_submodule(path, replacement)
    if not replacements or _size_or_none(network, probe) != double:
        raise ConfigError(
            f"backbone.last_stride=1: the network '{name}' has no strided layer at its end that "
            f"works as well with stride 1 (a patch embedding or patch merging does not). Set "
            f"backbone.last_stride=2 to keep the network as it is, or choose another network."
        )


def _layers_between(
    network: nn.Module, probe: Tensor, size_in: tuple[int, ...], size_out: tuple[int, ...]
) -> list[str]:
    """Names of the innermost modules that take a map of one size to a map of another."""
    found: list[str] = []
    handles = []
    for path, module in network.named_modules():
        if any(True for _ in module.children()):
            continue

        def record(
            _module: nn.Module, inputs: tuple[object, ...], output: object, path: str = path
        ) -> None:
            sizes = [tuple(x.shape[2:]) for x in (*inputs[:1], output) if isinstance(x, Tensor)]
            if sizes == [size_in, size_out]:
                found.append(path)

        handles.append(module.register_forward_hook(record))
    try:
        _feature_map(network, probe)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _without_stride(module: nn.Module) -> nn.Module | None:
    if isinstance(module, nn.Conv2d):
        convolution = copy.copy(module)  # shares the weights
        convolution.stride = (1, 1)
        return convolution
    if not any(True for _ in module.parameters()):
        return nn.Identity()  # a pooling that only halves; timm builds stages of stride 1 without
    return None


def _decides_size(
    network: nn.Module, probe: Tensor, path: str, replacement: nn.Module, final: tuple[int, ...]
) -> bool:
    original = network.get_submodule(path)
    network.set_submodule(path, replacement)
    size = _size_or_none(network, probe)
    network.set_submodule(path, original)
    return size != final


def _size_or_none(network: nn.Module, probe: Tensor) -> tuple[int, ...] | None:
    """Size of the final map, None if the layers no longer fit together."""
    try:
        return tuple(_feature_map(network, probe).shape[2:])
    except (AssertionError, RuntimeError):
        return None
