"""Clothes erasure (CRE) on the device: which pixels are clothes, and what is painted there.

Our reconstruction from the poster of Mu, Li, Li, Yang: "Learning Clothes-irrelevant Cues for
Clothes-Changing Person Re-identification", BMVC 2022. The poster says that clothes are erased from
the images and that the images made so are trained on, too; labels, fills and the test of a mask are
inferred from its relatives.

Labels are numbers here, never names: which of them are garments is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, max_pool2d, pad

Fill = Callable[[Tensor, Tensor, Tensor, torch.Generator | None], Tensor]
"""(images, garments, mean colour, generator) → what to paint, broadcastable to the images."""


def any_of(labels: Tensor, wanted: Sequence[int]) -> Tensor:
    """Return where a label is one of the wanted ones, bool of the labels' shape."""
    found = torch.zeros_like(labels, dtype=torch.bool)
    for label in wanted:
        found = found | (labels == label)
    return found


MIN_CLOTHES = 0.10
"""Of the body in the mask of a dressed person; chosen for this reconstruction, as is the next."""
BODY_RANGE = (0.05, 0.95)
"""Of the image, what a body can fill."""


def trusted_masks(labels: Tensor, garments: Sequence[int]) -> Tensor:
    """Return which masks [B, H, W] look like a dressed person, [B] bool.

    At least a tenth of the body is clothes, and the body is plausible.
    """
    body = (labels != 0).flatten(1).float().mean(dim=1)
    clothes = any_of(labels, garments).flatten(1).float().mean(dim=1)
    return (clothes >= MIN_CLOTHES * body) & plausible_bodies(labels)


def plausible_bodies(labels: Tensor) -> Tensor:
    """Return in which masks [B, H, W] the body fills 5 to 95 % of the image, [B] bool."""
    body = (labels != 0).flatten(1).float().mean(dim=1)
    return (body >= BODY_RANGE[0]) & (body <= BODY_RANGE[1])


def vertical_prior(labels: Tensor, upper: int, lower: int) -> Tensor:
    """Guess garments from the silhouette alone: [B, H, W] labels -> [B, H, W] uint8.

    Of the silhouette's height, 0.17 to 0.52 below its top becomes `upper` and 0.52 to 0.93 `lower`;
    head and feet stay 0, as does a mask whose body is not plausible. A guess of this library, not
    the paper's.
    """
    body = (labels != 0) & plausible_bodies(labels)[:, None, None]
    rows = body.any(dim=2)
    height = labels.shape[1]
    row = torch.arange(height, device=labels.device)
    top = torch.where(rows, row, height).amin(dim=1, keepdim=True)
    bottom = torch.where(rows, row, -1).amax(dim=1, keepdim=True)
    place = ((row - top + 0.5) / (bottom - top + 1).clamp(min=1))[:, :, None]
    garments = upper * ((place >= 0.17) & (place < 0.52)) + lower * (
        (place >= 0.52) & (place < 0.93)
    )
    return (garments * body).to(torch.uint8)


def dilate(garments: Tensor, pixels: int) -> Tensor:
    """Let garments [B, H, W] grow into label 0; where two meet the larger label wins."""
    if pixels == 0:
        return garments
    grown = max_pool2d(garments.float()[:, None], 2 * pixels + 1, stride=1, padding=pixels)
    return torch.where(garments > 0, garments, grown[:, 0].to(garments.dtype))


def erase_clothes(
    images: Tensor,
    garments: Tensor,
    fill: str = "black",
    mean: Sequence[float] | Tensor = (0.485, 0.456, 0.406),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the images with the garments' pixels painted over, the others bit for bit as before.

    Args:
        images: RGB in [0, 1], [B, 3, H, W].
        garments: which pixels, by the label of their garment, [B, H, W]; 0 where nothing is erased.
        fill: `black`; `mean`, one colour; `noise`, uniform in [0, 1] per pixel and channel;
            `random_color`, one colour per image and garment; `swap`, pixels of the same garment of
            another image in the batch (black where nobody else wears it); `blur`, a wide Gaussian.
        mean: RGB of `mean`.
        generator: of the device, for the fills that draw; None for torch's own.

    Raises:
        ValueError: an unknown fill.

    Source: black is what SCNet (arXiv 2308.14113) and CIHANet paint, random colours SiCL's (arXiv
    2305.13600), swapped pixels Pixel Sampling's (arXiv 2107.11522).
    """
    if fill not in FILLS:
        raise ValueError(f"fill={fill}: choose one of {', '.join(FILLS)}.")
    colour = torch.as_tensor(mean, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    paint = FILLS[fill](images, garments, colour, generator)
    return torch.where(garments[:, None] > 0, paint, images)


def _black(images: Tensor, _garments: Tensor, _mean: Tensor, _g: torch.Generator | None) -> Tensor:
    return images.new_zeros(())


def _mean(_images: Tensor, _garments: Tensor, mean: Tensor, _g: torch.Generator | None) -> Tensor:
    return mean


def _noise(
    images: Tensor, _garments: Tensor, _mean: Tensor, generator: torch.Generator | None
) -> Tensor:
    return torch.rand(images.shape, generator=generator, device=images.device, dtype=images.dtype)


def _random_color(
    images: Tensor, garments: Tensor, _mean: Tensor, generator: torch.Generator | None
) -> Tensor:
    shape = (len(images), 3, _NUM_LABELS)
    colours = torch.rand(shape, generator=generator, device=images.device, dtype=images.dtype)
    garment = garments.long().flatten(1)[:, None].expand(-1, 3, -1)
    return colours.gather(2, garment).view_as(images)


def _swap(
    images: Tensor, garments: Tensor, _mean: Tensor, generator: torch.Generator | None
) -> Tensor:
    batch, pixels = len(images), garments[0].numel()
    device, flat = images.device, images.flatten(2)
    itself = torch.eye(batch, dtype=torch.bool, device=device)
    paint = torch.zeros_like(flat)
    for label in range(1, _NUM_LABELS):
        worn = (garments == label).flatten(1)
        count = worn.sum(dim=1)
        order = torch.rand(batch, batch, generator=generator, device=device)
        donor = order.masked_fill(itself | (count == 0), -1.0).argmax(dim=1)
        # Of every image the pixels of this garment first; a pixel takes any of its donor's.
        places = worn.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
        number = torch.rand(batch, pixels, generator=generator, device=device)
        chosen = (number * count[donor][:, None]).long().clamp(max=pixels - 1)
        source = places[donor].gather(1, chosen)[:, None].expand(-1, 3, -1)
        has_donor = ((~itself) & (count > 0)).any(dim=1)
        taken = worn & has_donor[:, None]
        paint = torch.where(taken[:, None], flat[donor].gather(2, source), paint)
    return paint.view_as(images)


def _blur(images: Tensor, _garments: Tensor, _mean: Tensor, _g: torch.Generator | None) -> Tensor:
    sigma = max(1, min(images.shape[-2:]) // 8)
    place = torch.arange(-2 * sigma, 2 * sigma + 1, device=images.device, dtype=images.dtype)
    weight = torch.exp(-0.5 * (place / sigma) ** 2)
    weight = (weight / weight.sum()).repeat(3, 1, 1, 1)  # [3, 1, 1, k], a channel at a time
    reach = 2 * sigma
    wide = conv2d(pad(images, (reach, reach, 0, 0), mode="replicate"), weight, groups=3)
    tall = pad(wide, (0, 0, reach, reach), mode="replicate")
    return conv2d(tall, weight.transpose(2, 3), groups=3)


_NUM_LABELS = 10  # canonical labels, background included

FILLS: dict[str, Fill] = {
    "black": _black,
    "mean": _mean,
    "noise": _noise,
    "random_color": _random_color,
    "swap": _swap,
    "blur": _blur,
}
