"""Activation maps against their formula, and the attention sheet pixel by pixel."""

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image
from torch import nn

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.files import read_labels
from ccreid.data.sample import Sample
from ccreid.data.transforms import TestTransform
from ccreid.errors import ConfigError, DataError
from ccreid.viz.attention import Maps, activation_map, enlarged, load_masks, look
from ccreid.viz.attention_sheet import LABEL_COLOURS, Layout, draw_attention, overlay

PAPER = (255, 255, 255)


def inferno(share):
    return 255 * np.array(colormaps["inferno"](float(share))[:3])


def test_the_map_is_every_positions_part_of_the_mean_feature():
    features = torch.randn(3, 5, 4, 2, generator=torch.Generator().manual_seed(0))
    maps = activation_map(features)
    for image, values in zip(features, maps, strict=True):
        mean = sum(image[:, y, x] for y in range(4) for x in range(2)) / 8
        for y in range(4):
            for x in range(2):
                expected = float(image[:, y, x] @ mean / (mean @ mean))
                assert float(values[y, x]) == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(maps.mean(dim=(1, 2)), torch.ones(3))
    torch.testing.assert_close(activation_map(7 * features), maps)


def test_a_position_alone_gives_everything():
    features = torch.zeros(1, 4, 3, 2)
    features[0, :, 2, 1] = torch.tensor([1.0, -2.0, 0.5, 3.0])
    expected = torch.zeros(1, 3, 2)
    expected[0, 2, 1] = 6
    torch.testing.assert_close(activation_map(features), expected)
    assert (activation_map(torch.zeros(1, 4, 3, 2)) == 1).all()


def test_a_map_is_enlarged_around_its_cells_centres():
    values = torch.tensor([[0.0, 1.0], [0.25, 0.5]])
    large = enlarged(values, (6, 6))
    np.testing.assert_allclose(large[1::3, 1::3], values, atol=1e-6)
    np.testing.assert_allclose(large[1, 1:5], [0, 1 / 3, 2 / 3, 1], atol=1e-6)


def test_the_overlay_mixes_grey_image_and_colour():
    image = Image.new("RGB", (8, 16), (200, 100, 0))
    grey = np.asarray(image.convert("L"))[0, 0]
    for value, share in ((2.0, 0.0), (3.0, 0.5), (4.0, 1.0), (9.0, 1.0)):
        pixels = np.asarray(overlay(image, torch.full((2, 2), value), 2, 4), dtype=float)
        expected = 0.4 * grey + 0.6 * inferno(share)
        np.testing.assert_allclose(pixels, np.broadcast_to(expected, pixels.shape), atol=0.51)
    flat = np.asarray(overlay(image, torch.full((2, 2), 1.0), 1, 1), dtype=float)
    np.testing.assert_allclose(flat[0, 0], 0.4 * grey + 0.6 * inferno(1), atol=0.51)


def sheet_of(number, masks=None, stages=("layer3",), **options):
    """Image i is plain; its activation is hot in cell (i, 1), its attention in cell (0, 0)."""
    activation = torch.zeros(number, 4, 2)
    attention = torch.full((number, 2, 2), 0.2)
    for image in range(number):
        activation[image, image % 4, 1] = 2
    attention[:, 0, 0] = 1
    pictures = [Image.new("RGB", (50, 70), (20 * i, 120, 240 - 20 * i)) for i in range(number)]
    sheet = draw_attention(
        pictures, Maps(activation, dict.fromkeys(stages, attention)), masks, **options
    )
    return np.asarray(sheet)


def cell(pixels, layout, number, column):
    x, y = layout.image(number, column)
    return pixels[y : y + 2 * layout.width, x : x + layout.width].astype(int)


def test_every_picture_stands_in_its_column():
    masks = [np.full((5, 3), label, dtype=np.uint8) for label in (1, 2, 3)] + [None]
    pixels = sheet_of(4, masks)
    layout = Layout(images=4, columns=4, width=96)
    assert pixels.shape == (layout.size[1], layout.size[0], 3)
    for number in range(4):
        image = (20 * number, 120, 240 - 20 * number)
        assert (cell(pixels, layout, number, 0) == image).all()
        activation = cell(pixels, layout, number, 1).sum(2)
        hot = activation[48 * number + 24, 72]  # the middle of cell (number, 1) of 4 by 2
        assert activation.max() - 10 <= hot > activation[48 * number + 24, 10] + 150
        if number < 3:
            assert (cell(pixels, layout, number, 2) == LABEL_COLOURS[number + 1]).all()
        attention = cell(pixels, layout, number, 3).sum(2)
        assert attention[20, 20] == attention.max() > attention[150, 80] + 150
    empty = cell(pixels, layout, 3, 2)
    assert (empty[0, 0] == (222, 224, 228)).all()
    assert (empty[90:102].min(2) < 160).any()  # says that there is no mask


def test_activation_has_one_range_for_the_sheet_and_attention_from_0_to_1():
    activation = torch.stack([torch.full((2, 2), 0.5), torch.full((2, 2), 1.5)])
    attention = {"layer3": torch.full((2, 2, 2), 0.5)}
    black = [Image.new("RGB", (10, 20))] * 2
    pixels = np.asarray(draw_attention(black, Maps(activation, attention)))
    layout = Layout(images=2, columns=3, width=96)
    for number, column, share in ((0, 1, 0), (1, 1, 1), (0, 2, 0.5), (1, 2, 0.5)):
        middle = cell(pixels, layout, number, column)[96, 48]
        np.testing.assert_allclose(middle, 0.6 * inferno(share), atol=0.51)


def test_without_masks_and_attention_two_columns_are_left():
    pixels = sheet_of(3, stages=())
    layout = Layout(images=3, columns=2, width=96)
    assert pixels.shape[:2] == (layout.size[1], layout.size[0])
    assert (cell(pixels, layout, 2, 0) == (40, 120, 200)).all()
    (x, y), right = layout.image(0, 1), layout.image(1, 0)[0]
    assert (pixels[y : y + 192, x + 96 : right] == PAPER).all()


def test_blocks_do_not_overlap():
    for images in range(1, 9):
        for columns in range(2, 7):
            layout = Layout(images, columns, width=40)
            taken = np.zeros(layout.size[::-1], dtype=int)
            for number in range(images):
                for column in range(columns):
                    x, y = layout.image(number, column)
                    assert taken[y : y + 80, x : x + 40].shape == (80, 40)
                    taken[y : y + 80, x : x + 40] += 1
            assert taken.max() == 1


def test_only_labels_that_occur_are_explained():
    mask = np.array([[0, 1], [5, 5]], dtype=np.uint8)
    pixels = sheet_of(1, [mask])
    layout = Layout(images=1, columns=4, width=96)
    legend = pixels[-layout.label :].reshape(-1, 3)
    shown = {label for label in range(10) if (legend == LABEL_COLOURS[label]).all(1).sum() > 150}
    assert shown == {0, 1, 5}
    assert len({tuple(colour) for colour in LABEL_COLOURS.tolist()}) == 10


def test_captions_and_headings_are_written():
    layout = Layout(images=1, columns=3, width=96)
    with_text, without = sheet_of(1, captions=["person 7"], title="Where"), sheet_of(1)
    x, y = layout.image(0, 0)
    for rows in (slice(10, 40), slice(y + 192, y + 192 + layout.caption)):
        assert (without[rows] == 255).all()
        assert (with_text[rows].min(2) < 100).sum() > 40
    for column in range(3):
        left = x + column * 100
        assert (without[y - 40 : y - 20, left : left + 96].min(2) < 100).any()


def test_unequal_numbers_are_refused():
    maps = Maps(torch.ones(2, 2, 2), {})
    images = [Image.new("RGB", (4, 8))] * 2
    for wrong in ((images[:1], maps), (images, maps, [None]), (images, maps, None, ["a"])):
        with pytest.raises(DataError, match="cannot be drawn"):
            draw_attention(*wrong)
    with pytest.raises(ConfigError, match="width"):
        draw_attention(images, maps, width=0)


class Stub(nn.Module):
    """Its activation is hot where the image's red channel says; attention is its green channel."""

    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def backbone(self, images):
        assert not self.training
        assert len(images) <= 16
        maps = torch.zeros(len(images), 1, 1, 32)
        maps[torch.arange(len(images)), 0, 0, (255 * images[:, 0, 0, 0]).round().long()] = 1
        return maps

    def attention(self, images):
        return {"layer3": images[:, 1:2, ::8, ::8]}


class WithoutAttention(Stub):
    def attention(self, images):
        return {}


def test_all_images_are_looked_at_in_their_order(tmp_path):
    numbers = np.random.default_rng(0).permutation(20)
    samples = []
    for number in numbers.tolist():
        file = tmp_path / f"{number}.png"
        Image.new("RGB", (16, 32), (number, 10 * number, 0)).save(file)
        samples.append(Sample(str(file), pid=1))
    frames = tuple(sample.path for sample in samples[:3])
    samples.append(Sample(str(tmp_path), pid=1, frames=frames))
    method = Stub().train()
    maps = look(method, samples, TestTransform(32, 16))
    expected = [*numbers, numbers[1]]  # the middle frame stands for the tracklet
    np.testing.assert_array_equal(maps.activation[:, 0].argmax(1), expected)
    assert maps.attention["layer3"].shape == (21, 4, 2)
    np.testing.assert_allclose(maps.attention["layer3"][:, 3, 1] * 25.5, expected, rtol=1e-5)
    assert method.training
    assert look(WithoutAttention(), samples[:2], TestTransform(32, 16)).attention == {}


def test_masks_are_those_of_their_images():
    class Gaps(Virtual):
        def parsing_path(self, sample):
            return None if sample.pid == 70 else super().parsing_path(sample)

    benchmark = Gaps()
    samples = [next(s for s in benchmark.query if s.pid == pid) for pid in (66, 70, 65)]
    masks = load_masks(benchmark, {"on_missing": "error"}, samples)
    assert masks[1] is None
    for position in (0, 2):
        exact = read_labels(benchmark.parsing_path(samples[position]))
        np.testing.assert_array_equal(masks[position], exact)
        assert len(np.unique(exact)) > 4
    with pytest.raises(DataError, match="No parsing mask"):
        load_masks(benchmark, {}, samples[1:2])
