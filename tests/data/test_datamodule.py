import pytest
import torch
from torch.utils.data import default_collate

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.files import read_image
from ccreid.data.protocols import Protocol
from ccreid.data.transforms import RandomErasing, TestTransform, TrainTransform
from ccreid.errors import ConfigError, DataError
from tests.conftest import trainer_at


@pytest.fixture(scope="module")
def benchmark():
    return Virtual()


def build(benchmark, epoch=0, **settings):
    data = ReIDDataModule(
        benchmark,
        TrainTransform(32, 16, erasing=RandomErasing()),
        TestTransform(32, 16),
        **settings,
    )
    data.trainer = trainer_at(epoch)
    return data


def first_batches(data, count=3):
    loader = data.train_dataloader()
    batches = []
    for batch in loader:
        batches.append(batch)
        if len(batches) == count:
            break
    return batches


def test_batches_are_named_and_agree_with_the_samples(benchmark):
    data = build(benchmark, workers=0)
    (batch, *_) = first_batches(data)
    assert set(batch) == {"image", "pid", "camid", "clothes_id", "index"}
    assert batch["image"].shape == (32, 3, 32, 16)
    assert 0 <= batch["image"].min() < batch["image"].max() <= 1
    train_pids = sorted({sample.pid for sample in benchmark.train})
    for row, index in enumerate(batch["index"].tolist()):
        sample = benchmark.train[index]
        assert train_pids[batch["pid"][row]] == sample.pid
        assert batch["camid"][row] == sample.camid
    assert (data.num_identities, data.num_clothes) == (64, 256)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_neither_order_nor_augmentation(benchmark, workers):
    alone = first_batches(build(benchmark, workers=0))
    helped = first_batches(build(benchmark, workers=workers))
    for one, other in zip(alone, helped, strict=True):
        for key, value in one.items():
            assert torch.equal(value, other[key])


def test_epochs_and_seeds_differ(benchmark):
    def indices(**settings):
        return first_batches(build(benchmark, workers=0, **settings), 1)[0]["index"].tolist()

    assert indices() == indices()
    assert indices() != indices(epoch=1)
    assert indices() != indices(seed=1)


def test_masks_come_when_required_and_fit_the_image(benchmark):
    data = build(benchmark, workers=0, requires={"parsing"})
    (batch, *_) = first_batches(data, 1)
    assert batch["parsing"].shape == (32, 32, 16)
    assert batch["parsing"].dtype == torch.uint8
    assert batch["parsing"].max() <= 9
    assert batch["parsing"].any(dim=0).any()


def test_missing_side_information_is_refused_before_training(benchmark, monkeypatch):
    monkeypatch.setattr(Virtual, "parsing_path", lambda self, sample: None)
    with pytest.raises(DataError, match="No parsing mask"):
        build(benchmark, requires={"parsing"})
    monkeypatch.setattr(Virtual, "captions", lambda self, sample: None)
    with pytest.raises(DataError, match="comes without captions"):
        build(benchmark, requires={"captions"})
    with pytest.raises(ConfigError, match="unknown side information"):
        build(benchmark, requires={"poses"})


def test_queries_without_match_are_found_at_load_time(benchmark, monkeypatch):
    assert build(benchmark).unanswerable == {"general": 0, "sc": 0, "cc": 0}
    nobody = Protocol("empty", "standard", frozenset({0}), frozenset({0}))
    monkeypatch.setattr(Virtual, "protocols", (nobody,))
    with pytest.raises(DataError, match=r"none of the \d+ queries of protocol 'empty'"):
        build(benchmark)


def test_an_unreadable_train_image_is_named(benchmark):
    def fail(path):
        raise DataError(f"{path} is not a whole image")

    with pytest.raises(DataError, match="is not a whole image"):
        first_batches(build(benchmark, workers=0, read=fail), 1)


def test_test_images_are_not_augmented(benchmark):
    from ccreid.data.datamodule import TestImages

    images = TestImages(benchmark.query[:2], TestTransform(256, 128))
    stacked, camid = default_collate([images[0], images[1]])
    expected = TestTransform(256, 128)(read_image(benchmark.query[1].path))
    assert torch.equal(stacked[1], expected)
    assert camid.tolist() == [sample.camid for sample in benchmark.query[:2]]
