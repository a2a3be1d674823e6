"""What the ranks of a test do; run by `ranks.run_ranks`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from torch import nn

from ccreid.data.benchmarks.virtual import ARCHIVE, Virtual
from ccreid.data.sample import Sample, ids, manifest
from ccreid.data.transforms import TestTransform
from ccreid.errors import ConfigError, DataError
from ccreid.features import evaluating, extract_features
from ccreid.retrieval import rank_features
from ccreid.runs.processes import process_rank, require_same_on_all_ranks
from tests.trust.file_systems import shuffled_listings


def left_half(images: torch.Tensor) -> torch.Tensor:
    """A feature that differs for every image."""
    return images[..., :4].flatten(1)


def everything(samples: Sequence[Sample]) -> torch.Tensor:
    """Features of all samples."""
    return extract_features(left_half, samples, TestTransform(16, 8), device=torch.device("cpu"))


def metrics_of(features: torch.Tensor) -> dict[str, float]:
    """Metrics of the queries ranked among themselves."""
    pid, camid = (ids(Virtual().query, field) for field in ("pid", "camid"))
    names = {"query_pid": pid, "gallery_pid": pid, "query_camid": camid, "gallery_camid": camid}
    return rank_features(features, features, **names).metrics()


def features() -> dict[int | str, Any]:
    """Extract lists whose lengths the ranks do not divide, one with fewer images than ranks."""
    samples = Virtual().query
    return {"metrics": metrics_of(everything(samples))} | {
        count: extract_features(
            left_half,
            samples[:count],
            TestTransform(16, 8),
            device=torch.device("cpu"),
            batch_size=4,
        )
        for count in (1, 2, 13, 20)
    }


def listings() -> dict[str, str]:
    """Compare equal listings, then one with another entry, then a longer one, then settings."""
    samples = Virtual().query[:5]
    with shuffled_listings(seed=process_rank()):  # no two file systems list alike
        require_same_on_all_ranks(manifest(Virtual(ARCHIVE).train), "equal")
    said = {}
    other = [*samples[:3], replace(samples[3], pid=999), samples[4]]
    for name, mine in {"another": other, "longer": [*samples, samples[0]]}.items():
        lines = manifest(mine if process_rank() == 1 else samples)
        try:
            require_same_on_all_ranks(lines, name)
        except DataError as error:
            said[name] = str(error)
    try:
        lines = ["start", f"seed: {process_rank()}"]
        require_same_on_all_ranks(lines, "settings", "Do this.", ConfigError)
    except ConfigError as error:
        said["settings"] = str(error)
    return said


def buffers() -> torch.Tensor:
    """Evaluate a network whose statistics differ between ranks."""
    network = nn.BatchNorm1d(2)
    network.running_mean.fill_(dist.get_rank())
    with evaluating(network):
        return network(torch.ones(1, 2)).detach()


class FreezeBatchNorm(Callback):
    """Keeps batch norm at its running statistics: those of a batch are each rank's own."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        for module in pl_module.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


class KeepAttributes(Callback):
    """Saves each rank's attributes after training, for comparison."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        found = pl_module.attributes
        kept = {"cluster": found.cluster, "pid": found.pid, "weight": found.weight.detach()}
        torch.save(kept, self.folder / f"attributes_{trainer.global_rank}.pt")


def main(function: Callable[[], Any], folder: Path) -> None:
    """Join the group, run the function, keep what it returns."""
    dist.init_process_group("gloo")
    torch.save(function(), folder / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(globals()[sys.argv[1]], Path(sys.argv[2]))
