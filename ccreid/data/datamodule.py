"""One LightningDataModule for every benchmark and method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.captions import CaptionStore
from ccreid.data.files import read_image
from ccreid.data.parsing import ParsingStore
from ccreid.data.sample import Batch, Sample, contiguous_labels, ids, manifest
from ccreid.data.samplers import Draw, PKSampler
from ccreid.data.transforms import TestTransform, TrainTransform, seeded
from ccreid.errors import ConfigError, DataError, require
from ccreid.processes import require_same_on_all_ranks


class ReIDDataModule(LightningDataModule):
    """Training batches of a benchmark; evaluation reads `benchmark` through `ccreid.features`.

    Args:
        benchmark: the lists of samples.
        train_transform: image and mask of a draw → tensors.
        test_transform: image → tensor.
        identities_per_batch, images_per_identity: P and K, over all devices.
        workers: loader processes per device.
        seed: decides the epochs and augmentations, together with the epoch's number.
        requires: side information for training: any of parsing, captions, clothes.

    Raises:
        DataError: required side information is missing, or no query of a protocol has a match.
        ConfigError: an unknown requirement.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        train_transform: TrainTransform,
        test_transform: TestTransform,
        identities_per_batch: int = 8,
        images_per_identity: int = 4,
        workers: int = 2,
        seed: int = 0,
        requires: Iterable[str] = (),
    ) -> None:
        super().__init__()
        require(workers >= 0, "data.workers", workers, "at least 0")
        require(isinstance(seed, int) and seed >= 0, "seed", seed, "a whole number, 0 or more")
        self.benchmark = benchmark
        self.train_transform = train_transform
        self.test_transform = test_transform
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.workers = workers
        self.seed = seed
        self.train_pid = contiguous_labels(ids(benchmark.train, "pid"))
        self.train_clothes_id = contiguous_labels(ids(benchmark.train, "clothes_id"))
        self.sampler = self._sampler(rank=0, world_size=1)
        self.unanswerable = unanswerable_queries(benchmark)
        self.parsing = self._prepare(frozenset(requires))

    @property
    def num_identities(self) -> int:
        """Number of people in the train split."""
        return int(self.train_pid.max()) + 1

    @property
    def num_clothes(self) -> int:
        """Number of labelled outfits in the train split; 0 where clothes are unlabelled."""
        return int(self.train_clothes_id.max()) + 1

    def setup(self, stage: str) -> None:
        """Make sure that all ranks read the same lists."""
        for split, samples in self.benchmark.splits.items():
            require_same_on_all_ranks(manifest(samples), f"{self.benchmark.name} {split}")

    def train_dataloader(self) -> DataLoader[Batch]:
        """Yield the batches of this rank; the epoch is asked of the trainer."""
        trainer = self.trainer
        assert trainer is not None
        self.sampler = self._sampler(
            trainer.global_rank, trainer.world_size, epoch=lambda: trainer.current_epoch
        )
        return DataLoader(
            TrainImages(self),
            batch_sampler=self.sampler,
            num_workers=self.workers,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # else making the iterator would advance the global one
        )

    def _sampler(
        self, rank: int, world_size: int, epoch: Callable[[], int] = lambda: 0
    ) -> PKSampler:
        return PKSampler(
            self.train_pid.numpy(),
            self.identities_per_batch,
            self.images_per_identity,
            seed=self.seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
        )

    def _prepare(self, requires: frozenset[str]) -> ParsingStore | None:
        if unknown := requires - {"parsing", "captions", "clothes"}:
            raise ConfigError(f"A method asks for unknown side information: {sorted(unknown)}.")
        if "clothes" in requires and (self.train_clothes_id < 0).any():
            raise DataError(
                f"The method needs clothes labels and {self.benchmark.name} has train images "
                "without. Choose a benchmark with clothes labels, or another method."
            )
        if "captions" in requires:
            CaptionStore(self.benchmark).require(self.benchmark.train)
        if "parsing" not in requires:
            return None
        store = ParsingStore(self.benchmark)
        store.require(self.benchmark.train)
        return store


def unanswerable_queries(benchmark: Benchmark) -> dict[str, int]:
    """Count per protocol the queries that no gallery image can answer.

    Raises:
        DataError: a protocol has no query that can be answered.
    """
    counts = {}
    for protocol in benchmark.protocols:
        unanswerable, total = protocol.num_queries_without_match(benchmark.query, benchmark.gallery)
        if unanswerable == total:
            raise DataError(
                f"{benchmark.name}: none of the {total} queries of protocol '{protocol.name}' has "
                f"a match in the gallery.\n{benchmark.remedy()}"
            )
        counts[protocol.name] = unanswerable
    return counts


class TrainImages(Dataset[Batch]):
    """The train split; an item is asked for by index and augmentation seed."""

    def __init__(self, datamodule: ReIDDataModule) -> None:
        self.samples = datamodule.benchmark.train
        self.pid, self.clothes_id = datamodule.train_pid, datamodule.train_clothes_id
        self.transform, self.parsing = datamodule.train_transform, datamodule.parsing

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Batch:
        index, seed = draw
        sample = self.samples[index]
        image = read_image(sample.path)
        mask = None
        if self.parsing is not None:
            mask = tv_tensors.Mask(torch.from_numpy(self.parsing.get(sample)))
        with seeded(seed):
            pixels, labels = self.transform(image, mask)
        item = Batch(
            image=pixels,
            pid=self.pid[index],
            camid=torch.tensor(sample.camid),
            clothes_id=self.clothes_id[index],
            index=torch.tensor(index),
        )
        if labels is not None:
            item["parsing"] = labels
        return item


class TestImages(Dataset[Tensor]):
    """Samples under the test transform, in list order."""

    __test__ = False  # its name is not pytest's business

    def __init__(self, samples: Sequence[Sample], transform: TestTransform) -> None:
        self.samples, self.transform = samples, transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(read_image(self.samples[index].path))
