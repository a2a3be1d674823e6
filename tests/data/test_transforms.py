import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from ccreid.data.transforms import RandomErasing, TestTransform, TrainTransform, seeded


def noise(height=40, width=20):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_test_transform_is_rgb_in_zero_to_one_and_exact_without_resizing():
    image = noise()
    tensor = TestTransform(40, 20)(image)
    assert tensor.dtype == torch.float32
    assert type(tensor) is torch.Tensor
    expected = torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255
    torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=0)


def test_resizing_agrees_with_pillow():
    image = noise(80, 50)
    expected = np.array(image.resize((20, 40), Image.Resampling.BILINEAR))
    assert np.array_equal(
        (TestTransform(40, 20)(image) * 255).round().byte().permute(1, 2, 0), expected
    )


def test_mask_moves_with_the_image():
    pixels = np.zeros((40, 20, 3), dtype=np.uint8)
    pixels[5:18, 3:9] = 255
    mask = tv_tensors.Mask(torch.from_numpy(pixels[..., 0] // 255))
    transform = TrainTransform(40, 20, pad=6)
    seen = set()
    for seed in range(40):
        with seeded(seed):
            image, moved = transform(Image.fromarray(pixels), mask)
        assert moved.dtype == torch.uint8
        assert torch.equal(image[0] > 0.5, moved.bool())
        seen.add(tuple(moved.nonzero()[0].tolist()) if moved.any() else None)
    assert len(seen) > 20  # shifts and mirrors differ


def test_padding_is_black():
    white = Image.new("RGB", (20, 40), "white")
    corners = []
    for seed in range(30):
        with seeded(seed):
            image, _ = TrainTransform(40, 20, pad=10)(white)
        corners.append(image[:, 0, 0].tolist())
    assert [0.0, 0.0, 0.0] in corners
    assert {value for corner in corners for value in corner} == {0.0, 1.0}


def test_a_seed_decides_the_draw_and_leaves_the_generator_alone():
    transform = TrainTransform(40, 20, erasing=RandomErasing(p=1))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with seeded(11):
        first, _ = transform(noise())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    with seeded(11):
        again, _ = transform(noise())
    with seeded(12):
        other, _ = transform(noise())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def erased_boxes(count, **settings):
    erasing = RandomErasing(p=1.0, fill=(-1.0, -1.0, -1.0), **settings)
    boxes = []
    for seed in range(count):
        with seeded(seed):
            image = erasing(tv_tensors.Image(torch.zeros(3, 384, 192)))
        hit = (image[0] < 0).nonzero()
        top_left, bottom_right = hit.min(0).values, hit.max(0).values
        height, width = (bottom_right - top_left + 1).tolist()
        assert len(hit) == height * width  # one full rectangle
        boxes.append((*top_left.tolist(), height, width))
    return np.array(boxes, dtype=float)


def test_erased_rectangles_follow_the_published_ranges():
    boxes = erased_boxes(600)
    area = boxes[:, 2] * boxes[:, 3] / (384 * 192)
    aspect = boxes[:, 2] / boxes[:, 3]
    assert area.min() > 0.015
    assert area.max() < 0.41
    assert aspect.max() < 3.6
    assert (boxes[:, 2] < 384).all()
    assert (boxes[:, 3] < 192).all()
    # Small rectangles always fit, so their aspect is the drawn one: uniform, not log-uniform.
    small = erased_boxes(400, scale=(0.02, 0.05))
    ratio = small[:, 2] / small[:, 3]
    assert abs(np.median(ratio) - (0.3 + 3.33) / 2) < 0.2  # log-uniform has its median at 1.0


def test_erasing_keeps_masks_and_respects_its_probability():
    erasing = RandomErasing(p=0.5)
    image = tv_tensors.Image(torch.zeros(3, 64, 32))
    mask = tv_tensors.Mask(torch.ones(64, 32, dtype=torch.uint8))
    erased = 0
    for seed in range(400):
        with seeded(seed):
            out, kept = erasing(image, mask)
        assert torch.equal(kept, mask)
        erased += bool(out.any())
    assert 160 < erased < 240


def test_erasing_paints_the_fill_colour():
    with seeded(0):
        out = RandomErasing(p=1)(tv_tensors.Image(torch.zeros(3, 64, 32)))
    colours = out.flatten(1).T.unique(dim=0)
    assert torch.allclose(colours[-1], torch.tensor([0.485, 0.456, 0.406]))


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_other_modes_are_read_as_rgb(mode, tmp_path):
    from ccreid.data.files import read_image

    noise().convert(mode).save(tmp_path / "image.png")
    assert read_image(str(tmp_path / "image.png")).mode == "RGB"


def test_an_enlarged_image_is_a_window_of_itself_and_its_mask_goes_along():
    image = noise(40, 24)
    larger = np.array(image.resize((27, 45), Image.Resampling.BILINEAR))
    mask = (np.arange(40 * 24).reshape(40, 24) % 251).astype(np.uint8)
    larger_mask = np.array(Image.fromarray(mask).resize((27, 45), Image.Resampling.NEAREST))
    transform = TrainTransform(40, 24, mirror=0, pad=0, enlarge=1)
    offsets = set()
    for seed in range(30):
        with seeded(seed):
            crop, labels = transform(image, tv_tensors.Mask(torch.from_numpy(mask)))
        pixels = (crop * 255).round().byte().permute(1, 2, 0).numpy()
        (found,) = [
            (top, left)
            for top in range(6)
            for left in range(4)
            if np.array_equal(larger[top : top + 40, left : left + 24], pixels)
        ]
        offsets.add(found)
        window = larger_mask[found[0] : found[0] + 40, found[1] : found[1] + 24]
        assert np.array_equal(labels.numpy(), window)
    assert len(offsets) > 8
    plain = TrainTransform(40, 24, mirror=0, pad=0, enlarge=0)
    assert torch.equal(plain(image)[0], TestTransform(40, 24)(image))


@pytest.mark.parametrize("source", [(80, 50), (23, 31), (40, 24)])
def test_a_resized_mask_lies_where_pillow_puts_it(source):
    mask = np.random.default_rng(1).integers(0, 10, source, dtype=np.uint8)
    image = Image.new("RGB", source[::-1])
    transform = TrainTransform(40, 24, mirror=0, pad=0)
    labels = transform(image, tv_tensors.Mask(torch.from_numpy(mask)))[1]
    expected = Image.fromarray(mask).resize((24, 40), Image.Resampling.NEAREST)
    assert np.array_equal(labels.numpy(), np.array(expected))
