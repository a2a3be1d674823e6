import errno
import multiprocessing
import os
import pickle
import signal
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ccreid.data import cache, cache_files
from ccreid.data.benchmarks.ccvid import CCVID
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.cache import CachedImages, image_reader
from ccreid.data.cache_files import Resizing
from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.files import member_path, read_image
from ccreid.data.sample import Sample
from ccreid.data.transforms import RandomErasing, TestTransform, TrainTransform
from ccreid.errors import ConfigError, DataError
from ccreid.features import extract_features
from tests.conftest import trainer_at
from tests.miniature.ccvid import write_ccvid

FORK = multiprocessing.get_context("fork")
SIZE = (24, 12)


def write_noise(path, number, size=(19, 41)):
    """Write a picture that no two ways of resizing make the same of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


def write_benchmark(root, images=6):
    """Write images of many sizes; return what a cache must know of a benchmark."""
    paths = [root / "train" / f"{number:02d}.jpg" for number in range(images)]
    for number, path in enumerate(paths):
        write_noise(path, number, size=(9 + 3 * number, 20 + 5 * number))
    train = tuple(Sample(str(path), pid=1) for path in paths)
    splits = {"train": train, "query": train[:2], "gallery": ()}
    return SimpleNamespace(name="noise", root=root, splits=splits)


def reader(benchmark, kind, *size, **settings):
    transforms = (TestTransform(*size), TrainTransform(*size, pad=2, erasing=RandomErasing()))
    return image_reader(benchmark, kind, Resizing(*size), transforms, **settings)


def cache_names(folder):
    return sorted(path.name for path in Path(folder).iterdir() if path.suffix != ".lock")


def never(path):
    raise AssertionError(f"{path} was decoded")


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_a_cached_image_is_what_the_transform_makes_of_the_file(tmp_path, monkeypatch, kind):
    benchmark = write_benchmark(tmp_path)
    read = reader(benchmark, kind, *SIZE)
    monkeypatch.setattr(cache, "read_image", never)
    transform = TestTransform(*SIZE)
    for sample in benchmark.splits["train"]:
        assert read(sample.path).size == SIZE[::-1]
        assert torch.equal(transform(read(sample.path)), transform(read_image(sample.path)))


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_an_image_may_be_painted_on_without_changing_the_cache(tmp_path, kind):
    benchmark = write_benchmark(tmp_path)
    path = benchmark.splits["train"][0].path
    read = reader(benchmark, kind, *SIZE)
    read(path).paste((1, 2, 3), (0, 0, 12, 24))
    assert read(path).getcolors(1) is None


@pytest.fixture(scope="module")
def virtual():
    benchmark = Virtual()
    # A part of it is enough, and makes the tests fast: ten images of each of eight people.
    some = [sample for sample in benchmark.train if sample.pid in sorted(ids(benchmark))[:8]]
    benchmark.train = tuple(some)
    benchmark.query, benchmark.gallery = benchmark.query[:20], benchmark.gallery[:60]
    return benchmark


def ids(benchmark):
    return {sample.pid for sample in benchmark.train}


def batches(benchmark, read, **settings):
    data = ReIDDataModule(
        benchmark,
        TrainTransform(*SIZE, pad=2, erasing=RandomErasing()),
        TestTransform(*SIZE),
        identities_per_batch=2,
        read=read,
        **settings,
    )
    data.trainer = trainer_at(3)
    return list(data.train_dataloader())


def assert_same(batches, others):
    assert len(batches) == len(others) > 1
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for key, value in batch.items():
            assert torch.equal(value, other[key]), key


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("requires", [(), ("parsing",)])
@pytest.mark.parametrize("workers", [0, 2])
def test_training_batches_are_bit_identical(
    virtual, tmp_path, monkeypatch, kind, requires, workers
):
    expected = batches(virtual, read_image, requires=requires, workers=0)
    read = reader(virtual, kind, *SIZE, folder=tmp_path)
    monkeypatch.setattr(cache, "read_image", never)
    assert_same(expected, batches(virtual, read, requires=requires, workers=workers))


def embed(images):
    weights = torch.randn(images[0].numel(), 8, generator=torch.Generator().manual_seed(0))
    return images.flatten(1) @ weights


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_features_are_bit_identical(virtual, tmp_path, monkeypatch, kind):
    def features(read):
        return extract_features(
            embed,
            (*virtual.query, *virtual.gallery),
            TestTransform(*SIZE),
            device=torch.device("cpu"),
            mirror=True,
            batch_size=16,
            read=read,
        )

    expected = features(read_image)
    read = reader(virtual, kind, *SIZE, folder=tmp_path, splits=("query", "gallery"))
    assert len(read) == 80
    monkeypatch.setattr(cache, "read_image", never)
    assert torch.equal(features(read), expected)


def test_tracklets_are_cached_frame_by_frame(tmp_path, monkeypatch):
    root = write_ccvid(tmp_path)
    for number, path in enumerate(sorted(root.rglob("0*.jpg"))):
        write_noise(path, number)
    monkeypatch.setattr(CCVID, "counts", {})
    benchmark = CCVID(tmp_path)

    def features(read):
        arguments = (benchmark.gallery, TestTransform(*SIZE))
        return extract_features(embed, *arguments, device=torch.device("cpu"), read=read)

    expected = features(read_image)
    trained = batches(benchmark, read_image, workers=0, images_per_identity=1)
    read = reader(benchmark, "disk", *SIZE)
    assert len(read) == 5 + 70 + 9 + 33 + 8 + 1 + 12 + 4 + 17 + 40
    monkeypatch.setattr(cache, "read_image", never)
    assert torch.equal(features(read), expected)
    assert trained[0]["image"].shape == (2, 8, 3, *SIZE)
    assert_same(trained, batches(benchmark, read, workers=0, images_per_identity=1))
    assert CCVID(tmp_path).num_foreign_files == benchmark.num_foreign_files


def test_an_uncached_image_is_read_from_its_file(tmp_path):
    benchmark = write_benchmark(tmp_path)
    read = reader(benchmark, "memory", *SIZE, splits=("query",))
    there, elsewhere = (benchmark.splits["train"][number].path for number in (1, 5))
    assert there in read
    assert elsewhere not in read
    assert read(elsewhere).tobytes() == read_image(elsewhere).tobytes()
    with pytest.raises(DataError, match=r"gone\.jpg"):
        read(str(tmp_path / "gone.jpg"))


def test_without_a_cache_the_files_are_read(tmp_path):
    benchmark = write_benchmark(tmp_path)
    assert reader(benchmark, "none", *SIZE) is read_image
    assert cache_names(tmp_path) == ["train"]
    with pytest.raises(ConfigError, match=r"data\.cache=ram should be one of none, memory, disk"):
        reader(benchmark, "ram", *SIZE)


class EnlargesSome(TestTransform):
    def __call__(self, image):
        enlarged = TestTransform(self.height + 3, self.width + 2)(image)[:, 1:-2, 1:-1]
        return enlarged if torch.rand(()) < 0.5 else super().__call__(image)


@pytest.mark.parametrize("transform", [EnlargesSome(*SIZE), TestTransform(48, 24)])
def test_a_transform_that_does_not_resize_first_is_refused(tmp_path, transform):
    benchmark = write_benchmark(tmp_path)
    name = type(transform).__name__
    with pytest.raises(ConfigError, match=f"24x12 pixels, but {name} does not begin with resizing"):
        image_reader(benchmark, "disk", Resizing(*SIZE), (TestTransform(*SIZE), transform))
    assert cache_names(tmp_path) == ["train"]
    assert image_reader(benchmark, "none", Resizing(*SIZE), (transform,)) is read_image


def test_a_cache_on_disk_is_built_once_and_lies_in_the_benchmarks_root(tmp_path, monkeypatch):
    benchmark = write_benchmark(tmp_path)
    built = reader(benchmark, "disk", *SIZE)
    names = cache_names(tmp_path / ".ccreid-cache")
    assert [name.rsplit("-", 1)[0] for name in names] == [
        f"noise-{split}-24x12" for split in ("gallery", "query", "train")
    ]
    monkeypatch.setattr(cache_files, "read_image", never)
    again = reader(benchmark, "disk", *SIZE)
    for sample in benchmark.splits["train"]:
        assert again(sample.path).tobytes() == built(sample.path).tobytes()


def test_a_moved_benchmark_keeps_its_cache(tmp_path, monkeypatch):
    benchmark = write_benchmark(tmp_path / "here")
    first = reader(benchmark, "disk", *SIZE)(benchmark.splits["train"][3].path)
    (tmp_path / "here").rename(tmp_path / "there")
    benchmark.root = tmp_path / "there"
    for split, samples in benchmark.splits.items():
        moved = [Sample(s.path.replace("/here/", "/there/"), pid=1) for s in samples]
        benchmark.splits[split] = tuple(moved)
    monkeypatch.setattr(cache_files, "read_image", never)
    again = reader(benchmark, "disk", *SIZE)(benchmark.splits["train"][3].path)
    assert again.tobytes() == first.tobytes()


def drop_last(benchmark):
    benchmark.splits["train"] = benchmark.splits["train"][:-1]


def swap(benchmark):
    benchmark.splits["train"] = benchmark.splits["train"][::-1]


def touch(benchmark):
    status = os.stat(path := benchmark.splits["train"][4].path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def replace_by_another_size(benchmark):
    status = os.stat(path := benchmark.splits["train"][4].path)
    write_noise(Path(path), 99, size=(30, 40))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("change", [drop_last, swap, touch, replace_by_another_size])
def test_another_list_or_a_changed_file_is_another_cache(tmp_path, change):
    benchmark = write_benchmark(tmp_path)
    place = tmp_path / "cache"
    reader(benchmark, "disk", *SIZE, folder=place, splits=("train",))
    before = cache_names(place)
    change(benchmark)
    read = reader(benchmark, "disk", *SIZE, folder=place, splits=("train",))
    assert len(cache_names(place)) == 2  # the old one is not removed
    assert set(before) < set(cache_names(place))
    transform = TestTransform(*SIZE)
    for sample in benchmark.splits["train"]:
        assert torch.equal(transform(read(sample.path)), transform(read_image(sample.path)))


def test_the_input_size_and_the_decoders_version_are_part_of_the_name(tmp_path, monkeypatch):
    benchmark = write_benchmark(tmp_path)
    paths = [sample.path for sample in benchmark.splits["train"]]
    names = {cache_files.fingerprint(paths, tmp_path, Resizing(*size)) for size in [(8, 4), (4, 8)]}
    monkeypatch.setattr(cache_files.PIL, "__version__", "0.0")
    assert len(names | {cache_files.fingerprint(paths, tmp_path, Resizing(8, 4))}) == 3


def test_a_changed_member_of_an_archive_is_another_cache(tmp_path):
    def pack(number):
        write_noise(tmp_path / "a.png", number)
        archive = tmp_path / f"{number}" / "a.zip"
        archive.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as file:
            file.write(tmp_path / "a.png", "top/a.png")
        path = member_path(archive, "top/a.png")
        return path, cache_files.fingerprint([path], archive.parent, Resizing(*SIZE))

    (first, one), (_, other) = pack(1), pack(2)
    assert one != other
    os.utime(tmp_path / "1" / "a.zip", (0, 0))  # the content decides
    assert cache_files.fingerprint([first], tmp_path / "1", Resizing(*SIZE)) == one
    with pytest.raises(DataError, match=r"a\.zip!top/b\.png"):
        cache_files.fingerprint([first.replace("a.png", "b.png")], tmp_path, Resizing(*SIZE))


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_an_unreadable_image_is_named_and_nothing_is_left(tmp_path, kind):
    benchmark = write_benchmark(tmp_path)
    cut = Path(benchmark.splits["train"][4].path)
    cut.write_bytes(cut.read_bytes()[:100])
    with pytest.raises(DataError, match=r"04\.jpg is not a whole image"):
        reader(benchmark, kind, *SIZE, folder=tmp_path / "cache")
    assert kind == "memory" or cache_names(tmp_path / "cache") == []
    cut.unlink()
    with pytest.raises(DataError, match=r"04\.jpg"):
        reader(benchmark, kind, *SIZE, folder=tmp_path / "cache")


def build_and_die(benchmark, monkeypatch):
    monkeypatch.setattr(cache_files, "_BLOCK", 2)
    last = benchmark.splits["train"][-1].path

    def read(path):
        if path == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return read_image(path)

    monkeypatch.setattr(cache_files, "read_image", read)
    reader(benchmark, "disk", *SIZE, splits=("train",))


def test_a_killed_build_leaves_nothing_that_is_believed(tmp_path, monkeypatch):
    benchmark = write_benchmark(tmp_path)
    child = FORK.Process(target=build_and_die, args=(benchmark, monkeypatch))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    (left,) = cache_names(tmp_path / ".ccreid-cache")
    assert left.endswith(".ccreid-part")
    read = reader(benchmark, "disk", *SIZE, splits=("train",))
    (name,) = cache_names(tmp_path / ".ccreid-cache")
    assert name.endswith(".npy")
    last = benchmark.splits["train"][-1].path
    assert torch.equal(TestTransform(*SIZE)(read(last)), TestTransform(*SIZE)(read_image(last)))


def build_and_count(benchmark, monkeypatch, journal, barrier):
    def read(path):
        with open(journal, "a") as file:
            file.write(f"{Path(path).name}\n")
        return read_image(path)

    monkeypatch.setattr(cache_files, "read_image", read)
    barrier.wait(30)
    cached = reader(benchmark, "disk", *SIZE, splits=("train",))
    assert len(cached) == 40


def test_processes_that_start_together_build_one_cache(tmp_path, monkeypatch):
    benchmark = write_benchmark(tmp_path, images=40)
    journal, barrier = tmp_path / "journal", FORK.Barrier(3)
    arguments = (benchmark, monkeypatch, journal, barrier)
    children = [FORK.Process(target=build_and_count, args=arguments) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(journal.read_text().split()) == [f"{number:02d}.jpg" for number in range(40)]


def test_a_file_system_without_locks_still_gets_a_cache(tmp_path, monkeypatch):
    def acquire(self, *arguments, **settings):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cache_files.FileLock, "acquire", acquire)
    benchmark = write_benchmark(tmp_path)
    (tmp_path / "cache").mkdir()
    read = reader(benchmark, "disk", *SIZE, folder=tmp_path / "cache")
    assert len(read) == 6
    assert len(cache_names(tmp_path / "cache")) == 3


def test_no_room_on_the_disk_is_said_before_anything_is_decoded(tmp_path, monkeypatch):
    benchmark = write_benchmark(tmp_path)
    monkeypatch.setattr(cache_files, "read_image", never)
    monkeypatch.setattr(cache_files.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**29))
    with pytest.raises(
        DataError, match=r"take 1\.7 GiB, and 0\.5 GiB.*data\.cache_folder=<folder>"
    ):
        image_reader(benchmark, "disk", Resizing(10_000, 10_000), ())
    assert cache_names(tmp_path / ".ccreid-cache") == []


def test_no_room_in_memory_is_said_before_anything_is_decoded(tmp_path, monkeypatch):
    benchmark = write_benchmark(tmp_path)
    monkeypatch.setattr(cache_files, "read_image", never)
    with pytest.raises(DataError, match=r"take 16763806\.3 GiB.*data\.cache=disk"):
        image_reader(benchmark, "memory", Resizing(10**6, 10**9), ())


def test_a_disk_that_fills_up_meanwhile_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_files.os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left.*data\.cache_folder=<folder>"):
        reader(write_benchmark(tmp_path), "disk", *SIZE)
    assert cache_names(tmp_path / ".ccreid-cache") == []


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    benchmark = write_benchmark(tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"(?s)Cannot write a cache into .*data\.cache_folder"):
        reader(benchmark, "disk", *SIZE, folder=tmp_path / "file" / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_in_a_read_only_folder_is_used_but_none_is_built(tmp_path):
    benchmark = write_benchmark(tmp_path)
    folder = tmp_path / ".ccreid-cache"
    reader(benchmark, "disk", *SIZE)
    folder.chmod(0o555)
    try:
        assert len(reader(benchmark, "disk", *SIZE)) == 6
        with pytest.raises(DataError, match="Permission denied"):
            reader(benchmark, "disk", 9, 9)
    finally:
        folder.chmod(0o755)


def test_a_cache_file_cut_short_is_not_believed(tmp_path):
    benchmark = write_benchmark(tmp_path)
    reader(benchmark, "disk", *SIZE, splits=("train",))
    (file,) = (tmp_path / ".ccreid-cache").glob("*.npy")
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"train-24x12-\w+\.npy is not a whole cache file"):
        reader(benchmark, "disk", *SIZE, splits=("train",))
    np.save(file, np.zeros((6, 12, 24, 3), dtype=np.uint8))
    with pytest.raises(DataError, match="was not made by this cache"):
        reader(benchmark, "disk", *SIZE, splits=("train",))


def test_a_pickled_cache_on_disk_is_opened_again_and_not_copied(tmp_path):
    benchmark = write_benchmark(tmp_path)
    read = reader(benchmark, "disk", *SIZE)
    pickled = pickle.dumps(read)
    assert len(pickled) < 6 * 24 * 12 * 3  # what the pixels take
    again = pickle.loads(pickled)
    assert isinstance(again, CachedImages)
    for sample in benchmark.splits["train"]:
        assert again(sample.path).tobytes() == read(sample.path).tobytes()


def test_a_pickled_cache_in_memory_is_whole(tmp_path):
    benchmark = write_benchmark(tmp_path)
    read = reader(benchmark, "memory", *SIZE)
    again = pickle.loads(pickle.dumps(read))
    for sample in benchmark.splits["train"]:
        assert again(sample.path).tobytes() == read(sample.path).tobytes()


def test_another_filter_is_another_cache(tmp_path):
    benchmark = write_benchmark(tmp_path)
    bicubic = TestTransform(*SIZE, interpolation="bicubic")
    read = image_reader(benchmark, "disk", Resizing(*SIZE, "bicubic"), (bicubic,))
    for sample in benchmark.splits["train"]:
        assert torch.equal(bicubic(read(sample.path)), bicubic(read_image(sample.path)))
    with pytest.raises(ConfigError, match="does not begin with resizing"):
        image_reader(benchmark, "disk", Resizing(*SIZE), (bicubic,))
    reader(benchmark, "disk", *SIZE)
    names = {path.name for path in (tmp_path).rglob("*.npy")}
    assert len(names) == 6
    assert sum("bicubic" in name for name in names) == 3
