"""Two processes equal one. Every test has a time-out, and kills what it started."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.transforms import TestTransform
from ccreid.features import extract_features
from ccreid.train import train
from tests.conftest import TINY
from tests.distributed.ranks import end_group, finish, free_port, run_ranks, start_verb
from tests.distributed.workers import everything, left_half, metrics_of

SMALL = [setting for setting in TINY if setting != "trainer=cpu"]
TWO = ["trainer=ddp_cpu"]


def start(*arguments: str, **more: Any) -> subprocess.Popen:
    return start_verb(*SMALL, *arguments, **more)


def test_features_come_in_list_order_without_padding(tmp_path):
    samples = Virtual().query
    ranks = run_ranks("features", tmp_path)
    assert ranks[0]["metrics"] == ranks[1]["metrics"] == metrics_of(everything(samples))
    for count, expected_length in [(1, 1), (2, 2), (13, 13), (20, 20)]:
        alone = extract_features(
            left_half,
            samples[:count],
            TestTransform(16, 8),
            device=torch.device("cpu"),
            batch_size=4,
        )
        assert len(alone) == expected_length
        for rank in ranks:
            assert torch.equal(rank[count], alone)


def test_a_rank_with_other_files_or_settings_stops_all(tmp_path):
    for said in run_ranks("listings", tmp_path):
        assert set(said) == {"another", "longer", "settings"}
        for text in said.values():
            assert "rank 1 does not see what rank 0 sees" in text
        assert "rank 0 sees: entry 3 is" in said["another"]
        assert "6 entries instead of 5" in said["longer"]
        assert "Give every node the same files" in said["longer"]
        assert "entry 1 is 'seed: 1' instead of 'seed: 0'. Do this." in said["settings"]


def test_all_ranks_evaluate_with_one_set_of_statistics(tmp_path):
    first, second = run_ranks("buffers", tmp_path)
    assert torch.equal(first, second)
    assert torch.allclose(first, torch.ones(1, 2), atol=1e-4)


EQUAL = [
    "debug=fast",
    "trainer.limit_train_batches=3",
    "method.gather=true",
    "method.optimizer._target_=torch.optim.SGD",  # Adam would blow up rounding of zero gradients
    "+callbacks.freeze._target_=tests.distributed.workers.FreezeBatchNorm",
    "allow_targets=[tests.distributed.workers]",
]
CASES = {
    "baseline": ["method=baseline", "method.optimizer.lr=1.0"],
    # The donors of a batch are those of its own rank, so recomposition cannot be equal.
    "fire2": [
        "method=fire2",
        "method.optimizer.lr=0.1",
        "method.recomposition_weight=0",
    ],
    "cal": ["method=cal", "method.start_epoch=0", "method.optimizer.lr=0.1"],
    "differ": ["method=differ", "method.optimizer.lr=0.1", "method.gather_contrastive=true"],
}


@pytest.mark.parametrize("method", CASES)
def test_training_on_two_processes_is_training_on_one(method, tmp_path, tiny_config):
    settings = [*CASES[method], *EQUAL]
    both = tmp_path / "both"
    keep = ["+callbacks.keep._target_=tests.distributed.workers.KeepAttributes"]
    keep = keep if method == "fire2" else []
    where = [f"+callbacks.keep.folder={tmp_path}"] if keep else []
    _, output = finish(start(*settings, *keep, *where, *TWO, f"hydra.run.dir={both}"))
    where = [f"+callbacks.keep.folder={tmp_path / 'alone'}"] if keep else []
    alone = train(tiny_config(*settings, *keep, *where, folder="alone"))
    assert (both / "metrics.json").exists(), output

    one = load_checkpoint(alone.checkpoint).state_dict
    two = load_checkpoint(both / "checkpoints" / "last.ckpt").state_dict
    moved = 0.0
    fresh = fresh_weights(tiny_config(*settings, folder="fresh"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=2e-5, msg=name)
        moved = max(moved, float((value - fresh[name]).abs().max()))
    assert moved > 1e-3  # the tolerance is far below what training changed

    losses = [last_epoch_losses(folder) for folder in (alone.output_dir, both)]
    assert losses[0].keys() == losses[1].keys()
    for name, value in losses[0].items():
        assert losses[1][name] == pytest.approx(value, rel=1e-3), name
    if method == "fire2":
        ranks = [torch.load(tmp_path / f"attributes_{rank}.pt") for rank in range(2)]
        single = torch.load(alone.output_dir / "attributes_0.pt")
        for name, value in ranks[0].items():
            assert torch.equal(ranks[1][name], value), name
            torch.testing.assert_close(value, single[name], rtol=1e-3, atol=1e-4)


def fresh_weights(cfg):
    from ccreid.build import build_datamodule, build_method, method_class

    data = build_datamodule(cfg, method_class(cfg).needs(cfg.method))
    return build_method(cfg, data.sizes).state_dict()


def last_epoch_losses(folder: Path) -> dict[str, float]:
    import csv

    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/id"]]
    return {k: float(v) for k, v in rows[-1].items() if v and k.startswith("train/")}


def test_torchrun_and_its_folder(tmp_path):
    port = str(free_port())
    torchrun = ("torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}", "-m")
    _, output = finish(start("method=fire2", "debug=fast", *TWO, command=torchrun, cwd=tmp_path))
    (run,) = (tmp_path / "outputs" / "fire2_virtual").iterdir()  # one for both processes
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/virtual/cc/num_valid_queries"] == 256, output
    assert output.count("virtual: retrieval (%)") == 1


def wait_for_checkpoint(process: subprocess.Popen, folder: Path, seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not (folder / "checkpoints" / "last.ckpt").exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.2)


def child_of(process: subprocess.Popen) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    commands = {int(c): Path(f"/proc/{c}/cmdline").read_bytes() for c in children}
    return next(c for c, command in commands.items() if b"ccreid.train" in command)


def test_a_killed_rank_ends_the_first_and_is_named(tmp_path):
    """What becomes of the others when the first is killed: `tests/trust/test_resume.py`."""
    long = ("debug=fast", "trainer.max_epochs=20000")  # epochs of one batch
    process = start("method=baseline", *long, *TWO, f"hydra.run.dir={tmp_path / 'run'}")
    try:
        wait_for_checkpoint(process, tmp_path / "run")
        child = child_of(process)
        os.kill(child, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)  # the pipe closes when all ranks have ended
    finally:
        end_group(process)
    assert f"Rank 1 (process {child}) died: killed by signal 9" in output
    assert "resume=auto" in output
    load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")  # is whole


def test_a_port_in_use(tmp_path):
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        process = start(
            "method=baseline", "debug=fast", *TWO, f"hydra.run.dir={tmp_path}", MASTER_PORT=port
        )
        code, output = finish(process)
    assert code == 2
    assert "The port where the processes meet is taken" in output
    assert "MASTER_PORT" in output
