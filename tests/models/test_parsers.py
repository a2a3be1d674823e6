"""The real loading code of transformers on a small random SegFormer; the hub is never asked."""

import pickle
import sys
from types import SimpleNamespace

import ccreid  # noqa: F401 - before transformers: makes torchvision importable

# isort: split
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

from ccreid.errors import ConfigError
from ccreid.models.parsers import SegmentationParser
from tests.miniature.segformer import write_segformer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_segformer(tmp_path_factory.mktemp("segformer"))


@pytest.fixture
def parser(folder):
    return SegmentationParser(str(folder), "atr18")


def test_a_local_folder_gives_its_weights_in_eval_mode(folder, parser):
    saved = transformers.SegformerForSemanticSegmentation.from_pretrained(folder).state_dict()
    loaded = parser.network.state_dict()
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(value, saved[key]) for key, value in loaded.items())
    assert parser.num_labels == 18
    assert not any(part.training for part in parser.network.modules())


def test_images_are_prepared_as_the_processor_says(parser):
    pixels = parser.preprocess(Image.new("RGB", (11, 37), (255, 0, 51)))
    assert pixels.shape == (3, 64, 32)
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert pixels.mean((1, 2)).tolist() == pytest.approx(expected, abs=1e-3)


def test_an_image_is_segmented_alone_as_in_a_batch(parser):
    torch.manual_seed(1)
    pixels, sizes = torch.randn(3, 3, 64, 32), [(50, 20), (64, 32), (7, 90)]
    with torch.no_grad():
        masks = parser(pixels, sizes)
        for one, size, mask in zip(pixels, sizes, masks, strict=True):
            assert mask.shape == size
            assert mask.dtype == torch.uint8
            assert torch.equal(mask, parser(one[None], [size])[0])
    assert len(set(masks[0].flatten().tolist())) > 1


class RedOrBlue(nn.Module):
    """Label 4 where an image is red and 15 where it is blue, a quarter as large, as SegFormer."""

    def forward(self, pixel_values):
        logits = torch.zeros(len(pixel_values), 18, *pixel_values.shape[-2:])
        logits[:, 4], logits[:, 15] = pixel_values[:, 0], pixel_values[:, 2]
        return SimpleNamespace(logits=nn.functional.avg_pool2d(logits, 4))


def test_masks_lie_over_their_images(parser):
    parser.network = RedOrBlue()
    for width, height in ((32, 64), (50, 120), (128, 256)):
        image = Image.new("RGB", (width, height), (255, 0, 0))
        image.paste((0, 0, 255), (0, height // 2, width // 2, height))  # the lower left quarter
        (mask,) = parser(parser.preprocess(image)[None], [(height, width)])
        expected = torch.full((height, width), 4)
        expected[height // 2 :, : width // 2] = 15
        assert (mask == expected).float().mean() > 0.97


def test_what_loader_processes_need_is_small(parser):
    copy = pickle.loads(pickle.dumps(parser.preprocess))
    image = Image.new("RGB", (20, 40), (9, 99, 200))
    assert torch.equal(copy(image), parser.preprocess(image))
    assert len(pickle.dumps(parser.preprocess)) < 10_000


def test_missing_transformers_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r'pip install "ccreid\[parse\]"'):
        SegmentationParser(str(folder), "atr18")


def test_an_unreachable_hub_asks_for_a_local_folder(monkeypatch):
    def unreachable(source, local_files_only, **settings):
        assert source == "mattmdjaga/segformer_b2_clothes"
        assert not local_files_only
        raise OSError("no route to the hub")

    monkeypatch.setattr(
        transformers.AutoModelForSemanticSegmentation, "from_pretrained", unreachable
    )
    with pytest.raises(ConfigError, match="no route to the hub") as error:
        SegmentationParser("mattmdjaga/segformer_b2_clothes", "atr18")
    assert "local folder" in str(error.value)


@pytest.mark.parametrize("model", ["/nowhere/segformer", "./nowhere", "~/no/where", "a/b/c"])
def test_a_path_that_does_not_exist_is_never_asked_of_the_hub(model, monkeypatch):
    monkeypatch.setattr(transformers.AutoModelForSemanticSegmentation, "from_pretrained", None)
    with pytest.raises(ConfigError, match="there is no folder"):
        SegmentationParser(model, "atr18")


@pytest.mark.parametrize("absent", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_says_what_it_should_hold(tmp_path, absent):
    folder = write_segformer(tmp_path)
    (folder / absent).unlink()
    with pytest.raises(ConfigError, match="could not be loaded") as error:
        SegmentationParser(str(folder), "atr18")
    assert absent in str(error.value)


def test_an_encoder_alone_is_refused(tmp_path):
    folder = write_segformer(tmp_path)
    network = transformers.SegformerForSemanticSegmentation.from_pretrained(folder)
    network.segformer.save_pretrained(folder)
    with pytest.raises(ConfigError, match=r"lacks \d+ tensors .*decode_head"):
        SegmentationParser(str(folder), "atr18")
