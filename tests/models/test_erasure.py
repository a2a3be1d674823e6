"""Clothes erasure and random erasing on the device, against loops and closed forms."""

import pytest
import torch
from scipy.stats import ks_2samp
from torchvision import tv_tensors

from ccreid.data.transforms import RandomErasing
from ccreid.errors import ConfigError
from ccreid.models.erasure import (
    FILLS,
    dilate,
    erase_clothes,
    plausible_bodies,
    trusted_masks,
    vertical_prior,
)
from ccreid.models.random_erasing import BatchRandomErasing

GARMENTS = (2, 3, 4, 9)


def scene(seed=0, batch=4, height=24, width=16):
    """Images, and garments 2 (upper) and 3 (lower) in them; the last image wears only 3."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, 3, height, width, generator=generator)
    garments = torch.zeros(batch, height, width, dtype=torch.uint8)
    garments[:-1, 6:12, 4:11] = 2
    garments[:, 12:20, 5:9] = 3
    return images, garments


@pytest.mark.parametrize("fill", FILLS)
def test_what_is_not_clothes_stays_bit_for_bit(fill):
    images, garments = scene()
    erased = erase_clothes(images, garments, fill)
    outside = (garments == 0)[:, None].expand_as(images)
    assert torch.equal(erased[outside], images[outside])
    assert not torch.equal(erased, images)
    assert erased.min() >= 0
    assert erased.max() <= 1 + 1e-6
    assert torch.equal(erase_clothes(images, torch.zeros_like(garments), fill), images)


def test_constant_fills():
    images, garments = scene()
    inside = garments > 0
    assert (erase_clothes(images, garments, "black").permute(0, 2, 3, 1)[inside] == 0).all()
    mean = torch.tensor([0.1, 0.5, 0.9])
    painted = erase_clothes(images, garments, "mean", mean).permute(0, 2, 3, 1)[inside]
    assert torch.equal(painted, mean.expand_as(painted))


def test_random_colours_are_one_per_image_and_garment():
    images, garments = scene()
    erased = erase_clothes(images, garments, "random_color").permute(0, 2, 3, 1)
    colours = []
    for image in range(4):
        for label in (2, 3):
            pixels = erased[image][garments[image] == label]
            if len(pixels):
                assert (pixels == pixels[0]).all()
                colours.append(tuple(pixels[0].tolist()))
    assert len(set(colours)) == 7


def test_noise_is_uniform_and_follows_its_generator():
    images, garments = scene(batch=16, height=64, width=32)

    def noise(seed):
        generator = torch.Generator().manual_seed(seed)
        return erase_clothes(images, garments, "noise", generator=generator)

    assert torch.equal(noise(0), noise(0))
    painted = noise(0).permute(0, 2, 3, 1)[garments > 0]
    assert painted.mean().item() == pytest.approx(0.5, abs=0.02)
    assert painted.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_swapped_pixels_come_from_the_same_garment_of_another_image():
    images, garments = scene()
    erased = erase_clothes(images, garments, "swap").permute(0, 2, 3, 1)
    pixels = images.permute(0, 2, 3, 1)
    for image in range(4):
        for label in (2, 3):
            where = garments[image] == label
            taken = {tuple(p) for p in erased[image][where].tolist()}
            donors = [
                donor
                for donor in range(4)
                if donor != image
                and taken <= {tuple(p) for p in pixels[donor][garments[donor] == label].tolist()}
            ]
            if where.any():
                assert len(donors) == 1
                assert len(taken) > 3


def test_a_garment_that_nobody_else_wears_is_black_when_swapped():
    images, garments = scene(batch=2)  # the second image has no 2
    erased = erase_clothes(images, garments, "swap").permute(0, 2, 3, 1)
    assert (erased[0][garments[0] == 2] == 0).all()
    assert (erased[0][garments[0] == 3] != 0).any()


def test_blur_keeps_flat_colours_and_flattens_the_rest():
    images, garments = scene()
    flat = torch.full_like(images, 0.3)
    torch.testing.assert_close(erase_clothes(flat, garments, "blur"), flat)
    before = images.permute(0, 2, 3, 1)[garments > 0].std()
    after = erase_clothes(images, garments, "blur").permute(0, 2, 3, 1)[garments > 0].std()
    assert after < before / 4


@pytest.mark.parametrize("fill", ["black", "mean", "blur"])
@pytest.mark.parametrize("pixels", [0, 2])
def test_erasing_and_mirroring_commute(fill, pixels):
    images, garments = scene()
    mirrored = erase_clothes(images.flip(-1), dilate(garments.flip(-1), pixels), fill)
    erased = erase_clothes(images, dilate(garments, pixels), fill)
    torch.testing.assert_close(mirrored, erased.flip(-1))


def test_dilation_grows_by_pixels_and_keeps_labels():
    garments = torch.zeros(1, 9, 9, dtype=torch.uint8)
    garments[0, 4, 4], garments[0, 4, 5] = 2, 3
    grown = dilate(garments, 1)
    assert grown.dtype == garments.dtype
    assert grown[0, 3:6, 3].tolist() == [2, 2, 2]
    assert grown[0, 4].tolist() == [0, 0, 0, 2, 2, 3, 3, 0, 0]
    assert (grown > 0).sum() == 12
    assert dilate(garments, 0) is garments


def test_unknown_fills_list_the_choices():
    with pytest.raises(ValueError, match="black, mean, noise, random_color, swap, blur"):
        erase_clothes(*scene(), "white")


def body_of(body, clothes, size=(20, 10)):
    """A mask in which the first `body` pixels are skin, of which `clothes` wear something."""
    mask = torch.zeros(size[0] * size[1], dtype=torch.uint8)
    mask[:body], mask[:clothes] = 5, 2
    return mask.view(1, *size)


@pytest.mark.parametrize(
    ("body", "clothes", "trusted"),
    [
        (0, 0, False),  # all background
        (9, 5, False),  # 4.5 % of the image
        (10, 5, True),
        (190, 60, True),
        (191, 60, False),  # 95.5 %
        (100, 10, True),
        (100, 9, False),  # 9 % of the body
    ],
)
def test_masks_are_trusted_within_the_bounds(body, clothes, trusted):
    mask = body_of(body, clothes)
    assert trusted_masks(mask, GARMENTS).tolist() == [trusted]
    assert plausible_bodies(mask).tolist() == [10 <= body <= 190]


def test_the_vertical_prior_follows_the_bands():
    labels = torch.zeros(2, 120, 40, dtype=torch.uint8)
    labels[0, 10:110, 10:30] = 1  # a body of 100 rows; row r of it spans r to r + 1 percent
    prior = vertical_prior(labels, upper=2, lower=3)
    rows = prior[0, 10:110, 15].tolist()
    assert rows == [0] * 17 + [2] * 35 + [3] * 41 + [0] * 7
    assert (prior[0][labels[0] == 0] == 0).all()
    assert (prior[1] == 0).all()
    labels[1] = 1  # a silhouette that fills the image says nothing
    assert (vertical_prior(labels, 2, 3)[1] == 0).all()


def test_a_rectangle_is_painted_where_the_box_says():
    erasing = BatchRandomErasing(p=0.7)
    images = torch.rand(64, 3, 20, 10)
    colour = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    boxes = erasing.boxes(64, 20, 10, images.device, torch.Generator().manual_seed(3))
    erased = erasing(images, colour, torch.Generator().manual_seed(3))
    expected = images.clone()
    for i, (top, left, h, w) in enumerate(boxes.tolist()):
        expected[i, :, top : top + h, left : left + w] = colour[0]
    assert torch.equal(erased, expected)
    assert 0 < (boxes.sum(dim=1) == 0).sum() < 64


def test_the_rectangles_are_distributed_as_the_loaders():
    height, width, number = 48, 24, 1500
    torch.manual_seed(0)
    batched = BatchRandomErasing(p=1.0).boxes(number, height, width, torch.device("cpu"))
    loader = RandomErasing(p=1.0)
    image = tv_tensors.Image(torch.zeros(3, height, width))
    single = torch.tensor([loader.make_params([image])["box"] for _ in range(number)])
    assert ((batched[:, :2] + batched[:, 2:]) <= torch.tensor([height, width])).all()
    assert (batched[:, 2:] < torch.tensor([height, width])).all()
    for side in range(4):
        assert ks_2samp(batched[:, side], single[:, side]).pvalue > 0.01, side
    areas = [(boxes[:, 2] * boxes[:, 3]).numpy() for boxes in (batched, single)]
    assert ks_2samp(*areas).pvalue > 0.01


def test_the_probability_is_kept_and_a_range_that_never_fits_erases_nothing():
    boxes = BatchRandomErasing(p=0.5).boxes(4000, 48, 24, torch.device("cpu"))
    assert (boxes[:, 2] > 0).float().mean().item() == pytest.approx(0.5, abs=0.04)
    never = BatchRandomErasing(p=1.0, scale=(2.0, 3.0)).boxes(8, 48, 24, torch.device("cpu"))
    assert (never == 0).all()


def test_the_frames_of_a_clip_are_erased_alike():
    clips = torch.ones(5, 4, 3, 20, 10)
    erased = BatchRandomErasing(p=1.0)(clips, torch.zeros(1, 3, 1, 1))
    assert (erased == 0).any()
    assert torch.equal(erased, erased[:, :1].expand_as(erased))


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"p": 1.5}, "between 0 and 1"), ({"scale": (0.4, 0.1)}, "low <= high")],
)
def test_impossible_rectangles(settings, said):
    with pytest.raises(ConfigError, match=said):
        BatchRandomErasing(**settings)
