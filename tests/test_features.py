import pytest
import torch
from torch import nn

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.files import read_image
from ccreid.data.transforms import TestTransform
from ccreid.features import evaluating, extract_features

TRANSFORM = TestTransform(16, 8)


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
    done = []
    extract(samples, batch_size=5, progress=done.append)
    assert sum(done) == len(samples)


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
