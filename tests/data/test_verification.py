import dataclasses
import os
import random
import shutil
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from ccreid.data.benchmarks import virtual
from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.ccvid import CCVID
from ccreid.data.benchmarks.celeb_reid import CelebReID, CelebReIDLight
from ccreid.data.benchmarks.deepchange import DeepChange
from ccreid.data.benchmarks.last import LaST
from ccreid.data.benchmarks.ltcc import LTCC
from ccreid.data.benchmarks.nkup import NKUP
from ccreid.data.benchmarks.prcc import PRCC
from ccreid.data.benchmarks.vc_clothes import VCClothes
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.verification.checks import verify_benchmark
from ccreid.errors import DataError
from tests.miniature.ccvid import write_ccvid
from tests.miniature.celeb_reid import write_celeb_reid
from tests.miniature.deepchange import write_deepchange
from tests.miniature.last import write_last
from tests.miniature.ltcc import write_ltcc
from tests.miniature.nkup import write_nkup
from tests.miniature.prcc import write_prcc
from tests.miniature.vc_clothes import write_vc_clothes

MINIATURES = {
    CCVID: write_ccvid,
    CelebReID: write_celeb_reid,
    CelebReIDLight: lambda root: write_celeb_reid(root, "Celeb-reID-light"),
    DeepChange: write_deepchange,
    LaST: write_last,
    LTCC: write_ltcc,
    NKUP: write_nkup,
    PRCC: write_prcc,
    VCClothes: write_vc_clothes,
}
every_miniature = pytest.mark.parametrize("kind", MINIATURES, ids=lambda kind: kind.name)


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that writes a miniature without equal images and publishes its counts."""

    def write(kind):
        MINIATURES[kind](tmp_path)
        noise = random.Random(0)
        for path in sorted(tmp_path.rglob("*")):
            if path.suffix in (".jpg", ".png") and not path.name.startswith("."):
                Image.frombytes("RGB", (8, 16), noise.randbytes(8 * 16 * 3)).save(path)
        monkeypatch.setattr(kind, "counts", {})
        monkeypatch.setattr(kind, "counts", kind(tmp_path).found_counts())
        return kind(tmp_path)

    return write


@pytest.fixture
def check(tmp_path):
    def run(kind, images=True):
        manifests = tmp_path / "manifests" if images else None
        return verify_benchmark(kind.name, kind, lambda: kind(tmp_path), manifests)

    return run


def cut_short(path):
    Path(path).write_bytes(Path(path).read_bytes()[:-150])


def the_only_fault(result):
    assert result.status == "wrong"
    (fault,) = result.faults
    return fault


@every_miniature
def test_a_whole_miniature_is_right(make, check, kind):
    benchmark = make(kind)
    result = check(kind)
    assert (result.status, result.faults, result.warnings) == ("right", [], [])
    paths = {p for split in benchmark.splits.values() for s in split for p in s.image_paths}
    assert result.num_images == result.num_inspected == len(paths)
    assert (result.unreadable, result.duplicates) == ({}, [])
    assert {count.part for count in result.counts} >= {"train", "query", "gallery"}
    assert {(count.certainty, count.verdict) for count in result.counts} == {("verified", "ok")}
    assert [protocol.name for protocol in result.protocols] == [p.name for p in kind.protocols]
    assert result.root == str(benchmark.root)
    names = [path for path in benchmark.root.rglob("*.*g") if path.name[0] != "."]
    assert result.tree.images == len(names)


@every_miniature
def test_an_image_cut_short_is_named(make, check, kind):
    path = make(kind).query[-1].image_paths[-1]
    cut_short(path)
    result = check(kind)
    name = os.path.relpath(path, result.root)
    assert list(result.unreadable) == [name]
    assert the_only_fault(result).startswith(f"{name}: cut short or damaged (")


@every_miniature
def test_an_image_in_train_and_test_is_a_leak(make, check, kind):
    benchmark = make(kind)
    train, test = benchmark.train[0].image_paths[-1], benchmark.gallery[-1].image_paths[0]
    shutil.copy(train, test)
    result = check(kind)
    (duplicate,) = result.duplicates
    assert (duplicate.kind, duplicate.same_person) == ("train and test", False)
    assert set(duplicate.paths) == {os.path.relpath(path, result.root) for path in (train, test)}
    assert the_only_fault(result).startswith("1 image is in train and in test: ")


@every_miniature
def test_without_images_names_and_counts_are_checked_alone(make, check, kind):
    benchmark = make(kind)
    cut_short(benchmark.train[0].image_paths[0])
    result = check(kind, images=False)
    assert (result.status, result.num_inspected) == ("right", 0)
    assert result.num_images > 0


@every_miniature
def test_a_benchmark_that_is_not_there(check, kind):
    result = check(kind)
    assert (result.status, result.root, result.tree) == ("not found", None, None)
    (fault,) = result.faults
    assert kind.layout in fault
    assert kind.url in result.url


def test_a_text_file_with_an_images_name(make, check):
    Path(make(VCClothes).train[0].path).write_text("hello")
    assert the_only_fault(check(VCClothes)) == "train/001-1-02-01.jpg: no image."


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("train 0", "train 1", "1 image of one person is there more than once: "),
        ("train 0", "train 2", "1 image of different people is there more than once: "),
        ("query 0", "gallery 0", "1 image of one person is in query and in gallery: "),
        ("query 0", "gallery 4", "1 image of different people is in query and in gallery: "),
    ],
)
def test_an_image_under_two_names_is_warned_about(make, check, source, target, said):
    benchmark = make(LTCC)
    paths = []
    for name in (source, target):
        split, number = name.split()
        paths.append(benchmark.splits[split][int(number)].path)
    shutil.copy(*paths)
    result = check(LTCC)
    assert (result.status, result.faults) == ("right", [])
    names = sorted(os.path.relpath(path, result.root) for path in paths)
    assert result.warnings == [f"{said}{' = '.join(names)}."]


def test_many_duplicates_are_counted_and_some_named(make, check):
    benchmark = make(CCVID)
    for frame in benchmark.gallery[-1].frames:  # twelve
        shutil.copy(benchmark.gallery[-2].frames[-1], frame)
    for frame in benchmark.train[0].frames[1:5]:
        shutil.copy(benchmark.train[0].frames[0], frame)
    first, second = check(CCVID).warnings
    assert first.startswith("1 image of one person is there more than once: session1/001_01/00001")
    assert second.startswith("1 image of different people is there more than once: session2/226_05")
    assert second.endswith(" = session3/010_01/00004.jpg and 8 more.")


def test_swapped_folders_b_and_c(make, check):
    make(PRCC)
    test = Path(check(PRCC).root) / "rgb" / "test"
    for old, new in (("B", "old"), ("C", "B"), ("old", "C")):
        shutil.move(test / old, test / new)
    result = check(PRCC)
    assert "folders B and C" in result.faults[0]
    assert [fault.split(":")[0] for fault in result.faults[1:]] == ["prcc query B", "prcc query C"]
    verdicts = {count.part: count.verdict for count in result.counts}
    assert verdicts["query B"] == verdicts["query C"] == "wrong"
    assert verdicts["query"] == "ok"


def test_a_missing_split_folder_does_not_hide_the_other_faults(make, check):
    root = make(LTCC).root
    shutil.move(root / "test", root / "gallery")
    cut_short(root / "train" / "000_1_c1_000012.png")
    result = check(LTCC)
    assert f"{root / 'test'} does not exist; {root} holds gallery, info" in result.faults[0]
    assert "Looked in" not in result.faults[0]
    assert result.faults[1] == "ltcc: the gallery split has no image."
    assert result.faults[-1].startswith("train/000_1_c1_000012.png: cut short")
    assert {folder.name for folder in result.tree.folders} == {"gallery", "info", "query", "train"}
    with pytest.raises(DataError, match=r"test does not exist; (?s:.*)Looked in(?s:.*)data\.root="):
        LTCC(root)


def test_all_unexpected_names_are_listed_and_training_stops_at_the_first(make, check):
    benchmark = make(LTCC)
    names = ("7_1_c1_5 copy.png", "99999999999999999999_1_c1_5.png")
    for name in names:
        shutil.copy(benchmark.train[0].path, benchmark.root / "train" / name)
    (benchmark.root / "train" / "no image.txt").touch()
    result = check(LTCC)
    assert result.faults == [f"Unexpected name {benchmark.root / 'train' / n}." for n in names]
    assert result.num_foreign_files == benchmark.num_foreign_files + 1
    with pytest.raises(DataError, match=r"Unexpected name .* copy") as error:
        LTCC(benchmark.root)
    assert "99999" not in str(error.value)


def test_folders_that_are_no_people_are_listed(make, check):
    train = make(LaST).root / "train"
    (train / "film").mkdir()
    (train / "extra").mkdir()
    assert check(LaST).faults == [
        f"{train / name} should be a person's number." for name in ("extra", "film")
    ]


def test_counts_that_are_verified_and_that_are_remembered(make, check, monkeypatch):
    make(LTCC)
    monkeypatch.setattr(SplitCount, "tolerance", 0.8)
    counts = {
        "train": SplitCount(2, 5),
        "query": SplitCount(9, 3, certain_identities=False),
        "gallery": SplitCount(3, 6, certain=False),
    }
    monkeypatch.setattr(LTCC, "counts", counts)
    result = check(LTCC)
    assert "train: expected 5 images of 2 people, found 4 images" in the_only_fault(result)
    assert ["query: expected" in text for text in result.warnings] == [True, False]
    told = {count.part: (count.certainty, count.verdict) for count in result.counts}
    assert told == {
        "train": ("verified", "wrong"),
        "query": ("verified, people remembered", "differs"),
        "gallery": ("remembered", "differs"),
        "total": ("", "unpublished"),
        "train outfits": ("", "unpublished"),
        "all outfits": ("", "unpublished"),
    }
    monkeypatch.setattr(LTCC, "counts", {"gallery": counts["gallery"]})
    assert check(LTCC).status == "right"


def test_empty_splits(make, check, monkeypatch):
    root = make(LTCC).root
    monkeypatch.setattr(LTCC, "counts", {})
    for split in ("query", "test"):
        shutil.rmtree(root / split)
        (root / split).mkdir()
    result = check(LTCC)
    assert result.faults == [f"ltcc: the {s} split has no image." for s in ("query", "gallery")]
    assert (result.protocols, result.num_inspected) == ([], 4)


def test_query_people_who_are_not_in_the_gallery(make, check, monkeypatch):
    root = make(LTCC).root
    monkeypatch.setattr(LTCC, "counts", {})
    (root / "test" / "144_1_c12_011240.png").unlink()
    result = check(LTCC)
    (warning,) = result.warnings
    assert "1 of the 2 people of the query are not in the gallery" in warning
    assert warning.endswith(": 144.")
    assert result.status == "right"
    assert {p.name: (p.unanswerable, p.queries) for p in result.protocols} == {
        "general": (1, 3),
        "cc": (1, 3),
        "sc": (1, 3),
    }
    for image in (root / "test").glob("003_*"):
        image.unlink()
    result = check(LTCC)
    assert result.status == "wrong"
    assert result.faults == [
        f"ltcc: none of the 3 queries of protocol '{name}' has a match in the gallery."
        for name in ("general", "cc", "sc")
    ]


def test_queries_without_match_are_counted_per_protocol(make, check):
    make(LTCC)
    counts = {p.name: (p.unanswerable, p.queries) for p in check(LTCC).protocols}
    assert counts == {"general": (0, 3), "cc": (1, 3), "sc": (0, 3)}


def test_a_protocol_whose_cameras_show_nothing(make, check, monkeypatch):
    root = make(VCClothes).root
    monkeypatch.setattr(VCClothes, "counts", {})
    for image in root.glob("query/*-[23]-*.jpg"):
        image.unlink()
    fault = the_only_fault(check(VCClothes))
    assert "vc_clothes: there is no query under the cameras of protocol 'sc' (sc: " in fault
    assert "Get the whole benchmark" in fault


def test_every_fault_of_deepchanges_lists(make, check):
    root = make(DeepChange).root
    train = root / "train-set-bbox.txt"
    train.write_text(f"{train.read_text()}nonsense\nP1_C1_c1_2019_1.jpg,5\n,\n")
    gallery = root / "test-set-gallery-bbox.txt"
    gallery.write_text(f"{gallery.read_text()}P9_C1_c1_2019_1.jpg,77\nP5_C4_c1_2019_2.jpg,99\n")
    (root / "test-set-query-bbox.txt").unlink()
    result = check(DeepChange)
    for part in (
        "train-set-bbox.txt, line 4: expected <file>.jpg,<tracklet> but found 'nonsense'",
        "train-set-bbox.txt, line 6",
        "test-set-query-bbox.txt does not exist",
        "lacks 1 of the 6 images",
        "the query split has no image",
        "P5_C4_c1_2019_2.jpg is in the tracklets 13 and 99",
    ):
        assert sum(part in fault for fault in result.faults) == 1, part
    repeated = "train-set-bbox.txt repeats lines (1), the first names P1_C1_c1_2019_1.jpg"
    assert any(repeated in warning for warning in result.warnings)


def test_the_old_release_of_last(make, check, monkeypatch):
    make(LaST)
    monkeypatch.setattr(LaST, "old_release", {"train": 4})
    assert "this is the old release" in the_only_fault(check(LaST))


def test_a_refoldered_copy_is_one_fault_among_others(make, check):
    (make(PRCC).root / "rgb" / "test" / "query").mkdir()
    faults = check(PRCC).faults
    assert sum("re-foldered copy" in fault for fault in faults) == 1
    assert "prcc: the train split has no image." in faults


def test_all_frames_of_a_tracklet_are_checked(make, check):
    tracklet = make(CCVID).gallery[1]
    cut_short(tracklet.frames[1])
    for frame in (tracklet.frames[2], tracklet.frames[3]):
        Path(frame).write_bytes(b"")  # equal, but of no use
    result = check(CCVID)
    unreadable = result.unreadable
    assert result.duplicates == []
    assert [name.rsplit("/", 1)[1] for name in unreadable] == [
        "00002.jpg",
        "00003.jpg",
        "00004.jpg",
    ]


def test_people_are_counted_not_listed_in_the_tree(make, check):
    train = make(PRCC).root / "rgb" / "train"
    for number in range(100, 120):
        shutil.copytree(train / "001", train / str(number))
    (rgb,) = check(PRCC).tree.folders
    folder = next(inner for inner in rgb.folders if inner.name == "train")
    assert (folder.num_folders, folder.folders, folder.images) == (23, (), 18 + 20 * 6)


def test_the_shipped_archive_is_known_by_its_hash(tmp_path, monkeypatch):
    altered = tmp_path / "virtual.zip"
    altered.write_bytes(virtual.ARCHIVE.read_bytes())
    with zipfile.ZipFile(altered, "a") as archive:
        archive.writestr("virtual/train/person.jpg", "x")
    assert verify_benchmark("virtual", Virtual, Virtual).faults == []
    monkeypatch.setattr(virtual, "ARCHIVE", altered)
    result = verify_benchmark("virtual", Virtual, Virtual)
    assert ["SHA-256 differs" in result.faults[0], "person.jpg" in result.faults[1]] == [True] * 2
    (top,) = result.tree.folders
    assert {f.name: f.images for f in top.folders}["train"] == 1281
    assert result.num_images == 1920


def test_an_archive_of_ones_own_is_read_image_by_image(tmp_path):
    names = [f"mine/{split}/0001_o0_c0{i}_00.jpg" for i, split in enumerate(("query", "gallery"))]
    with zipfile.ZipFile(virtual.ARCHIVE) as whole, zipfile.ZipFile(tmp_path / "a.zip", "w") as own:
        images = sorted(name for name in whole.namelist() if "/train/00" in name)[:3]
        own.writestr("mine/train/0002_o0_c00_00.jpg", whole.read(images[0]))
        own.writestr(names[0], whole.read(images[1])[:-500])
        own.writestr(names[1], whole.read(images[0]))
    result = verify_benchmark("mine", Virtual, lambda: Virtual(tmp_path / "a.zip"), tmp_path)
    assert list(result.unreadable) == [names[0]]
    assert result.faults[-1] == (
        f"1 image is in train and in test: {names[1]} = mine/train/0002_o0_c00_00.jpg."
    )


def test_a_part_that_is_not_there_and_not_needed(make, check, monkeypatch):
    make(PRCC)
    counts = {**PRCC.counts, "val": SplitCount(3, 3)}
    monkeypatch.setattr(PRCC, "counts", counts)
    monkeypatch.setattr(PRCC, "total_without_val", counts["total"])
    result = check(PRCC)
    assert result.status == "right"
    assert "prcc val: expected 3 images of 3 people, but it is not there" in result.warnings[0]
    last = result.counts[-1]
    assert (last.part, last.certainty, last.verdict) == ("val", "verified", "absent")
    assert (last.found.identities, last.found.images) == (None, None)


@pytest.mark.parametrize("kind", [LTCC, PRCC, CCVID])
def test_people_in_train_and_in_test_are_wrong(make, check, kind, monkeypatch):
    """Where the numbers are one numbering; the person's images are others."""
    benchmark = make(kind)
    monkeypatch.setattr(kind, "counts", {})
    monkeypatch.setattr(kind, "list_split", _with_a_train_person_in_the_gallery(kind.list_split))
    fault = the_only_fault(check(kind, images=False))
    assert fault == (f"{kind.name}: 1 people are in train and in test: {benchmark.train[0].pid}.")


@pytest.mark.parametrize("kind", [VCClothes, DeepChange])
def test_they_are_warned_about_where_nobody_published_the_numbering(make, check, kind, monkeypatch):
    benchmark = make(kind)
    monkeypatch.setattr(kind, "counts", {})
    monkeypatch.setattr(kind, "list_split", _with_a_train_person_in_the_gallery(kind.list_split))
    result = check(kind, images=False)
    assert result.status == "right"
    (warning,) = [text for text in result.warnings if "in train and in test" in text]
    assert f"1 people are in train and in test: {benchmark.train[0].pid}." in warning


def _with_a_train_person_in_the_gallery(list_split):
    def listed(self, split):
        samples = list(list_split(self, split))
        if split == "train":
            self.one_of_train = samples[0].pid
        if split == "gallery":
            samples.append(dataclasses.replace(samples[-1], pid=self.one_of_train))
        return iter(samples)

    return listed


@pytest.mark.parametrize("kind", [CelebReID, CelebReIDLight])
def test_numbers_that_start_again_are_no_fault(make, check, kind):
    benchmark = make(kind)
    assert {s.pid for s in benchmark.train} & {s.pid for s in benchmark.gallery}
    assert check(kind, images=False).status == "right"


def test_folders_of_file_managers_hold_no_images(make, check):
    benchmark = make(LTCC)
    shutil.copytree(benchmark.root / "train", benchmark.root / "train" / "@eaDir")
    result = check(LTCC)
    assert result.status == "right"
    assert {f.name: f.images for f in result.tree.folders}["train"] == len(benchmark.train)
    assert result.num_foreign_files == benchmark.num_foreign_files + 1
