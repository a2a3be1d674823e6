"""Make human-parsing masks: `python -m ccreid.parse data=prcc parser=segformer_clothes`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from ccreid.data.parsing.folder import MaskFolder


def parse(cfg: DictConfig) -> dict[str, Any]:
    """Segment the images of a benchmark that have no mask yet.

    Masks become 8-bit PNGs of canonical labels under the images' relative paths. Under torchrun
    every process takes every n-th image.

    Returns:
        What is written beside the masks: model, date and counts.

    Raises:
        CCReIDError: the benchmark or the model cannot be had, they do not fit, or the folder holds
            other masks.
    """
    from rich.progress import Progress

    from ccreid import report
    from ccreid.annotation.masks import make_masks
    from ccreid.build import choose_device, instantiate
    from ccreid.data.parsing.folder import MaskFolder
    from ccreid.errors import require

    require(cfg.split in ("train", "all"), "split", cfg.split, "train or all")
    require(cfg.batch_size >= 1, "batch_size", cfg.batch_size, "at least 1")
    require(cfg.workers >= 0, "workers", cfg.workers, "at least 0")
    rank, world_size = _process()
    device = choose_device(_own_device(cfg.device))
    benchmark = instantiate(cfg.data.benchmark)
    splits = benchmark.splits.values() if cfg.split == "all" else [benchmark.train]
    parser = instantiate(cfg.parser).to(device)
    masks = MaskFolder(
        cfg.output_dir,
        benchmark,
        [sample for samples in splits for sample in samples],
        model=cfg.parser.model,
        schema=parser.schema,
        num_labels=parser.num_labels,
    )
    mine = set(masks.samples[rank::world_size])  # not of those absent: that list changes meanwhile
    todo = [sample for sample in masks.absent() if sample in mine]
    masks.record()
    with Progress(console=report.console, transient=True, disable=rank > 0) as progress:
        task = progress.add_task(f"Masks of {benchmark.name}", total=len(todo))
        make_masks(
            parser,
            masks,
            todo,
            batch_size=cfg.batch_size,
            workers=cfg.workers,
            done=lambda count: progress.advance(task, count),
        )
    record = masks.record()
    for sentence in _summary(record, len(todo), masks):
        report.show(sentence)
    return record


def _process() -> tuple[int, int]:
    """Return this process's number and how many there are, as torchrun says; else (0, 1)."""
    if not {"RANK", "WORLD_SIZE"} <= set(os.environ):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def _own_device(name: str) -> str:
    """Give each process that torchrun started on this machine a GPU of its own."""
    import torch

    if name in ("auto", "cuda") and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return name


def _summary(record: dict[str, Any], made: int, masks: MaskFolder) -> list[str]:
    folder = masks.folder.absolute()
    there, images = record["masks"], record["images"]
    of_all = f"{there:,} of {images:,} images of {record['benchmark']}"
    text = [f"{made:,} masks were made here; {of_all} have one."]
    if record["implausible"]:
        text.append(
            f"{record['implausible']:,} of them cannot be of a dressed person. If that is more "
            "than a few per cent, look at some: does the model fit these images?"
        )
    if there < images:
        text.append("Other processes are still at work, or died; the same command goes on.")
    return [
        *text,
        f"Train with them: data.parsing.root={folder} data.parsing.layout=mirror "
        "data.parsing.schema=canonical",
    ]


@hydra.main(config_path=str(CONF_DIR), config_name="parse", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(parse, cfg)


if __name__ == "__main__":
    run_verb(main, "parse")
