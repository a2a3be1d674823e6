"""One LightningDataModule for every benchmark and method."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.captions import CaptionStore
from ccreid.data.clips import (
    CAL_CLIPS,
    ClipRule,
    draw_clip,
    evaluation_clips,
    training_samples,
)
from ccreid.data.files import Reader, read_image
from ccreid.data.outfit_sampler import CrossClothesPKSampler
from ccreid.data.parsing import ParsingStore
from ccreid.data.sample import Batch, Sample, contiguous_labels, ids, manifest
from ccreid.data.samplers import Draw, PKSampler
from ccreid.data.transforms import TestTransform, TrainTransform, seeded
from ccreid.data.validation import HeldOut
from ccreid.data.whole_files import leave_out_damaged
from ccreid.errors import ConfigError, DataError, require
from ccreid.runs.processes import checksum, require_same_on_all_ranks

SAMPLERS = ("pk", "cross_clothes")
VALIDATIONS = ("none", "identities")
ON_DAMAGED = ("error", "leave_out")


class ReIDDataModule(LightningDataModule):
    """Training batches of a benchmark; evaluation reads `benchmark` through `ccreid.features`.

    Args:
        benchmark: the lists of samples.
        train_transform: image and mask of a draw → tensors.
        test_transform: image → tensor.
        identities_per_batch, images_per_identity: P and K, over all devices.
        workers: loader processes per device.
        seed: decides the epochs and augmentations, together with the epoch's number.
        requires: side information for training: any of parsing, captions, clothes, cameras.
        read: reads an image.
        parsing: settings of `ParsingStore`, used when `requires` names it.
        captions: settings of `CaptionStore`, used when `requires` names it.
        sampler: `pk`, or `cross_clothes` (`CrossClothesPKSampler`).
        outfits_per_identity: C of that sampler.
        validation: `none`, or `identities`: train people are held out to be evaluated on.
        validation_people: the share of the train people that is held out.
        on_damaged: `error`, or `leave_out`: all train images are looked at here, and those that are
            no whole images leave the train list (`leave_out_damaged`).

    Attributes:
        train: what an epoch draws from: the train images, or pieces of the train tracklets.
        validation: the held-out people, or None.
        notes: what a person wants to know of the data, one sentence each.

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
        read: Reader = read_image,
        parsing: Mapping[str, Any] | None = None,
        captions: Mapping[str, Any] | None = None,
        sampler: str = "pk",
        outfits_per_identity: int = 4,
        validation: str = "none",
        validation_people: float = 0.2,
        on_damaged: str = "error",
    ) -> None:
        super().__init__()
        require(workers >= 0, "data.workers", workers, "at least 0")
        require(isinstance(seed, int) and seed >= 0, "seed", seed, "a whole number, 0 or more")
        require(sampler in SAMPLERS, "data.sampler", sampler, f"one of {', '.join(SAMPLERS)}")
        if unknown := set(requires) - {"parsing", "captions", "clothes", "cameras"}:
            raise ConfigError(f"A method asks for unknown side information: {sorted(unknown)}.")
        wanted = f"one of {', '.join(ON_DAMAGED)}"
        require(on_damaged in ON_DAMAGED, "data.on_damaged", on_damaged, wanted)
        self.notes: list[str] = []
        listed = benchmark.train
        if on_damaged == "leave_out":
            benchmark, note = leave_out_damaged(benchmark)
            self.notes += [note] if note else []
        self.benchmark, self.read = benchmark, read
        self.train_transform = train_transform
        self.test_transform = test_transform
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.workers = workers
        self.seed = seed
        self.sampler_name, self.outfits_per_identity = sampler, outfits_per_identity
        wanted = f"one of {', '.join(VALIDATIONS)}"
        require(validation in VALIDATIONS, "data.validation", validation, wanted)
        self.validation: HeldOut | None = None
        trained_on = benchmark.train
        if validation == "identities":
            self.validation = HeldOut(benchmark, validation_people)
            trained_on = self.validation.train
            self.notes.append(self.validation.describe())
        self.train = tuple(training_samples(trained_on, benchmark.clips))
        self.parsing: ParsingStore | None = None
        self.captions: CaptionStore | None = None
        if "parsing" in requires:
            self.parsing = ParsingStore(benchmark, **(parsing or {}))
            self.notes += self.parsing.require(self.train).sentences()
            self.train = tuple(self.parsing.usable(self.train))
        if "captions" in requires:
            self.captions = CaptionStore(benchmark, listed=listed, **(captions or {}))
            self.notes.append(self.captions.describe())
        self.train_pid = contiguous_labels(ids(self.train, "pid"))
        self.train_clothes_id = contiguous_labels(ids(self.train, "clothes_id"))
        if "clothes" in requires and (self.train_clothes_id < 0).any():
            raise DataError(
                f"The method needs clothes labels and {benchmark.name} has train images without. "
                "Choose a benchmark with clothes labels, or another method; own images get labels "
                "by data.benchmark.clothes_pattern (data=folder) or a column clothes_id (data=csv)."
            )
        if "cameras" in requires and (ids(self.train, "camid") < 0).all():
            raise DataError(
                f"The method uses cameras, and no train image of {benchmark.name} has one. Choose "
                "a benchmark with cameras, or settings of the method without; own images get them "
                "by data.benchmark.camera_pattern (data=folder) or a column camid (data=csv)."
            )
        self.sampler = self._sampler(rank=0, world_size=1)
        self.unanswerable = unanswerable_queries(benchmark)

    @property
    def num_identities(self) -> int:
        """Number of people in the train split."""
        return int(self.train_pid.max()) + 1

    @property
    def num_clothes(self) -> int:
        """Number of labelled outfits in the train split; 0 where clothes are unlabelled."""
        return int(self.train_clothes_id.max()) + 1

    @property
    def sizes(self) -> dict[str, int]:
        """What a network must know of the data; a method's constructor names what it wants."""
        sizes = {
            "num_identities": self.num_identities,
            "num_clothes": self.num_clothes,
            "num_cameras": int(ids(self.train, "camid").max()) + 1,
        }
        return sizes if self.captions is None else {**sizes, "caption_dim": self.captions.dim}

    @property
    def train_checksum(self) -> str:
        """Checksum of what is trained on: names and ids of the images, wherever they lie."""
        return checksum(manifest(self.train))

    def setup(self, stage: str) -> None:
        """Make sure that all ranks read the same lists."""
        for split, samples in {**self.benchmark.splits, "train draws": self.train}.items():
            require_same_on_all_ranks(manifest(samples), f"{self.benchmark.name} {split}")

    def train_dataloader(self) -> DataLoader[Batch]:
        """Yield the batches of this rank; the epoch is asked of the trainer."""
        trainer = self.trainer
        assert trainer is not None
        progress: Any = trainer.fit_loop.epoch_progress.current
        self.sampler = self._sampler(
            trainer.global_rank,
            trainer.world_size,
            # trainer.current_epoch lags by one when loaders begin to read after a resume
            epoch=lambda: progress.processed,
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
        pid, clothes_id = self.train_pid.numpy(), self.train_clothes_id.numpy()
        P, K = self.identities_per_batch, self.images_per_identity
        shared = (self.seed, epoch, rank, world_size)
        if self.sampler_name == "pk":
            return PKSampler(pid, P, K, *shared)
        return CrossClothesPKSampler(pid, clothes_id, P, K, *shared, self.outfits_per_identity)


def unanswerable_queries(benchmark: Benchmark) -> dict[str, int]:
    """Count per protocol the queries that no gallery image can answer.

    Raises:
        DataError: a protocol has no query that can be answered.
    """
    counts = {}
    for protocol in benchmark.protocols:
        unanswerable, total = benchmark.num_unanswerable(protocol)
        if unanswerable == total:
            raise DataError(f"{benchmark.why_unanswerable(protocol)}\n{benchmark.remedy()}")
        counts[protocol.name] = unanswerable
    return counts


class TrainImages(Dataset[Batch]):
    """The train list; an item is asked for by index and augmentation seed."""

    def __init__(self, datamodule: ReIDDataModule) -> None:
        self.samples, self.read = datamodule.train, datamodule.read
        self.clips = datamodule.benchmark.clips
        self.pid, self.clothes_id = datamodule.train_pid, datamodule.train_clothes_id
        self.transform = datamodule.train_transform
        self.parsing, self.captions = datamodule.parsing, datamodule.captions

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Batch:
        index, seed = draw
        sample = self.samples[index]
        with seeded(seed):
            pixels, labels = self._clip(sample) if sample.frames else self._image(sample)
        item = Batch(
            image=pixels,
            pid=self.pid[index],
            camid=torch.tensor(sample.camid),
            clothes_id=self.clothes_id[index],
            index=torch.tensor(index),
        )
        if labels is not None:
            item["parsing"] = labels
        if self.captions is not None:
            item["caption"] = self.captions.get(sample)
        return item

    def _image(self, sample: Sample) -> tuple[Tensor, Tensor | None]:
        image = self.read(sample.path)
        if self.parsing is None:
            return self.transform(image)
        mask = tv_tensors.Mask(torch.from_numpy(self.parsing.get(sample)))
        return self.transform(image, mask)

    def _clip(self, sample: Sample) -> tuple[Tensor, None]:
        frames = draw_clip(range(len(sample.frames)), self.clips.length, self.clips.stride)
        return self.transform.clip([self.read(sample.frames[frame]) for frame in frames]), None


class TestImages(Dataset[tuple[Tensor, int]]):
    """What evaluation reads: images, or the clips that cover the tracklets, in list order.

    An item is an image [3, H, W] or a clip [T, 3, H, W], and its camera, under the test transform.

    Attributes:
        clips_per_sample: how many items a sample has, [N] int64; 1 for an image.
    """

    __test__ = False  # its name is not pytest's business

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: TestTransform,
        clips: ClipRule = CAL_CLIPS,
        read: Reader = read_image,
    ) -> None:
        self.samples, self.transform, self.read = samples, transform, read
        self.clips = [
            (index, clip) for index, sample in enumerate(samples) for clip in _clips(sample, clips)
        ]
        owners = torch.tensor([index for index, _ in self.clips], dtype=torch.int64)
        self.clips_per_sample = torch.bincount(owners, minlength=len(samples))
        self.frames_per_item = clips.length if samples and samples[0].frames else 1

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        index, frames = self.clips[item]
        sample = self.samples[index]
        if not sample.frames:
            return self.transform(self.read(sample.path)), sample.camid
        images = [self.transform(self.read(sample.frames[frame])) for frame in frames]
        return torch.stack(images), sample.camid


def _clips(sample: Sample, rule: ClipRule) -> list[list[int]]:
    if not sample.frames:
        return [[]]
    return evaluation_clips(len(sample.frames), rule.length, rule.stride)
