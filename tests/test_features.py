from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.clips import ClipRule, evaluation_clips
from ccreid.data.files import read_image
from ccreid.data.sample import Sample
from ccreid.data.transforms import TestTransform
from ccreid.features import evaluating, extract_features

TRANSFORM = TestTransform(16, 8)
GOLDEN = np.load(Path(__file__).parent / "golden" / "eval.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def samples():
    return Virtual().query[:23]


def left_half(images):
    """A feature that mirroring changes."""
    return images[..., :4].flatten(1)


def extract(samples, **settings):
    return extract_features(left_half, samples, TRANSFORM, device=torch.device("cpu"), **settings)


@pytest.mark.parametrize("batch_size", [1, 5, 23, 64])
@pytest.mark.parametrize("workers", [0, 2])
def test_features_come_in_list_order(samples, batch_size, workers):
    expected = torch.stack([TRANSFORM(read_image(s.path))[..., :4].flatten() for s in samples])
    assert torch.equal(extract(samples, batch_size=batch_size, workers=workers), expected)


def test_mirroring_adds_the_mirrored_feature(samples):
    images = torch.stack([TRANSFORM(read_image(s.path)) for s in samples])
    expected = left_half(images) + left_half(images.flip(-1))
    assert torch.equal(extract(samples, mirror=True), expected)


def test_progress_adds_up(samples):
    told = []
    extract(samples, batch_size=5, progress=lambda *numbers: told.append(numbers))
    assert sum(done for done, _ in told) == len(samples)
    assert {total for _, total in told} == {len(samples)}


def test_a_camera_reaches_only_who_asks(samples):
    def embed(images, camid):
        return camid[:, None].float().expand(-1, 2)

    features = extract_features(
        embed, samples, TRANSFORM, device=torch.device("cpu"), batch_size=4, with_camera=True
    )
    assert features[:, 0].tolist() == [sample.camid for sample in samples]


class Tracklets:
    """CAL's golden tracklets: a picture says of which clip its frame is one."""

    rule = ClipRule(length=16, stride=4)
    clip_features = torch.from_numpy(GOLDEN["E_clip_feats"]).float()

    def __init__(self):
        self.clip_of_frame = {}
        first = 0
        for video, num_frames in enumerate(GOLDEN["E_lengths"].tolist()):
            for number, clip in enumerate(evaluation_clips(num_frames, 16, 4), start=first):
                self.clip_of_frame |= {f"{video}/{frame}": number for frame in clip}
            first = number + 1
        self.samples = [
            Sample(str(video), pid=video, frames=tuple(f"{video}/{i}" for i in range(num_frames)))
            for video, num_frames in enumerate(GOLDEN["E_lengths"].tolist())
        ]
        self.seen = []

    def read(self, path):
        return Image.new("RGB", (8, 16), (self.clip_of_frame[path], 0, 0))

    def embed(self, images):
        self.seen.append(len(images))
        return self.clip_features[(images[:, 0, 0, 0] * 255).round().long()]


@pytest.mark.parametrize("batch_size", [1, 40, 1000])
def test_a_tracklets_feature_is_cals(batch_size):
    videos = Tracklets()
    features = extract_features(
        videos.embed,
        videos.samples,
        TRANSFORM,
        device=torch.device("cpu"),
        batch_size=batch_size,
        clips=videos.rule,
        read=videos.read,
    )
    features = nn.functional.normalize(features).numpy()
    np.testing.assert_allclose(features, GOLDEN["E_tracklet_feats"], atol=1e-6)
    # However long a tracklet is, no more frames are held than the batch allows: 16 make a clip.
    assert max(videos.seen) <= max(16, batch_size)


def test_precision_reaches_the_network(samples):
    seen = []
    linear = nn.Linear(192, 4)

    def embed(images):
        features = linear(left_half(images))
        seen.append(features.dtype)
        return features

    for precision in ("fp32", "bf16"):
        result = extract_features(
            embed, samples, TRANSFORM, device=torch.device("cpu"), precision=precision
        )
        assert result.dtype == torch.float32
    assert seen == [torch.float32, torch.bfloat16]


def test_evaluating_restores_every_part(samples):
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout())
    network.train()
    network[0].eval()  # a frozen part stays frozen
    with pytest.raises(ZeroDivisionError), evaluating(network):
        _ = 1 / any(part.training for part in network.modules())  # none is: 1 / 0
    assert [part.training for part in network.modules()] == [True, False, True]
