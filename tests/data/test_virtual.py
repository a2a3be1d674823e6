import json
import zipfile

import numpy as np
import pytest

from ccreid.data.benchmarks import virtual
from ccreid.data.benchmarks.virtual import PERSPECTIVES, Virtual
from ccreid.data.files import read_image
from ccreid.data.parsing import CANONICAL_LABELS, ParsingStore
from ccreid.data.sample import ids
from ccreid.errors import DataError


@pytest.fixture(scope="module")
def benchmark():
    return Virtual()


def test_counts_of_its_readme(benchmark):
    expected = {"train": (64, 1280), "query": (32, 256), "gallery": (32, 384)}
    for split, samples in benchmark.splits.items():
        assert (len(set(ids(samples, "pid"))), len(samples)) == expected[split]
        assert set(ids(samples, "camid")) == set(range(8))
        assert [s.path for s in samples] == sorted(s.path for s in samples)


def test_clothes_ids_are_unique_over_people(benchmark):
    everyone = [*benchmark.train, *benchmark.query, *benchmark.gallery]
    owners = {}
    for sample in everyone:
        owners.setdefault(sample.clothes_id, set()).add(sample.pid)
    assert len(owners) == 384
    assert all(len(people) == 1 for people in owners.values())


def test_train_and_test_people_are_different(benchmark):
    test = set(ids(benchmark.query, "pid")) | set(ids(benchmark.gallery, "pid"))
    assert not test & set(ids(benchmark.train, "pid"))


def test_every_query_has_a_match_in_every_protocol(benchmark):
    for protocol in benchmark.protocols:
        counts = protocol.num_queries_without_match(benchmark.query, benchmark.gallery)
        assert counts == (0, 256)


def test_ids_agree_with_the_true_factors(benchmark):
    archive = zipfile.ZipFile(virtual.ARCHIVE)
    lines = archive.read("virtual/captions.jsonl").decode().splitlines()
    factors = {record["file"]: record for record in map(json.loads, lines)}
    everyone = [*benchmark.train, *benchmark.query, *benchmark.gallery]
    assert len(factors) == len(everyone)
    for sample in everyone:
        record = factors["/".join(sample.path.rsplit("/", 2)[-2:])]
        assert (sample.pid, sample.camid) == (record["pid"], record["camid"])
        assert sample.clothes_id % 1000 == record["outfit"]


def test_masks_fit_the_images_and_hold_canonical_labels(benchmark):
    store = ParsingStore(benchmark)
    store.require([*benchmark.train, *benchmark.query, *benchmark.gallery])
    seen = np.zeros(len(CANONICAL_LABELS), dtype=np.int64)
    for sample in benchmark.train[::40]:
        mask = store.get(sample)
        assert mask.shape == (256, 128) == read_image(sample.path).size[::-1]
        seen += np.bincount(mask.ravel(), minlength=len(CANONICAL_LABELS))
    assert seen[CANONICAL_LABELS.index("head")] > 0
    assert seen[CANONICAL_LABELS.index("upper")] > seen[CANONICAL_LABELS.index("shoes")]


def test_captions_describe_the_image_from_six_perspectives(benchmark):
    for sample in benchmark.query:
        assert len(benchmark.captions(sample)) == len(PERSPECTIVES)
    clothing = benchmark.captions(benchmark.gallery[0])[PERSPECTIVES.index("clothing")]
    assert (
        clothing
        == "a beige T-shirt with brown sides and white jeans, with grey trainers, a navy backpack"
    )


def test_identities_describe_every_person(benchmark):
    people = set(ids(benchmark.train, "pid")) | set(ids(benchmark.query, "pid"))
    assert set(benchmark.identities) == people


def test_credits_and_licence_ship_beside_the_archive():
    inside = zipfile.ZipFile(virtual.ARCHIVE).read("virtual/CREDITS.txt")
    assert virtual.ARCHIVE.with_name("virtual-CREDITS.txt").read_bytes() == inside


def test_an_altered_archive_is_refused(tmp_path, monkeypatch):
    altered = tmp_path / "virtual.zip"
    altered.write_bytes(virtual.ARCHIVE.read_bytes())
    with zipfile.ZipFile(altered, "a") as archive:
        archive.writestr("virtual/extra.txt", "x")
    monkeypatch.setattr(virtual, "ARCHIVE", altered)
    with pytest.raises(DataError, match="SHA-256 differs"):
        Virtual()


def write_archive(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    return path


def test_another_archive_of_the_same_layout(tmp_path):
    names = [
        "mine/train/0001_o0_c00_00.jpg",
        "mine/query/0002_o1_c11_03.jpg",
        "mine/gallery/0002_o0_c01_00.jpg",
    ]
    other = Virtual(write_archive(tmp_path / "other.zip", names))
    assert [len(split) for split in other.splits.values()] == [1, 1, 1]
    assert (other.query[0].pid, other.query[0].camid, other.query[0].clothes_id) == (2, 11, 2001)
    with pytest.raises(DataError, match="No parsing mask"):
        ParsingStore(other).get(other.query[0])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["mine/train/0001_o0_c00_00.jpg"], "query split has no image"),
        (["mine/train/person.jpg"], "Unexpected name"),
    ],
)
def test_a_wrong_archive_says_what_was_expected(tmp_path, names, said):
    with pytest.raises(DataError, match=said) as error:
        Virtual(write_archive(tmp_path / "wrong.zip", names))
    assert "<pid>_o<outfit>_c<camera>_<view>.jpg" in str(error.value)


def test_a_missing_or_damaged_archive(tmp_path):
    with pytest.raises(DataError, match="No archive at"):
        Virtual(tmp_path / "none.zip")
    (tmp_path / "damaged.zip").write_bytes(virtual.ARCHIVE.read_bytes()[:5000])
    with pytest.raises(DataError, match="not a readable zip"):
        Virtual(tmp_path / "damaged.zip")
