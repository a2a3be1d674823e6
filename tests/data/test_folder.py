import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ccreid.config import compose
from ccreid.data.benchmarks.base import collect_faults
from ccreid.data.benchmarks.folder import Folder
from ccreid.data.benchmarks.own import SplitRule, numbers
from ccreid.data.datamodule import ReIDDataModule, unanswerable_queries
from ccreid.data.files import read_image
from ccreid.data.protocols import Protocol
from ccreid.data.sample import Sample, ids
from ccreid.data.transforms import TestTransform, TrainTransform
from ccreid.errors import ConfigError, DataError
from ccreid.retrieval import rank_distances
from ccreid.train import train
from tests.conftest import TINY
from tests.miniature.folder import IMAGES, PATTERNS, write_folder, write_people
from tests.miniature.opening import open_by_config
from tests.miniature.pictures import write_picture


def names(samples):
    return ["/".join(Path(sample.path).parts[-2:]) for sample in samples]


def test_reads_the_three_splits(tmp_path):
    folder = Folder(write_folder(tmp_path), **PATTERNS)
    assert [len(samples) for samples in folder.splits.values()] == [24, 12, 12]
    assert sorted(set(ids(folder.train, "pid"))) == [0, 1, 2]
    assert sorted(set(ids(folder.query, "pid"))) == sorted(set(ids(folder.gallery, "pid")))
    assert sorted(set(ids(folder.query, "pid"))) == [3, 4, 5]  # numbered over all splits
    assert names(folder.query)[0] == "Di/c1_a_1.jpg"
    assert folder.warnings == ()
    assert folder.num_foreign_files == 12  # four in each split
    for samples in folder.splits.values():
        assert [s.path for s in samples] == sorted(s.path for s in samples)
        assert all(read_image(s.path).size == (16, 32) for s in samples)


def test_names_that_are_numbers_are_kept(tmp_path):
    root = write_folder(tmp_path, ("7", "012", "9", "100", "23", "5"))
    assert {s.pid for s in Folder(root).train} == {7, 12, 9}
    assert {s.pid for s in Folder(root).query} == {100, 23, 5}


def test_one_name_that_is_no_number_numbers_everybody(tmp_path):
    root = write_folder(tmp_path, ("7", "12", "9", "100", "23", "x"))
    folder = Folder(root)
    order = sorted(["7", "12", "9", "100", "23", "x"])  # as text: 100, 12, 23, 7, 9, x
    found = {name.split("/")[0]: s.pid for s in folder.train for name in names([s])}
    assert found == {person: order.index(person) for person in ("7", "12", "9")}


def test_numbers_too_long_for_an_id_are_names():
    assert numbers(["1" * 30, "2"]) == {"": -1, "1" * 30: 0, "2": 1}
    assert numbers(["9" * 18, ""]) == {"": -1, "9" * 18: 10**18 - 1}
    assert np.int64(10**18 - 1) == 10**18 - 1


def test_cameras_and_outfits_are_read_by_patterns(tmp_path):
    folder = Folder(write_folder(tmp_path), **PATTERNS)
    assert [s.camid for s in folder.train[:8]] == [1, 1, 1, 1, 2, 2, 2, 2]
    a, b = folder.train[0].clothes_id, folder.train[2].clothes_id
    assert [s.clothes_id for s in folder.train[:8]] == [a, a, b, b] * 2
    worn = {(s.pid, s.clothes_id) for samples in folder.splits.values() for s in samples}
    assert len(worn) == len({outfit for _, outfit in worn}) == 12
    assert [p.name for p in folder.protocols] == ["general", "sc", "cc"]
    assert unanswerable_queries(folder) == {"general": 0, "sc": 0, "cc": 0}


def test_without_patterns_nothing_is_known_and_no_image_is_junk(tmp_path):
    folder = Folder(write_folder(tmp_path))
    samples = folder.train + folder.query + folder.gallery
    assert {(s.camid, s.clothes_id) for s in samples} == {(-1, -1)}
    assert [str(p) for p in folder.protocols] == ["general: every gallery image counts"]
    assert unanswerable_queries(folder) == {"general": 0}


@pytest.mark.parametrize("rule", ["sc", "cc"])
def test_clothes_without_cameras_decide_alone(tmp_path, rule):
    folder = Folder(write_folder(tmp_path), clothes_pattern=PATTERNS["clothes_pattern"])
    (protocol,) = [p for p in folder.protocols if p.rule == rule]
    assert "camera" not in str(protocol)
    same_person = ids(folder.query, "pid")[:, None] == ids(folder.gallery, "pid")
    distances = np.random.default_rng(0).random((12, 12)) - 0.3 * same_person
    asked = protocol.ranking_ids(folder.query, folder.gallery)
    results = rank_distances(distances, **asked, rule=protocol.rule)
    hits = []
    for row, query in zip(distances, folder.query, strict=True):
        ranked = [folder.gallery[i] for i in np.argsort(row, kind="stable")]
        counts = [
            g
            for g in ranked
            if g.pid != query.pid or (g.clothes_id == query.clothes_id) == (rule == "sc")
        ]
        hits.append(counts[0].pid == query.pid)
    assert results.metrics()["rank1"] == pytest.approx(np.mean(hits))
    assert 0 < np.mean(hits) < 1  # else any rule would do
    assert protocol.num_queries_without_match(folder.query, folder.gallery) == (0, 12)


def test_protocols_of_clothes_alone_are_told_from_others():
    assert str(Protocol("cc", rule="cc", camera="none")) == (
        "cc: gallery images of the same person, same clothes, do not count"
    )
    assert str(Protocol("sc", rule="sc", camera="none")) == (
        "sc: gallery images of the same person, other clothes, do not count"
    )


def test_a_clothes_protocol_that_nothing_can_be_asked_by_is_left_out(tmp_path):
    root = write_folder(tmp_path)
    folder = Folder(root, clothes_pattern="(.*)")  # c1_a_1, c1_a_2, ...: nothing is worn twice
    assert [p.name for p in folder.protocols] == ["general", "cc"]
    assert "left out: sc:" in folder.warnings[0]


def test_one_camera_is_none(tmp_path):
    folder = Folder(write_folder(tmp_path), camera_pattern="(c)[0-9]_.*")
    assert [p.rule for p in folder.protocols] == ["none"]
    assert folder.warnings == ("Query and gallery are of one camera, so every image counts.",)


def test_without_split_folders_every_second_person_is_tested(tmp_path):
    folder = Folder(write_people(tmp_path), **PATTERNS)
    assert {name.split("/")[0] for name in names(folder.train)} == {"Ana", "Cy", "Ed"}
    assert len(folder.train) == 24
    one_of_each = [image for image in IMAGES if image.endswith("_1.jpg")]
    tested = ("Bo", "Di", "Flo")
    assert names(folder.query) == [
        f"{person}/{image}" for person in tested for image in one_of_each
    ]
    assert len(folder.gallery) == 12
    (note,) = folder.warnings
    assert "data.benchmark.test_people=0.5" in note
    assert "first image of each camera and outfit" in note
    assert unanswerable_queries(folder) == {"general": 0, "sc": 0, "cc": 0}


def test_the_number_of_queries_can_be_chosen(tmp_path):
    folder = Folder(write_people(tmp_path), queries_per_person=3)
    bo = [name for name in names(folder.query) if name.startswith("Bo/")]
    assert bo == [f"Bo/{IMAGES[place]}" for place in (0, 2, 5)]
    folder = Folder(tmp_path, queries_per_person=100)
    assert Counter(ids(folder.query, "pid")) == Counter(ids(folder.gallery, "pid"))


@pytest.mark.parametrize(
    ("share", "people", "tested"),
    [
        (0.5, 5, [1, 3]),
        (0.4, 5, [2, 4]),
        (0.1, 30, [9, 19, 29]),
        (0.9, 4, [1, 2, 3]),
        (0.29, 100, [k * 100 // 29 + bool(k * 100 % 29) - 1 for k in range(1, 30)]),
    ],
)
def test_tested_people_are_evenly_spaced_and_exactly_so_many(share, people, tested):
    samples = [Sample(f"{pid}_{n}", pid) for pid in range(people) for n in range(2)]
    splits = SplitRule(share).split(samples)
    assert [s.pid for s in splits["query"]] == [s.pid for s in splits["gallery"]] == tested
    assert {s.pid for s in splits["train"]} == set(range(people)) - set(tested)
    assert sum(map(len, splits.values())) == len(samples)
    assert SplitRule(share).split(samples[::-1]) == splits


def test_people_who_come_later_change_nobodys_side():
    samples = [Sample(f"{pid}_{n}", pid) for pid in range(40) for n in range(3)]
    before, after = (SplitRule(0.3).split(samples[:n]) for n in (60, 120))
    for split, part in before.items():
        assert after[split][: len(part)] == part


def test_a_person_keeps_half_of_the_images_for_the_gallery():
    two_views = [Sample("a", 1, camid=0), Sample("b", 1, camid=1)]
    alone = [Sample("c", 3, camid=0)]
    splits = SplitRule(0.5).split([Sample("x", 0), *two_views, Sample("y", 2), *alone])
    assert [s.path for s in splits["query"]] == ["a"]
    assert [s.path for s in splits["gallery"]] == ["b", "c"]  # one image asks nothing


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"test_people": 0}, "above 0 and below 1"),
        ({"test_people": 1.0}, "above 0 and below 1"),
        ({"test_people": "half"}, "data.benchmark.test_people=half"),
        ({"queries_per_person": 0}, "data.benchmark.queries_per_person=0"),
        ({"camera_pattern": "c("}, "camera_pattern=c( is not a regular expression"),
        ({"camera_pattern": "c.*"}, "one group"),
        ({"clothes_pattern": "(c)(.*)"}, "data.benchmark.clothes_pattern"),
        ({"root": None}, "data.root=<folder>"),
    ],
)
def test_impossible_settings_are_named(tmp_path, settings, said):
    write_people(tmp_path)
    with pytest.raises(ConfigError) as error:
        Folder(**{"root": tmp_path, **settings})
    assert said in str(error.value)


@pytest.mark.parametrize(
    "pattern", ["c([0-9]+)", "c([0-9]+)_[a-z]_", "c([0-9]+)_.*\\.jpg", "(x?).*"]
)
def test_a_name_that_does_not_fit_all_of_the_pattern_is_named(tmp_path, pattern):
    write_people(tmp_path)
    with pytest.raises(DataError, match=r"c1_a_1\.jpg.*'c1_a_1', does not fit") as error:
        Folder(tmp_path, camera_pattern=pattern)
    assert f"data.benchmark.camera_pattern={pattern}," in str(error.value)


def test_a_missing_root_says_where_and_what(tmp_path):
    write_people(tmp_path / "people")
    with pytest.raises(DataError, match=r"Did you mean 'people'\?") as error:
        Folder(tmp_path / "poeple")
    for part in (str(tmp_path / "poeple"), "<root>/<person>/<image>.jpg", "data.root="):
        assert part in str(error.value)


def test_a_missing_split_says_what_is_there(tmp_path):
    write_folder(tmp_path)
    shutil.move(tmp_path / "gallery", tmp_path / "test")
    with pytest.raises(DataError, match=r"gallery does not exist; .* holds query, test, train\."):
        Folder(tmp_path)


def test_an_empty_split_is_named(tmp_path):
    write_folder(tmp_path)
    shutil.rmtree(tmp_path / "query")
    (tmp_path / "query").mkdir()
    with pytest.raises(DataError, match="the query split has no image"):
        Folder(tmp_path)


def test_a_root_without_images_points_below(tmp_path):
    with pytest.raises(DataError, match="holds no image"):
        Folder(tmp_path)
    write_folder(tmp_path / "a" / "b")
    with pytest.raises(DataError, match=r"say data\.root=.*/a/b\n"):
        Folder(tmp_path)
    assert len(Folder(tmp_path / "a" / "b").train) == 24


def test_people_nested_too_deep_are_explained(tmp_path):
    write_people(tmp_path / "mine")
    with pytest.raises(DataError, match=r"Ana, Bo, Cy, \.\.\..* say data\.root=.*/mine\n"):
        Folder(tmp_path)


def test_images_beside_the_people_are_refused(tmp_path):
    write_picture(write_people(tmp_path) / "c9.JPG", 0)
    with pytest.raises(DataError, match=r"holds 1 images beside.*<person>/c9\.JPG"):
        Folder(tmp_path)


def test_an_empty_person_is_no_person_and_is_said(tmp_path):
    (write_people(tmp_path) / "Aaron").mkdir()
    folder = Folder(tmp_path)
    assert "Aaron holds no image" in folder.warnings[0]
    assert min(ids(folder.train, "pid")) == 0


def test_people_in_train_and_test_are_a_warning(tmp_path):
    write_folder(tmp_path)
    write_people(tmp_path / "train", ["Di"])
    (warning,) = Folder(tmp_path).warnings
    assert warning.startswith("In train and also in query or gallery: Di.")


def test_queries_of_people_who_are_not_in_the_gallery_are_refused(tmp_path):
    write_folder(tmp_path)
    shutil.rmtree(tmp_path / "gallery" / "Ed")
    folder = Folder(tmp_path)
    assert (folder.warnings, unanswerable_queries(folder)) == ((), {"general": 4})
    for person in ("Di", "Flo"):
        shutil.move(tmp_path / "gallery" / person, tmp_path / "gallery" / f"{person}2")
    with pytest.raises(DataError, match=r"query shows Di, Ed, Flo; gallery shows Di2, Flo2\."):
        Folder(tmp_path)


def test_people_of_one_camera_each_are_explained(tmp_path):
    for split, people in {"train": "ab", "query": "cd", "gallery": "cd"}.items():
        for camera, person in enumerate(people):
            write_people(tmp_path / split, [person], [f"c{camera}_{split}.png"])
    with pytest.raises(DataError, match=r"no query has a match .*same camera.*leave the cameras"):
        Folder(tmp_path, camera_pattern="c([0-9])_.*")
    assert len(Folder(tmp_path).protocols) == 1


def test_a_split_without_a_query_names_the_settings(tmp_path):
    write_people(tmp_path)
    with pytest.raises(DataError, match=r"leaves no query.*test_people=0\.1 .*There are 6 people"):
        Folder(tmp_path, test_people=0.1)


def test_verify_is_told_all_faults(tmp_path):
    write_folder(tmp_path)
    write_picture(tmp_path / "train" / "stray.png", 0)
    write_picture(tmp_path / "train" / "Ana" / "odd.png", 0)
    write_picture(tmp_path / "query" / "Di" / "inner" / "c1_a_1.png", 0)
    with collect_faults() as faults:
        folder = Folder(tmp_path, **PATTERNS)
    assert [len(samples) for samples in folder.splits.values()] == [24, 12, 12]
    assert len(faults) == 4  # odd.png fits neither pattern
    for part in ("stray.png", "camera_pattern", "clothes_pattern", "inner"):
        assert any(part in fault for fault in faults)


def test_the_config_opens_it_and_takes_patterns(tmp_path):
    assert type(open_by_config("folder", write_folder(tmp_path))) is Folder
    cfg = compose("train", ["method=baseline", "data=folder", _typed("camera_pattern")])
    assert cfg.data.benchmark.camera_pattern == PATTERNS["camera_pattern"]


def test_methods_that_need_clothes_are_refused_without(tmp_path):
    transforms = TrainTransform(32, 16), TestTransform(32, 16)
    write_folder(tmp_path)
    with pytest.raises(DataError, match="needs clothes labels and folder has train images without"):
        ReIDDataModule(Folder(tmp_path), *transforms, 2, requires={"clothes"})
    data = ReIDDataModule(Folder(tmp_path, **PATTERNS), *transforms, 2, requires={"clothes"})
    assert (data.num_identities, data.num_clothes) == (3, 6)


def test_it_trains_and_evaluates(tmp_path):
    settings = [s for s in TINY if s != "data=virtual"]
    settings += ["method=baseline", "data=folder", "debug=fast", "data.identities_per_batch=2"]
    settings += [_typed(name) for name in PATTERNS]
    root = write_people(tmp_path / "mine")
    cfg = compose("train", [*settings, f"data.root={root}", f"output_dir={tmp_path / 'run'}"])
    metrics = train(cfg).metrics
    for protocol in ("general", "sc", "cc"):
        assert metrics[f"test/folder/{protocol}/num_valid_queries"] == 12
        assert 0 < metrics[f"test/folder/{protocol}/mAP"] <= 1


def _typed(setting: str) -> str:
    """A pattern as it is typed on a command line, inside the shell's double quotes."""
    return f"data.benchmark.{setting}='{PATTERNS[setting]}'"


def test_a_link_to_nothing_is_a_fault(tmp_path):
    write_folder(tmp_path)
    link = tmp_path / "train" / "Ana" / "c1_a_9.jpg"
    link.symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(
        DataError, match=r"c1_a_9\.jpg is a link to .*gone\.jpg, which is not there"
    ):
        Folder(tmp_path)
