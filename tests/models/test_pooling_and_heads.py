"""Pooling, neck and classifier."""

import pytest
import torch

from ccreid.models import BNNeck, IdentityClassifier, average_pool, max_average_pool


def test_pooling_values_and_the_maximum_comes_first():
    feature_map = torch.randn(3, 5, 4, 2)
    average, both = average_pool(feature_map), max_average_pool(feature_map)
    assert both.shape == (3, 10)
    for i in range(3):
        for c in range(5):
            torch.testing.assert_close(both[i, c], feature_map[i, c].max())
            torch.testing.assert_close(both[i, 5 + c], feature_map[i, c].mean())
    assert torch.equal(both[:, 5:], average)


def test_pooling_does_not_depend_on_the_memory_format():
    feature_map = torch.randn(2, 5, 4, 3)
    other = feature_map.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(max_average_pool(other), max_average_pool(feature_map))


def test_one_of_several_maxima_receives_the_gradient():
    feature_map = torch.zeros(1, 1, 2, 2, requires_grad=True)
    max_average_pool(feature_map)[0, 0].backward()
    assert sorted(feature_map.grad.flatten().tolist()) == [0, 0, 0, 1]


def test_bnneck_bias_stays_zero_under_training():
    neck = BNNeck(6)
    trainable = [p for p in neck.parameters() if p.requires_grad]
    assert [p is neck.weight for p in trainable] == [True]
    optimizer = torch.optim.SGD(neck.parameters(), lr=1.0)
    neck(torch.randn(8, 6)).square().sum().backward()
    optimizer.step()
    assert torch.equal(neck.bias, torch.zeros(6))
    assert torch.equal(neck.state_dict()["bias"], torch.zeros(6))


def test_classifier_starts_small_and_has_no_bias():
    torch.manual_seed(0)
    classifier = IdentityClassifier(512, 300)
    assert classifier.bias is None
    assert abs(classifier.weight.mean().item()) < 1e-5
    assert abs(classifier.weight.std().item() - 1e-3) < 1e-5
    assert classifier(torch.randn(4, 512)).shape == (4, 300)


@pytest.mark.parametrize("pool", [average_pool, max_average_pool])
def test_a_clip_is_pooled_to_the_mean_of_its_frames(pool):
    clips = torch.randn(2, 4, 3, 5, 6)
    frames = torch.stack([pool(clip) for clip in clips])
    torch.testing.assert_close(pool(clips), frames.mean(1))
