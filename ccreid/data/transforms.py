"""What happens to an image, and to its mask with it, before a network sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import tv_tensors
from torchvision.transforms import v2

from ccreid.errors import require

_LARGEST = 16384  # pixels of a side; beyond it one image fills a machine's memory


class RandomErasing(v2.Transform):
    """Paints one random rectangle, as FIRe² does (specification of its released recipe).

    The area is uniform in `scale` (a fraction of the image), the aspect height / width uniform in
    `ratio` (torchvision draws its logarithm), and the rectangle strictly smaller than the image.
    Masks are left alone: what is behind the rectangle is still there.

    Args:
        p: probability of erasing at all.
        scale, ratio: ranges of the area and of the aspect.
        fill: RGB in [0, 1]; the mean colour of the network's normalisation becomes 0.

    Raises:
        ConfigError: a probability outside 0..1, or an empty range.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.4),
        ratio: Sequence[float] = (0.3, 3.33),
        fill: Sequence[float] = (0.485, 0.456, 0.406),
    ) -> None:
        super().__init__()
        where = "data.train_transform.erasing"
        require(0 <= p <= 1, f"{where}.p", p, "between 0 and 1")
        for name, ends in (("scale", list(scale)), ("ratio", list(ratio))):
            fits = len(ends) == 2 and 0 < ends[0] <= ends[1]
            require(fits, f"{where}.{name}", ends, "[low, high] with 0 < low <= high")
        require(len(fill) == 3, f"{where}.fill", list(fill), "red, green and blue")
        self.p, self.scale, self.ratio = p, tuple(scale), tuple(ratio)
        self.fill = torch.tensor(fill).view(3, 1, 1)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the rectangle `box` = (top, left, height, width), or None."""
        height, width = next(x for x in flat_inputs if isinstance(x, tv_tensors.Image)).shape[-2:]
        if torch.rand(()) >= self.p:
            return {"box": None}
        for _ in range(100):  # a drawn rectangle may not fit; 100 failures never happen in practice
            area = _uniform(*self.scale) * height * width
            aspect = _uniform(*self.ratio)
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                top, left = _below(height - h + 1), _below(width - w + 1)
                return {"box": (top, left, h, w)}
        return {"box": None}

    def transform(self, inpt: Tensor, params: dict[str, Any]) -> Tensor:
        """Paint the rectangle into a float image [3, H, W]."""
        if params["box"] is None:
            return inpt
        top, left, h, w = params["box"]
        image = inpt.clone()
        image[..., top : top + h, left : left + w] = self.fill.to(image.dtype)
        return image


class TrainTransform:
    """Resize, enlarge, mirror, pad and crop, erase: RGB becomes [3, H, W] float32 in [0, 1].

    Args:
        height, width: size of the result in pixels.
        mirror: probability of mirroring.
        pad: black border before a random crop, in pixels; 0 leaves both out.
        erasing: the erasing transform, or None.
        enlarge: probability of a random crop from the image enlarged by an eighth (CAL, DIFFER).
        interpolation: `bilinear` or `bicubic`.

    Raises:
        ConfigError: no such size or interpolation, or a probability outside 0..1.
    """

    def __init__(
        self,
        height: int,
        width: int,
        mirror: float = 0.5,
        pad: int = 10,
        erasing: v2.Transform | None = None,
        enlarge: float = 0.0,
        interpolation: str = "bilinear",
    ) -> None:
        for name, share in (("mirror", mirror), ("enlarge", enlarge)):
            require(0 <= share <= 1, f"data.train_transform.{name}", share, "between 0 and 1")
        most = max(height, width)
        require(0 <= pad <= most, "data.train_transform.pad", pad, f"at least 0, at most {most}")
        self.resize = _resize(height, width, interpolation)
        crop = v2.RandomCrop((height, width))
        larger = _resize(round(1.125 * height), round(1.125 * width), interpolation)
        steps: list[Any] = [
            self.resize,
            *([v2.RandomApply([larger, crop], p=enlarge)] if enlarge else []),
            v2.RandomHorizontalFlip(mirror),
            *([v2.Pad(pad), crop] if pad else []),
            *_to_float,
        ]
        self.steps = v2.Compose([*steps, erasing] if erasing is not None else steps)

    def __call__(
        self, image: Image.Image, mask: tv_tensors.Mask | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the image and, when one is given, the mask [H, W] cut and mirrored alike."""
        if mask is None:
            return _plain(self.steps(image)), None
        image_out, mask_out = self.steps(image, mask)
        return _plain(image_out), _plain(mask_out)

    def clip(self, frames: Sequence[Image.Image]) -> Tensor:
        """Return the frames of a clip, [T, 3, H, W], all mirrored, cut and erased alike."""
        return torch.stack([_plain(frame) for frame in self.steps(list(frames))])


class TestTransform:
    """Resize only: an RGB image becomes [3, H, W] float32 in [0, 1]."""

    __test__ = False  # its name is not pytest's business

    def __init__(self, height: int, width: int, interpolation: str = "bilinear") -> None:
        self.height, self.width = height, width
        self.resize = _resize(height, width, interpolation)
        self.steps = v2.Compose([self.resize, *_to_float])

    def __call__(self, image: Image.Image) -> Tensor:
        """Return the resized image."""
        return _plain(self.steps(image))


def _resize(height: int, width: int, interpolation: str) -> v2.Transform:
    fits = min(height, width) >= 1 and max(height, width) <= _LARGEST
    wanted = f"at least 1×1 pixels, at most {_LARGEST} a side"
    require(fits, "input", f"{height}×{width}", wanted)
    known = ("bilinear", "bicubic")
    wanted = f"one of {', '.join(known)}"
    require(interpolation in known, "interpolation of a transform", interpolation, wanted)
    return _Resize((height, width), interpolation=v2.InterpolationMode(interpolation))


class _Resize(v2.Resize):
    """Resizes masks by the nearest pixel's centre; torchvision's are half a pixel off."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Mask):
            return super().transform(inpt, params)
        labels = inpt.as_subclass(Tensor)[None, None]
        resized = interpolate(labels, tuple(self.size), mode="nearest-exact")[0, 0]
        return tv_tensors.wrap(resized, like=inpt)


_to_float = (
    v2.ToImage(),
    v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True),
)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run with torch's CPU generator at `seed` and put its state back afterwards.

    An augmentation drawn inside depends on the seed alone: not on the worker, nor on a resume.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _plain(value: Tensor) -> Tensor:
    return value.as_subclass(Tensor)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _below(end: int) -> int:
    return int(torch.randint(end, ()))
