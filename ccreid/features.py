"""The one feature extractor: a list of samples in, their features in list order out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ccreid.data.clips import CAL_CLIPS, ClipRule
from ccreid.data.datamodule import TestImages
from ccreid.data.files import Reader, read_image
from ccreid.data.sample import Sample
from ccreid.data.transforms import TestTransform
from ccreid.errors import require
from ccreid.faults import loading_images, within_memory

Progress = Callable[[int, int], None]
"""Told how many images or clips were done now, and how many there are."""

AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The precisions features can be computed in; None computes without autocast."""


def extract_features(
    embed: Callable[..., Tensor],
    samples: Sequence[Sample],
    transform: TestTransform,
    *,
    device: torch.device,
    mirror: bool = False,
    precision: str = "fp32",
    batch_size: int = 128,
    workers: int = 0,
    progress: Progress | None = None,
    clips: ClipRule = CAL_CLIPS,
    read: Reader = read_image,
    with_camera: bool = False,
    settings: str = "evaluation",
) -> Tensor:
    """Return `embed` of every sample, [N, D] float32 on the CPU, in list order.

    Of a tracklet every frame is embedded: the feature of a clip is the mean over its frames, that
    of a tracklet the mean over the clips that cover it (CAL's rule for CCVID; to be normalised by
    whoever compares). With several processes each embeds every world_size-th image or clip and all
    get the whole result.

    Args:
        embed: images [B, 3, H, W] → features [B, D].
        samples: what to embed; all of it, once. Either images or tracklets.
        transform: image → tensor, without randomness.
        device: where `embed` computes.
        mirror: add the feature of the mirrored image.
        precision: `fp32`, `bf16` or `fp16` (the latter two by autocast).
        batch_size: images at a time (at least one clip); bounds the memory.
        workers: loader processes.
        progress: called after each batch.
        clips: which frames make a clip.
        read: reads an image.
        with_camera: give `embed` the cameras [B] as well.
        settings: the config's node that holds `batch_size`, for messages.

    Raises:
        ConfigError: an unknown precision, no memory for a batch, or a loader process that died.
        DataError: an image that cannot be read.
    """
    rank, world_size = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    everything = TestImages(samples, transform, clips, read)
    mine = Subset(everything, range(rank, len(everything), world_size))
    loader = DataLoader(
        mine,
        batch_size=max(1, batch_size // everything.frames_per_item),
        num_workers=workers,
        generator=torch.Generator(),  # so that extracting features leaves the global one alone
    )
    require(precision in AUTOCAST, "precision", precision, f"one of {', '.join(AUTOCAST)}")
    dtype = AUTOCAST[precision]
    autocast = torch.autocast(device.type, dtype, enabled=dtype is not None)
    shard, done = torch.empty(0), 0
    setting = "data.workers, or evaluation.workers,"
    loading = loading_images("features were extracted", setting, workers)
    enough = within_memory(
        f"embedding batches of {batch_size} images",
        f"Set {settings}.batch_size below {batch_size}.",
    )
    with loading, enough, torch.no_grad(), autocast:
        for images, camid in loader:
            images = images.to(device, non_blocking=True)
            camera = (camid.to(device, non_blocking=True),) if with_camera else ()
            feature = _embed_frames(embed, images, *camera)
            if mirror:
                feature = feature + _embed_frames(embed, images.flip(-1), *camera)
            if not done:
                shard = torch.empty(len(mine), feature.shape[-1])
            # Copied: a feature may be a view, such as a class token, that holds all other tokens.
            shard[done : done + len(feature)] = feature
            done += len(feature)
            if progress is not None:
                progress(len(images) * world_size, len(everything))
    if world_size > 1:
        shard = _interleave(shard, len(everything), world_size, device)
    if len(everything) == len(samples):
        return shard
    return torch.segment_reduce(shard, "mean", lengths=everything.clips_per_sample)


def _embed_frames(embed: Callable[..., Tensor], images: Tensor, *camera: Tensor) -> Tensor:
    """Embed images [B, 3, H, W], or clips [B, T, 3, H, W] as the mean over their frames."""
    if images.ndim == 4:
        return embed(images, *camera).float()
    frames = images.shape[1]
    cameras = (camid.repeat_interleave(frames) for camid in camera)
    features = embed(images.flatten(0, 1), *cameras).float()
    return features.view(-1, frames, features.shape[-1]).mean(dim=1)


def _interleave(mine: Tensor, total: int, world_size: int, device: torch.device) -> Tensor:
    """Put the ranks' shards (every world_size-th row) together again, [total, D]."""
    width = torch.tensor(mine.shape[-1], device=device)
    dist.all_reduce(width, dist.ReduceOp.MAX)  # a rank without an image does not know D
    longest = -(-total // world_size)
    padded = torch.zeros(longest, int(width), device=device)
    if len(mine):
        padded[: len(mine)] = mine.to(device)
    shards = [torch.empty_like(padded) for _ in range(world_size)]
    dist.all_gather(shards, padded)
    return torch.stack(shards, dim=1).flatten(0, 1)[:total].cpu()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode and, afterwards, every part back into the mode it was in.

    With several processes all take rank 0's buffers: each rank's batch-norm statistics have seen
    other images since DDP last did so, and shards of one list must come from one network.
    """
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
