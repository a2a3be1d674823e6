"""Which frames of a tracklet make a clip: CAL's rules for video (Gu et al.: CVPR 2022).

Frames are numbered from 0; a clip is a list of frame numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from ccreid.data.sample import Sample
from ccreid.errors import require

LENGTH, STRIDE = 8, 4  # CAL's configuration; the default of its code, 16, is never used
PIECE = 64


@dataclass(frozen=True)
class ClipRule:
    """How tracklets become clips.

    Attributes:
        length: frames of a clip.
        stride: distance of a clip's frames.
        piece: training draws one clip an epoch of every piece of so many frames.

    Raises:
        ConfigError: a number below 1.
    """

    length: int = LENGTH
    stride: int = STRIDE
    piece: int = PIECE

    def __post_init__(self) -> None:
        for name in ("length", "stride", "piece"):
            value = getattr(self, name)
            fits = isinstance(value, int) and value >= 1
            require(fits, f"data.benchmark.clips.{name}", value, "a whole number, 1 or more")


CAL_CLIPS = ClipRule()
"""CAL's rule, by which CCVID's published numbers were made."""


def evaluation_clips(
    num_frames: int, length: int = LENGTH, stride: int = STRIDE
) -> list[list[int]]:
    """Cover a whole tracklet: every frame is in exactly one clip.

    Blocks of length·stride frames give `stride` clips each, clip j taking every stride-th frame
    from the j-th. The remainder is one smaller block of the same kind, its stride the largest that
    fits. The frames left over, fewer than `length`, make one clip by going round.

    Args:
        num_frames: frames of the tracklet.
        length: frames of a clip.
        stride: distance of a clip's frames.

    Returns:
        ⌈num_frames / length⌉ clips of `length` frame numbers each.
    """
    clips = []
    start = 0
    while (step := min(stride, (num_frames - start) // length)) > 0:
        block = range(start, start + step * length)
        clips += [list(block[offset::step]) for offset in range(step)]
        start = block.stop
    if rest := range(start, num_frames):
        clips.append([rest[i % len(rest)] for i in range(length)])
    return clips


def training_pieces(num_frames: int, piece: int = PIECE) -> list[range]:
    """Split a tracklet into pieces, of each of which training draws one clip an epoch.

    Args:
        num_frames: frames of the tracklet.
        piece: frames of a piece; the last one takes the rest as well, so that only a tracklet
            shorter than this makes a shorter piece.
    """
    starts = range(0, max(num_frames - piece, 0) + 1, piece) if num_frames else range(0)
    return [range(start, start + piece) for start in starts[:-1]] + [
        range(start, num_frames) for start in starts[-1:]
    ]


def draw_clip(
    frames: Sequence[int],
    length: int = LENGTH,
    stride: int = STRIDE,
    generator: torch.Generator | None = None,
) -> list[int]:
    """Draw one training clip.

    From length·stride frames on: every stride-th frame from a random start. From `length` on: one
    random frame of each of `length` equal chunks. Below: sorted draws with replacement.

    Args:
        frames: the frame numbers of a piece, ascending, at least one.
        length: frames of the clip.
        stride: distance of its frames.
        generator: decides the draw together with the arguments; None is torch's own, which the
            loader seeds per draw.

    Returns:
        `length` frame numbers, ascending.
    """

    def below(end: int, count: int) -> list[int]:
        draws: list[int] = torch.randint(end, (count,), generator=generator).tolist()
        return draws

    if len(frames) >= length * stride:
        (start,) = below(len(frames) - (length - 1) * stride, 1)
        positions = list(range(start, start + length * stride, stride))
    elif (chunk := len(frames) // length) > 0:  # what equal chunks leave at the end is never drawn
        positions = [i * chunk + offset for i, offset in enumerate(below(chunk, length))]
    else:
        positions = sorted(below(len(frames), length))
    return [frames[position] for position in positions]


def training_samples(samples: Iterable[Sample], rule: ClipRule) -> Iterator[Sample]:
    """Yield what an epoch draws from: images as they are, of a tracklet every piece."""
    for sample in samples:
        if not sample.frames:
            yield sample
        for piece in training_pieces(len(sample.frames), rule.piece):
            yield replace(sample, frames=sample.frames[piece.start : piece.stop])
