"""Recomposition against a plain loop, and the properties of the draw."""

import itertools
from itertools import permutations

import pytest
import torch

from ccreid.models import draw_donors, images_without_donor, recompose


def loop_oracle(feature_map, donors, parts, times):
    batch, channels, height, _ = feature_map.shape
    result = torch.empty(times * batch, *feature_map.shape[1:], dtype=feature_map.dtype)
    for p in range(parts):
        top = p * (height // parts)
        bottom = height if p == parts - 1 else top + height // parts
        for row in range(times * batch):
            for c in range(channels):
                content = feature_map[row % batch, c, top:bottom]
                donor = feature_map[donors[p, row], c, top:bottom].detach()
                own = content.detach()
                scale = (donor.var(correction=0) + 1e-6).sqrt()
                scale = scale / (own.var(correction=0) + 1e-6).sqrt()
                result[row, c, top:bottom] = (content - own.mean()) * scale + donor.mean()
    return result


@pytest.mark.parametrize(("height", "parts"), [(6, 2), (7, 2), (8, 3), (5, 5), (4, 1)])
@pytest.mark.parametrize("times", [1, 3])
def test_value_and_gradient_equal_a_plain_loop(height, parts, times):
    generator = torch.Generator().manual_seed(height * 10 + parts)
    labels = torch.tensor([0, 0, 1, 2, 2])
    feature_map = torch.randn(5, 4, height, 3, generator=generator, dtype=torch.float64)
    donors = draw_donors(labels, parts, times, generator)
    ours, theirs = (feature_map.clone().requires_grad_() for _ in range(2))
    result = recompose(ours, labels, parts, times, donors)
    expected = loop_oracle(theirs, donors, parts, times)
    torch.testing.assert_close(result, expected)
    weight = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    (result * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_rows_are_k_major_and_wear_the_donors_statistics():
    labels = torch.tensor([0, 1, 2])
    feature_map = torch.randn(3, 2, 8, 4) * torch.tensor([1.0, 3.0, 9.0]).view(3, 1, 1, 1)
    donors = torch.tensor([[1, 2, 0, 2, 0, 1], [2, 0, 1, 1, 2, 0]])
    result = recompose(feature_map, labels, parts=2, times=2, donors=donors)
    for stripe, rows in enumerate((slice(0, 4), slice(4, 8))):
        got, given = result[:, :, rows].flatten(2), feature_map[:, :, rows].flatten(2)
        torch.testing.assert_close(got.mean(2), given.mean(2)[donors[stripe]])
        torch.testing.assert_close(got.std(2), given.std(2)[donors[stripe]], rtol=1e-4, atol=1e-4)
        # The content's order of values, position by position, is that of image row % 3.
        assert torch.equal(got.argsort(2), given.argsort(2).repeat(2, 1, 1))


def test_stripes_without_any_variance_stay_finite():
    feature_map = torch.zeros(4, 2, 4, 1, requires_grad=True)
    result = recompose(feature_map, torch.tensor([0, 0, 1, 1]), parts=4)
    result.sum().backward()
    assert torch.isfinite(result).all()
    assert torch.isfinite(feature_map.grad).all()


def test_low_precision_is_computed_in_float32_and_returned_as_given():
    labels, donors = torch.tensor([0, 1]), torch.tensor([[1, 0], [1, 0]])
    feature_map = torch.randn(2, 3, 8, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = recompose(feature_map, labels, donors=donors)
    expected = recompose(feature_map.float(), labels, donors=donors)
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, expected.bfloat16())


@pytest.mark.parametrize("times", [1, 2])
def test_a_batch_of_one_cluster_is_its_own_donor(times):
    labels = torch.full((4,), 7)
    feature_map = torch.randn(4, 3, 6, 2)
    result = recompose(feature_map, labels, times=times)
    torch.testing.assert_close(result, feature_map.repeat(times, 1, 1, 1))
    assert images_without_donor(labels).item() == 4


def test_images_with_other_clusters_beside_them_have_donors():
    assert images_without_donor(torch.tensor([7, 7, 7, 3])).item() == 0


def test_draw_never_gives_an_image_of_the_same_label_and_never_repeats():
    labels = torch.tensor([0, 0, 1, 1, 1, 2])
    donors = draw_donors(labels, parts=200, times=3, generator=torch.Generator().manual_seed(0))
    assert (labels[donors] != labels.repeat(3)).all()
    per_image = donors.view(200, 3, 6).sort(dim=1).values
    assert (per_image.diff(dim=1) > 0).all()


def test_draw_is_uniform_over_ordered_pairs_and_independent_between_stripes():
    labels = torch.tensor([0, 1, 2, 3])
    draws = 12000
    donors = draw_donors(labels, draws, times=2, generator=torch.Generator().manual_seed(0))
    donors = donors.view(draws, 2, 4)
    for image in range(4):
        others = [j for j in range(4) if j != image]
        for first, second in permutations(others, 2):
            hit = (donors[:, 0, image] == first) & (donors[:, 1, image] == second)
            assert abs(hit.float().mean().item() - 1 / 6) < 0.015  # 4.4 standard deviations
    first_stripe, second_stripe = donors[0::2, 0, 0], donors[1::2, 0, 0]
    assert abs((first_stripe == second_stripe).float().mean().item() - 1 / 3) < 0.025


def test_too_few_donors_are_drawn_with_replacement():
    labels = torch.tensor([0, 0, 0, 1, 2])
    donors = draw_donors(labels, 4000, times=4, generator=torch.Generator().manual_seed(0))
    donors = donors.view(4000, 4, 5)
    of_first = donors[:, :, 0]  # two possible donors, four wanted
    assert set(of_first.unique().tolist()) == {3, 4}
    assert abs((of_first == 3).float().mean().item() - 0.5) < 0.02
    assert abs((of_first[:, 0] == of_first[:, 1]).float().mean().item() - 0.5) < 0.04
    of_last = donors[:, :, 4].sort(dim=1).values  # exactly four possible donors
    assert torch.equal(of_last, torch.tensor([0, 1, 2, 3]).expand(4000, 4))


def test_a_generator_determines_the_draw():
    labels = torch.arange(16) % 5
    feature_map = torch.randn(16, 2, 4, 2)
    first, again, other = (
        recompose(feature_map, labels, times=2, generator=torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"parts": 5}, "between 1 and 4"),
        ({"parts": 0}, "between 1 and 4"),
        ({"times": 0}, "1 or more"),
        ({"donors": torch.zeros(2, 4, dtype=torch.int64)}, r"\[2, 3\]"),
        ({"donors": torch.zeros(1, 3, dtype=torch.int64)}, r"\[2, 3\]"),
        ({"donors": torch.zeros(2, 3)}, "int64"),
    ],
)
def test_impossible_settings_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        recompose(torch.randn(3, 2, 4, 2), torch.arange(3), **settings)


def test_draw_refuses_no_stripe():
    with pytest.raises(ValueError, match="1 or more"):
        draw_donors(torch.arange(3), parts=0, times=1)


def test_the_frames_of_a_clip_share_their_statistics():
    clips = torch.randn(4, 3, 2, 6, 5)  # 3 frames, 2 channels
    labels = torch.tensor([0, 0, 1, 2])
    donors = draw_donors(labels, parts=2, times=2)
    recomposed = recompose(clips, labels, parts=2, times=2, donors=donors)
    assert recomposed.shape == (8, 3, 2, 6, 5)
    for row, part in itertools.product(range(8), range(2)):
        rows = slice(3 * part, 3 * part + 3)
        stripe = recomposed[row, :, :, rows].transpose(0, 1).flatten(1)
        donor = clips[donors[part, row], :, :, rows].transpose(0, 1).flatten(1)
        torch.testing.assert_close(stripe.mean(1), donor.mean(1), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            stripe.std(1, correction=0), donor.std(1, correction=0), atol=1e-4, rtol=1e-4
        )
