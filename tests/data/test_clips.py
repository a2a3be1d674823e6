from pathlib import Path

import numpy as np
import pytest
import torch

from ccreid.data.clips import draw_clip, evaluation_clips, training_pieces
from ccreid.data.transforms import seeded

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "eval.npz", allow_pickle=False)


def test_evaluation_clips_are_cals():
    clips, tracklet, ranges = [], [], []
    for number, num_frames in enumerate(GOLDEN["E_lengths"].tolist()):
        own = evaluation_clips(num_frames, length=16, stride=4)
        ranges.append([len(clips), len(clips) + len(own)])
        clips += own
        tracklet += [number] * len(own)
    np.testing.assert_array_equal(clips, GOLDEN["E_clip_frames"])
    np.testing.assert_array_equal(tracklet, GOLDEN["E_clip_vid"])
    np.testing.assert_array_equal(ranges, GOLDEN["E_vid2clip_index"])


@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize("stride", [1, 4, 5])
def test_every_frame_is_in_exactly_one_clip(length, stride):
    for num_frames in range(130):
        clips = evaluation_clips(num_frames, length, stride)
        assert len(clips) == -(-num_frames // length)
        assert all(len(clip) == length for clip in clips)
        assert sorted(frame for clip in clips for frame in set(clip)) == list(range(num_frames))


def test_defaults_are_those_of_cals_configuration():
    """By hand: 8 frames every 4th; 43 = one block of 32, one clip of 8, then 3 going round."""
    clips = evaluation_clips(43)
    assert clips[1] == [1, 5, 9, 13, 17, 21, 25, 29]
    assert clips[4:] == [list(range(32, 40)), [40, 41, 42, 40, 41, 42, 40, 41]]


def test_training_pieces_are_cals():
    pieces = [
        (number, piece.start, len(piece))
        for number, num_frames in enumerate(GOLDEN["E_dense_lengths"].tolist())
        for piece in training_pieces(num_frames)
    ]
    expected = [GOLDEN[f"E_dense_{column}"] for column in ("vid", "start", "len")]
    np.testing.assert_array_equal(pieces, np.stack(expected, axis=1))


@pytest.mark.parametrize("piece", [1, 7, 64])
def test_pieces_cover_the_tracklet_once(piece):
    for num_frames in range(200):
        pieces = training_pieces(num_frames, piece)
        assert [frame for part in pieces for frame in part] == list(range(num_frames))
        assert len(pieces) == (max(1, num_frames // piece) if num_frames else 0)


def drawn(frames, draws=400, **options):
    generator = torch.Generator().manual_seed(0)
    return np.array([draw_clip(frames, **options, generator=generator) for _ in range(draws)])


@pytest.mark.parametrize("num_frames", [32, 33, 64, 127])
def test_a_long_piece_gives_every_fourth_frame_from_any_start(num_frames):
    clips = drawn(range(100, 100 + num_frames), draws=2000)
    assert (np.diff(clips, axis=1) == 4).all()
    assert set(clips[:, 0]) == set(range(100, 100 + num_frames - 28))


@pytest.mark.parametrize("num_frames", [8, 15, 16, 29, 31])
def test_a_shorter_piece_gives_one_frame_of_each_equal_chunk(num_frames):
    clips = drawn(range(num_frames))
    chunk = num_frames // 8
    for position in range(8):
        assert set(clips[:, position]) == set(range(position * chunk, (position + 1) * chunk))


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_a_piece_shorter_than_a_clip_repeats_frames_in_order(num_frames):
    clips = drawn(range(num_frames))
    assert clips.shape == (400, 8)
    assert (np.diff(clips, axis=1) >= 0).all()
    assert set(clips.ravel()) == set(range(num_frames))


def test_a_draw_depends_on_its_generator_alone():
    frames = range(90)
    first, second = (draw_clip(frames, generator=torch.Generator().manual_seed(3)) for _ in "ab")
    assert first == second
    clips = []
    for _ in range(2):
        with seeded(5):
            clips.append(draw_clip(frames))
        torch.rand(1)
    assert clips[0] == clips[1]
