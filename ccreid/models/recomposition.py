"""Fine-grained Attribute Recomposition of FIRe²: stripes wear the statistics of other images."""

from __future__ import annotations

import torch
from torch import Tensor


def recompose(
    feature_map: Tensor,
    labels: Tensor,
    parts: int = 2,
    times: int = 1,
    donors: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Restyle each horizontal stripe of each image with the statistics of a donor image.

    The map is cut along its height into `parts` stripes of H // parts rows; the last one also takes
    the remaining rows. Per image, channel and stripe, mean and `sqrt(var + 1e-6)` are taken and
    detached, so gradients flow through the normalised content only. The content of an image is then
    given the donor's mean and deviation of the same stripe. The arithmetic is in float32 or better,
    also under autocast; the result has the input's dtype, so what follows costs what it did before.

    Args:
        feature_map: [B, C, H, W], floating; of clips [B, T, C, H, W], whose frames share their
            statistics.
        labels: cluster label of each image, [B]; a donor has another label.
        parts: number of stripes P, 1..H.
        times: recompositions per image K, at least 1.
        donors: batch positions to use instead of drawing them, [parts, times * B] int64.
        generator: source of the draws; by default torch's own of the labels' device.

    Returns:
        [times * B, C, H, W] (clips: [times * B, T, C, H, W]), K-major: row k * B + i has the
        content of image i.

    Raises:
        ValueError: if `parts` or `times` is impossible or `donors` has another shape or dtype.

    Source: FIRe² (Wang et al., TIFS 2024, arXiv 2308.10692), Fine-grained Attribute Recomposition.
    The authors' code leaves the remaining rows out and fails when an image has no donor.
    """
    if feature_map.ndim == 5:  # the frames of a clip side by side are one wide map
        frames = feature_map.shape[1]
        wide = feature_map.permute(0, 2, 3, 1, 4).flatten(3)
        recomposed = recompose(wide, labels, parts, times, donors, generator)
        return recomposed.view(*recomposed.shape[:3], frames, -1).permute(0, 3, 1, 2, 4)
    batch, channels, height, _ = feature_map.shape
    if not 1 <= parts <= height:
        raise ValueError(
            f"Cannot cut a feature map of height {height} into {parts} stripes: choose parts "
            f"between 1 and {height}, or use larger images."
        )
    if times < 1:
        raise ValueError(f"times = {times}: set it to 1 or more.")
    if donors is None:
        donors = draw_donors(labels, parts, times, generator)
    if donors.shape != (parts, times * batch) or donors.dtype != torch.int64:
        raise ValueError(
            f"donors is {list(donors.shape)} {donors.dtype}: give int64 batch positions of shape "
            f"[parts, times * B] = [{parts}, {times * batch}], or leave it out to draw them."
        )
    rows = [height // parts] * (parts - 1)
    stripes = torch.split(feature_map, [*rows, height - sum(rows)], dim=2)
    restyled = []
    for stripe, donor in zip(stripes, donors, strict=True):
        content = stripe.to(torch.promote_types(stripe.dtype, torch.float32))
        with torch.no_grad():
            variance, mean = torch.var_mean(content, dim=(2, 3), keepdim=True, correction=0)
            deviation = (variance + 1e-6).sqrt()
        style = (times, batch, channels, 1, 1)
        scale = deviation[donor].view(style) / deviation
        styled = torch.addcmul(mean[donor].view(style), content - mean, scale)
        restyled.append(styled.flatten(0, 1).to(stripe.dtype))
    return torch.cat(restyled, dim=2)


def draw_donors(
    labels: Tensor, parts: int, times: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw for each stripe and image `times` batch positions that have another label.

    Drawn uniformly without replacement, independently per stripe. An image with fewer than `times`
    possible donors draws with replacement; one without any gets itself.

    Args:
        labels: cluster label of each image, [B].
        parts: number of stripes P, at least 1.
        times: donors per stripe and image K, at least 1.
        generator: source of the draws, on any device; by default torch's own of the labels' device.

    Returns:
        [parts, times * B] int64 on the labels' device, K-major: column k * B + i serves image i.

    Raises:
        ValueError: if `parts` or `times` is below 1.
    """
    if parts < 1 or times < 1:
        raise ValueError(f"parts = {parts} and times = {times}: set both to 1 or more.")
    batch = len(labels)
    source = labels.device if generator is None else generator.device
    key = torch.rand(parts, batch, batch, generator=generator, device=source).to(labels.device)
    pick = torch.rand(parts, batch, times, generator=generator, device=source).to(labels.device)

    different = labels[:, None] != labels[None, :]
    count = different.sum(dim=1)[None, :, None]  # [1, B, 1]
    # A random order of all images in which an image's possible donors come first.
    order = key.masked_fill(~different, -1.0).argsort(dim=2, descending=True)
    place = torch.arange(times, device=labels.device).expand(parts, batch, times)
    place = torch.where(count >= times, place, (pick * count).long())
    place = place.minimum((count - 1).clamp(min=0))  # pick * count may round up to count
    drawn = order.gather(2, place)
    itself = torch.arange(batch, device=labels.device)[None, :, None]
    return torch.where(count > 0, drawn, itself).transpose(1, 2).reshape(parts, times * batch)


def images_without_donor(labels: Tensor) -> Tensor:
    """Count the images that have no image of another label beside them.

    Args:
        labels: cluster label of each image, [B].

    Returns:
        The count, scalar int64 on the labels' device (for logging: no synchronisation here).
    """
    different = labels[:, None] != labels[None, :]
    return (~different.any(dim=1)).sum()
