from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from ccreid.callbacks.throughput import Throughput
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.transforms import TestTransform, TrainTransform
from ccreid.retrieval import rank_distances
from ccreid.tables.results import dataset_table, metrics_table


def printed(content) -> str:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(content)
    return captured.get()


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if f"│ {name} " in line]
    return [cell.strip() for cell in line.strip("│ ").split("│")]


def test_dataset_table_counts_and_explains():
    benchmark = Virtual()
    data = ReIDDataModule(
        benchmark, TrainTransform(32, 16), TestTransform(32, 16), images_per_identity=25
    )
    data.unanswerable = {"general": 0, "sc": 0, "cc": 3}
    benchmark.warnings, benchmark.num_foreign_files = ("five images too many",), 2
    text = printed(dataset_table(data))
    assert row(text, "train") == ["train", "64", "1,280", "8", "256"]
    assert row(text, "gallery") == ["gallery", "32", "384", "8", "128"]
    assert "note: five images too many" in text
    assert "2 files beside the images were passed over" in text
    assert "3 queries of 'cc' have no match and are left out" in text
    assert "'general' have no match" not in text
    assert "64 people have fewer than 25 images" in text
    assert str(benchmark.protocols[2]) in text


def test_metrics_table_is_in_percent_and_shows_what_is_undefined():
    distances = np.array([[0.1, 0.2, 0.3]])
    ids = {"query_pid": [1], "gallery_pid": [2, 1, 1]}
    right = rank_distances(distances, **ids, rule="none")
    nobody = rank_distances(distances, query_pid=[9], gallery_pid=[2, 1, 1], rule="none")
    text = printed(metrics_table({"general": right, "cc": nobody}, "virtual"))
    # hits at ranks 2 and 3: AP = (1/2 + 2/3) / 2, mINP = 2/3
    assert row(text, "general") == ["general", "0.0", "100.0", "100.0", "58.3", "66.7", "1"]
    assert row(text, "cc") == ["cc", "–", "–", "–", "–", "–", "0"]


def test_throughput_counts_the_images_of_all_ranks(monkeypatch):
    clock = iter([0.0, 2.0, 12.0, 14.0])  # epoch begins, batches begin, batches end, epoch ends
    monkeypatch.setattr("ccreid.callbacks.throughput.time.perf_counter", lambda: next(clock))
    trainer = SimpleNamespace(world_size=2, is_last_batch=False)
    module = SimpleNamespace(log=lambda *_, **__: None)
    throughput = Throughput()
    throughput.on_train_epoch_start(trainer, module)
    for number in range(2):
        trainer.is_last_batch = number == 1
        throughput.on_train_batch_start(trainer, module, {}, number)
        throughput.on_train_batch_end(trainer, module, None, {"index": range(5)}, number)
    throughput.on_train_epoch_end(trainer, module)
    costs = throughput.summary()
    assert costs["images_per_second"] == pytest.approx(20 / 10)
    assert costs["seconds_per_epoch"] == pytest.approx(14)
    assert costs["peak_memory_gib"] > 0.01
