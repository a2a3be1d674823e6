"""Random erasing of a whole batch on the device, every image its own rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ccreid.errors import require

_ATTEMPTS = 100


@dataclass(frozen=True)
class BatchRandomErasing:
    """Paints one random rectangle into each image with probability p.

    The rectangles are distributed as those of the loader's random erasing (Zhong et al., AAAI 2020,
    as FIRe² does it): area uniform in `scale` (a fraction of the image), height / width uniform in
    `ratio`, strictly smaller than the image, anywhere in it.

    Attributes:
        p: probability of erasing at all.
        scale, ratio: ranges of the area and of the aspect.

    Raises:
        ConfigError: a probability outside 0..1, or an empty range.
    """

    p: float = 0.5
    scale: Sequence[float] = (0.02, 0.4)
    ratio: Sequence[float] = (0.3, 3.33)

    def __post_init__(self) -> None:
        require(0 <= self.p <= 1, "method.erasing.p", self.p, "between 0 and 1")
        for name in ("scale", "ratio"):
            ends = list(getattr(self, name))
            fits = len(ends) == 2 and 0 < ends[0] <= ends[1]
            require(fits, f"method.erasing.{name}", ends, "[low, high] with 0 < low <= high")

    def __call__(
        self, images: Tensor, colour: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the images [B, ..., H, W] erased; the frames of a clip are erased alike.

        Args:
            images: RGB in [0, 1].
            colour: what to paint, broadcastable to one image.
            generator: of the images' device; None for torch's own.
        """
        height, width = images.shape[-2:]
        box = self.boxes(len(images), height, width, images.device, generator)
        top, left, h, w = (side[:, None] for side in box.unbind(dim=1))
        row = torch.arange(height, device=images.device)
        column = torch.arange(width, device=images.device)
        rows = (row >= top) & (row < top + h)
        columns = (column >= left) & (column < left + w)
        inside = rows[:, :, None] & columns[:, None, :]
        inside = inside.view(len(images), *[1] * (images.ndim - 3), height, width)
        return torch.where(inside, colour.to(images.dtype), images)

    def boxes(
        self,
        batch: int,
        height: int,
        width: int,
        device: torch.device,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw (top, left, height, width) of each image, [B, 4] int64; all 0 for no rectangle."""

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=device)

        def between(low: float, high: float) -> Tensor:
            return low + (high - low) * uniform(batch, _ATTEMPTS)

        area = between(*self.scale) * height * width
        aspect = between(*self.ratio)
        h, w = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
        fits = (h < height) & (w < width)
        first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
        h, w = h.gather(1, first)[:, 0], w.gather(1, first)[:, 0]
        place = uniform(2, batch)
        # The product may round up to the end of the range.
        top = (place[0] * (height - h + 1)).long().minimum(height - h)
        left = (place[1] * (width - w + 1)).long().minimum(width - w)
        erased = (uniform(batch) < self.p) & fits.any(dim=1)
        return torch.stack([top, left, h, w], dim=1) * erased[:, None]
