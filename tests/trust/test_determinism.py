"""The same seed gives the same run: however often, with any loader, on any file system."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import get_class

from ccreid import list_methods
from ccreid.config import compose, list_benchmarks
from ccreid.data.benchmarks.base import Benchmark
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.sample import manifest
from ccreid.data.transforms import TestTransform, TrainTransform
from ccreid.runs.processes import checksum
from tests.distributed.ranks import finish, free_port, start_verb
from tests.miniature.ccvid import write_ccvid
from tests.miniature.celeb_reid import write_celeb_reid
from tests.miniature.csv import write_csv
from tests.miniature.deepchange import write_deepchange
from tests.miniature.folder import PATTERNS, write_people
from tests.miniature.last import write_last
from tests.miniature.ltcc import write_ltcc
from tests.miniature.nkup import write_nkup
from tests.miniature.prcc import write_prcc
from tests.miniature.vc_clothes import write_vc_clothes
from tests.trust.few_people import write_few_people
from tests.trust.file_systems import shuffled_listings
from tests.trust.runs import SMALL, assert_same_record, record

METHODS = list_methods()
WRITERS: dict[str, Callable[[Path], Path]] = {
    "ccvid": write_ccvid,
    "celeb_reid": write_celeb_reid,
    "celeb_reid_light": lambda root: write_celeb_reid(root, "Celeb-reID-light"),
    "csv": write_csv,
    "deepchange": write_deepchange,
    "folder": lambda root: write_people(root / "people"),
    "last": write_last,
    "ltcc": write_ltcc,
    "nkup": write_nkup,
    "prcc": write_prcc,
    "vc_clothes": write_vc_clothes,
}
LISTS = ("ccvid", "csv", "deepchange")
"""Benchmarks whose files are named by a list, so that no folder need be looked into."""


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_twice_gives_the_same_weights(method, straight, halted):
    settings = (f"method={method}", "data.workers=0")
    assert_same_record(straight(*settings), halted(*settings), 0)


def test_loader_processes_change_neither_order_nor_images_nor_weights(straight, halted):
    alone = straight("method=cre_bsga", "data.workers=0")
    assert_same_record(alone, halted("method=cre_bsga", "data.workers=2"), 0)


def test_another_seed_is_another_run(straight):
    one, other = (
        record(straight("method=fire2", seed), 0) for seed in ("data.workers=0", "seed=1")
    )
    assert not torch.equal(one["index"][0], other["index"][0])
    assert one["steps"] != other["steps"]


@pytest.fixture
def open_miniature(tmp_path, few_people, monkeypatch):
    """Return a function that opens a small copy of a benchmark, written once."""
    places: dict[str, Path] = {}

    def opened(name: str) -> Benchmark:
        if name not in places:
            places[name] = tmp_path
            if name in WRITERS:
                written = WRITERS[name](tmp_path)
                places[name] = written if name in ("csv", "folder") else tmp_path
        node = compose("evaluate", [f"data={name}", "checkpoint=none"]).data.benchmark
        kind = get_class(node._target_)
        monkeypatch.setattr(kind, "counts", {})
        place = few_people.partition("=")[2] if name == "virtual" else places[name]
        return kind(place, **(PATTERNS if name == "folder" else {}))

    return opened


@pytest.mark.parametrize("name", list_benchmarks())
def test_no_order_of_the_file_system_shows(name, open_miniature):
    plain = open_miniature(name)
    for seed in range(3):
        with shuffled_listings(seed) as asked:
            other = open_miniature(name)
        assert asked or name in LISTS
        assert other.splits == plain.splits  # paths and frames included
        assert identity_maps(other) == identity_maps(plain)
        for split, samples in other.splits.items():
            assert checksum(manifest(samples)) == checksum(manifest(plain.splits[split]))


def identity_maps(benchmark: Benchmark) -> tuple[list[int], list[int]]:
    data = ReIDDataModule(benchmark, TrainTransform(32, 16), TestTransform(32, 16), 1, 2)
    return data.train_pid.tolist(), data.train_clothes_id.tolist()


def test_a_checksum_tells_lists_apart_by_content_and_order():
    samples = Virtual().query[:3]
    lines = manifest(samples)
    assert checksum(lines) == checksum(manifest(list(samples)))
    assert len({checksum(lines), checksum(lines[::-1]), checksum(lines[:2])}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("other", ["settings", "files"])
def test_ranks_that_were_started_with_other_settings_stop_at_once(other, tmp_path, few_people):
    """As on two nodes whose commands or disks differ; half a minute for two processes."""
    more_people = f"data.archive={write_few_people(tmp_path / 'other.zip', test=3)}"
    different, said = {
        "settings": (["seed=0", "seed=1"], "'seed: 1' instead of 'seed: 0'"),
        "files": ([few_people, more_people], "virtual query: rank 1 does not see"),
    }[other]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    shared |= {"TORCHELASTIC_RUN_ID": "1", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    ranks = [
        start_verb(
            *SMALL,
            "method=baseline",
            "trainer=ddp_cpu",
            few_people,
            different[rank],
            f"hydra.run.dir={tmp_path / 'run'}",
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            **shared,
        )
        for rank in range(2)
    ]
    for code, output in map(finish, ranks):
        assert code == 2, output
        text = " ".join(output.replace("│", " ").split())
        assert "rank 1 does not see what rank 0 sees" in text
        assert said in text
    assert not list(tmp_path.rglob("*.ckpt"))
