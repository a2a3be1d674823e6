"""Fine-grained Feature Mining (FFM) of FIRe²: an epoch's attributes and where they come from.

Wang et al., IEEE TIFS 2024, arXiv 2308.10692.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ccreid.clustering import cluster_statistics, fine_grained_labels
from ccreid.clustering.agreement import rand_agreement
from ccreid.errors import require
from ccreid.features import AUTOCAST, evaluating, extract_features
from ccreid.methods.base import Method


@dataclass(frozen=True)
class Mining:
    """Settings of Fine-grained Feature Mining (FFM).

    Attributes:
        eps: DBSCAN radius in Jaccard distance, 0 to 1.
        k1, k2: neighbours of the k-reciprocal sets and of the query expansion.
        min_samples: DBSCAN's; with 1 no image is an outlier.
        start_epoch: last epoch, counted from 1, that trains on identities alone.
        precision: fp32, bf16 or fp16, of the features that are clustered.
        batch_size: images at a time while these features are extracted.
    """

    eps: float = 0.4
    k1: int = 20
    k2: int = 6
    min_samples: int = 1
    start_epoch: int = 25
    precision: str = "fp32"
    batch_size: int = 128

    def __post_init__(self) -> None:
        require(0 < self.eps <= 1, "method.mining.eps", self.eps, "above 0 and at most 1")
        for name in ("k1", "k2", "min_samples", "batch_size"):
            value = getattr(self, name)
            require(value >= 1, f"method.mining.{name}", value, "at least 1")
        require(self.start_epoch >= 0, "method.mining.start_epoch", self.start_epoch, "at least 0")
        choices = f"one of {', '.join(AUTOCAST)}"
        require(self.precision in AUTOCAST, "method.mining.precision", self.precision, choices)


@dataclass(frozen=True)
class Attributes:
    """What a mining finds, and the prototypes trained from it until the next.

    They are no parameters of the module: they change their number every epoch, which neither DDP
    nor an average of weights could follow, and a checkpoint need not hold what is mined again.

    Attributes:
        cluster: cluster of every train image, [N].
        pid: identity of every cluster, [M].
        weight: prototype of every cluster, [M, D]; begins at its centre.
    """

    cluster: Tensor
    pid: Tensor
    weight: nn.Parameter


def mine_attributes(
    method: Method, mining: Mining, earlier: Attributes | None = None
) -> tuple[Attributes, dict[str, float]]:
    """Cluster each identity's train features; the centres become the attributes' prototypes.

    Args:
        method: embeds the train images, under the test transform and in eval mode.
        mining: the settings.
        earlier: what was mined before, to say how much has changed.

    Returns:
        The attributes, equal on all ranks, and what a person wants to see of them (never used for
        training): see `_describe`, and seconds.
    """
    began = time.perf_counter()
    data = method.datamodule
    with evaluating(method):
        features = extract_features(
            method.embed,
            data.train,
            data.test_transform,
            clips=data.benchmark.clips,
            read=data.read,
            device=method.device,
            precision=mining.precision,
            batch_size=mining.batch_size,
            workers=data.workers,
            settings="method.mining",
        )
    labels, centres = _cluster_once(features, data.train_pid, mining)
    cluster_pid = torch.empty(len(centres), dtype=torch.long)
    cluster_pid[labels] = data.train_pid
    attributes = Attributes(
        cluster=labels.to(method.device),
        pid=cluster_pid.to(method.device),
        weight=nn.Parameter(centres.to(method.device)),
    )
    clothes_id = data.train_clothes_id if data.num_clothes else None
    before = None if earlier is None else earlier.cluster.cpu()
    statistics = _describe(labels, data.train_pid, clothes_id, before)
    return attributes, {**statistics, "seconds": time.perf_counter() - began}


def _describe(
    labels: Tensor, pid: Tensor, clothes_id: Tensor | None, before: Tensor | None
) -> dict[str, float]:
    """Return `cluster_statistics` and more.

    `singletons` is the share of images alone in their cluster, outliers among them. `ari`, with
    clothes, and `stability`, with the labels from before, are the agreement of the clusters with
    these (`rand_agreement`).
    """
    statistics = cluster_statistics(labels, pid, clothes_id)
    statistics["singletons"] = float((torch.bincount(labels) == 1).sum()) / len(labels)
    if clothes_id is not None:
        statistics["ari"] = rand_agreement(labels, clothes_id, pid)
    if before is not None:
        statistics["stability"] = rand_agreement(labels, before, pid)
    return statistics


def _cluster_once(features: Tensor, pid: Tensor, mining: Mining) -> tuple[Tensor, Tensor]:
    """Cluster on rank 0 and give all ranks its labels and centres."""
    if dist.is_initialized() and dist.get_rank() != 0:
        result: list[Tensor] = [torch.empty(0), torch.empty(0)]
    else:
        settings = {name: getattr(mining, name) for name in ("eps", "k1", "k2", "min_samples")}
        result = list(fine_grained_labels(features, pid, **settings))
    if dist.is_initialized():
        dist.broadcast_object_list(result, src=0)
    labels, centres = result
    return labels, centres
