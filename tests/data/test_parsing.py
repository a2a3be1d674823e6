"""ParsingStore from published masks to canonical ones, with everything that real folders hold."""

import os
import pickle
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from PIL import Image

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.prcc import PRCC
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.files import read_labels
from ccreid.data.parsing import ParsingStore
from ccreid.data.parsing import cache as parsing_cache
from ccreid.data.parsing.files import resize_labels, write_labels, write_record
from ccreid.data.parsing.folder import MaskFolder
from ccreid.data.parsing.layouts import LAYOUTS, find_mask, image_folder, image_place
from ccreid.data.parsing.schemas import SCHEMAS
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError, DataError
from tests.miniature.parsing import source_mask, write_mask
from tests.miniature.prcc import write_prcc

SIZE = (16, 32)  # of the miniature's images


@pytest.fixture(scope="module")
def canonical():
    """Canonical masks of 18 people, as large as the miniature's images."""
    virtual = Virtual()
    masks = [read_labels(virtual.parsing_path(sample)) for sample in virtual.train[::71]]
    return [resize_labels(mask, SIZE) for mask in masks[:18]]


@pytest.fixture
def prcc(tmp_path, monkeypatch):
    counts = {"train": SplitCount(3, 18), "query": SplitCount(2, 14), "gallery": SplitCount(2, 4)}
    monkeypatch.setattr(PRCC, "counts", counts)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return PRCC(write_prcc(tmp_path))


def place(prcc, sample, layout, root):
    return next(LAYOUTS[layout](root, image_place(sample, image_folder(prcc))))


def write_masks(prcc, canonical, layout="mirror", schema="atr18", root=None):
    """Write the masks of all train images; return what the store should say of each."""
    root = root or prcc.root.parent / "masks"
    channels = SCHEMAS[schema].num_labels
    expected = {}
    for number, (sample, mask) in enumerate(zip(prcc.train, canonical, strict=True)):
        source = source_mask(mask, schema, number)
        write_mask(place(prcc, sample, layout, root), source, channels)
        expected[sample] = np.array(SCHEMAS[schema].canonical)[source]
    return expected


def cached_files(tmp_path):
    return sorted((tmp_path / "cache").rglob("*.png"))


@pytest.mark.parametrize(
    ("layout", "schema"),
    [
        ("ps", "ps6"),
        ("ps_mask", "ps6"),
        ("scnet", "scnet12"),
        ("sicl", "scnet12"),
        ("mirror", "atr18"),
        ("mirror", "lip20"),
        ("mirror", "pascal7"),
        ("mirror", "canonical"),
    ],
)
def test_published_masks_become_canonical(prcc, canonical, tmp_path, layout, schema):
    expected = write_masks(prcc, canonical, layout, schema)
    store = ParsingStore(prcc, str(tmp_path / "masks"), layout, schema)
    report = store.require(prcc.train)
    assert (report.images, report.missing, report.resized) == (18, 0, 0)
    for sample, mask in expected.items():
        got = store.get(sample)
        assert got.dtype == np.uint8
        assert (got == mask).all()
    assert store.schema.has_garments is (schema != "pascal7")


@pytest.mark.parametrize(("layout", "schema"), [("ps", "ps6"), ("sicl", "scnet12")])
def test_auto_finds_masks_that_lie_in_the_benchmarks_own_folder(prcc, canonical, layout, schema):
    expected = write_masks(prcc, canonical, layout, schema, root=prcc.root)
    store = ParsingStore(prcc)
    report = store.require(prcc.train)
    assert (store.layout, store.schema.name) == (layout, schema)
    assert all((store.get(sample) == mask).all() for sample, mask in expected.items())
    (sentence,) = report.sentences()
    for word in ("18 of 18 images", f"layout {layout}", f"schema {schema}", str(prcc.root)):
        assert word in sentence


def test_masks_are_converted_once_into_8_bit_pngs(prcc, canonical, tmp_path, monkeypatch):
    write_masks(prcc, canonical)
    ParsingStore(prcc, str(tmp_path / "masks"), schema="atr18").require(prcc.train)
    files = cached_files(tmp_path)
    assert len(files) == 18
    assert {Image.open(file).mode for file in files} == {"L"}
    monkeypatch.setattr(parsing_cache, "read_source", None)  # would fail if it were asked again
    store = ParsingStore(prcc, str(tmp_path / "masks"), schema="atr18")
    store.require(prcc.train)
    assert store.get(prcc.train[0]).max() > 0
    assert cached_files(tmp_path) == files


def test_another_schema_finds_no_old_masks(prcc, canonical, tmp_path):
    write_masks(prcc, canonical, schema="scnet12")
    stores = [ParsingStore(prcc, str(tmp_path / "masks"), schema=s) for s in ("scnet12", "atr18")]
    for store in stores:
        store.require(prcc.train)
    assert any((stores[0].get(s) != stores[1].get(s)).any() for s in prcc.train)
    assert len(cached_files(tmp_path)) == 36


def test_a_mask_that_was_changed_is_converted_again(prcc, canonical, tmp_path):
    write_masks(prcc, canonical, schema="canonical")
    sample, settings = prcc.train[3], {"root": str(tmp_path / "masks"), "schema": "canonical"}
    ParsingStore(prcc, **settings).require(prcc.train)
    path = place(prcc, sample, "mirror", tmp_path / "masks")
    new = np.roll(canonical[3], 3, axis=1)
    write_mask(path, new)
    os.utime(path, (0, time.time() - 1000))
    store = ParsingStore(prcc, **settings)
    store.require(prcc.train)
    assert (store.get(sample) == new).all()


def test_a_conversion_that_was_stopped_goes_on(prcc, canonical, tmp_path, monkeypatch):
    write_masks(prcc, canonical)
    settings = {"root": str(tmp_path / "masks"), "schema": "atr18"}
    asked = []

    def stopping(path):
        asked.append(path)
        if len(asked) == 8:
            raise KeyboardInterrupt
        return original(path)

    original = parsing_cache.read_source
    monkeypatch.setattr(parsing_cache, "read_source", stopping)
    with pytest.raises(KeyboardInterrupt):
        ParsingStore(prcc, **settings).require(prcc.train)
    assert len(cached_files(tmp_path)) == 7
    ParsingStore(prcc, **settings).require(prcc.train)
    assert len(asked) == 8 + 11  # the 7 that were done are not read again


def test_a_mask_of_another_size_is_resized_and_counted(prcc, canonical, tmp_path):
    write_masks(prcc, canonical, schema="canonical")
    large = canonical[0].repeat(3, axis=0).repeat(3, axis=1)
    write_mask(place(prcc, prcc.train[0], "mirror", tmp_path / "masks"), large)
    for _ in range(2):  # the second time from the cache
        store = ParsingStore(prcc, str(tmp_path / "masks"), schema="canonical")
        report = store.require(prcc.train)
        assert report.resized == 1
        assert (store.get(prcc.train[0]) == canonical[0]).all()
    assert any("1 (5.6%) masks have another size" in s for s in report.sentences())


def test_implausible_masks_are_counted_and_given_as_they_are(prcc, canonical, tmp_path):
    write_masks(prcc, canonical, schema="canonical")
    for sample, label in zip(prcc.train, (0, 1), strict=False):
        path = place(prcc, sample, "mirror", tmp_path / "masks")
        write_mask(path, np.full(SIZE[::-1], label, dtype=np.uint8))
    for _ in range(2):
        store = ParsingStore(prcc, str(tmp_path / "masks"), schema="canonical")
        report = store.require(prcc.train)
        assert report.implausible == 2
        assert not store.get(prcc.train[0]).any()
    assert any("2 (11.1%) masks cannot be of a dressed person" in s for s in report.sentences())


def test_a_missing_mask_is_an_error_that_names_it_and_the_ways_out(prcc, canonical, tmp_path):
    write_masks(prcc, canonical)
    path = place(prcc, prcc.train[5], "mirror", tmp_path / "masks")
    path.unlink()
    store = ParsingStore(prcc, str(tmp_path / "masks"), "mirror", "atr18")
    with pytest.raises(DataError, match="1 of 18: No parsing mask") as error:
        store.require(prcc.train)
    for part in (prcc.train[5].path, str(path), "no_erase_no_att", "skip", "ccreid.parse"):
        assert part in str(error.value)


def test_without_erasure_a_missing_mask_is_all_background(prcc, canonical, tmp_path):
    write_masks(prcc, canonical)
    place(prcc, prcc.train[5], "mirror", tmp_path / "masks").unlink()
    store = ParsingStore(
        prcc, str(tmp_path / "masks"), "mirror", "atr18", on_missing="no_erase_no_att"
    )
    report = store.require(prcc.train)
    assert report.missing == 1
    mask = store.get(prcc.train[5])
    assert mask.shape == SIZE[::-1]
    assert mask.dtype == np.uint8
    assert not mask.any()
    assert store.usable(prcc.train) == list(prcc.train)
    assert any("without erasure" in sentence for sentence in report.sentences())


def test_skip_says_which_samples_are_usable(prcc, canonical, tmp_path):
    write_masks(prcc, canonical)
    place(prcc, prcc.train[5], "mirror", tmp_path / "masks").unlink()
    store = ParsingStore(prcc, str(tmp_path / "masks"), "mirror", "atr18", on_missing="skip")
    report = store.require(prcc.train)
    assert store.usable(prcc.train) == [s for s in prcc.train if s != prcc.train[5]]
    assert any("1 (5.6%) images have no mask and are left out" in s for s in report.sentences())
    with pytest.raises(DataError, match="No parsing mask"):
        store.get(prcc.train[5])


@pytest.mark.parametrize("on_missing", ["error", "skip", "no_erase_no_att"])
@pytest.mark.parametrize("schema", ["auto", "atr18"])
def test_no_mask_at_all_is_always_an_error(prcc, tmp_path, on_missing, schema):
    (tmp_path / "masks").mkdir()
    store = ParsingStore(prcc, str(tmp_path / "masks"), "mirror", schema, on_missing)
    with pytest.raises(DataError, match="No parsing mask"):
        store.require(prcc.train)


def test_channels_that_contradict_the_schema_are_refused(prcc, canonical, tmp_path):
    write_masks(prcc, canonical, "ps", "ps6")
    store = ParsingStore(prcc, str(tmp_path / "masks"), "ps", "scnet12")
    with pytest.raises(DataError, match="6 channels, but schema 'scnet12' has 12 labels"):
        store.require(prcc.train)


def test_labels_and_probabilities_in_one_folder_are_refused(prcc, canonical, tmp_path):
    write_masks(prcc, canonical, schema="ps6")
    path = place(prcc, prcc.train[0], "mirror", tmp_path / "masks")
    path.unlink()
    write_mask(path.with_suffix(".npy"), source_mask(canonical[0], "ps6"), 6)
    store = ParsingStore(prcc, str(tmp_path / "masks"))
    with pytest.raises(DataError, match="of several kinds"):
        store.require(prcc.train)


def test_our_own_masks_say_what_they_are(prcc, canonical, tmp_path):
    expected = write_masks(prcc, canonical, schema="canonical")
    write_record(tmp_path / "masks", {"schema": "canonical", "layout": "mirror"})
    store = ParsingStore(prcc, str(tmp_path / "masks"))
    store.require(prcc.train)
    assert (store.layout, store.schema.name) == ("mirror", "canonical")
    assert all((store.get(sample) == mask).all() for sample, mask in expected.items())


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "atr18"}'])
def test_a_damaged_record_is_not_believed(prcc, tmp_path, content):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "parsing.json").write_text(content)
    with pytest.raises(DataError, match=r"not what ccreid\.parse writes"):
        ParsingStore(prcc, str(tmp_path / "masks")).require(prcc.train)


def test_a_root_that_does_not_exist_is_named(prcc, tmp_path):
    with pytest.raises(DataError, match=r"data\.parsing\.root=.*nowhere: there is no folder"):
        ParsingStore(prcc, str(tmp_path / "nowhere")).require(prcc.train)


def test_a_cache_that_cannot_be_written_is_named(prcc, canonical, tmp_path):
    write_masks(prcc, canonical)
    (tmp_path / "file").touch()
    settings = {"schema": "atr18", "cache": str(tmp_path / "file" / "cache")}
    with pytest.raises(ConfigError, match=r"data\.parsing\.cache="):
        ParsingStore(prcc, str(tmp_path / "masks"), **settings).require(prcc.train)


def test_the_cache_lies_where_the_setting_says(prcc, canonical, tmp_path):
    write_masks(prcc, canonical)
    settings = {"schema": "atr18", "cache": str(tmp_path / "mine")}
    ParsingStore(prcc, str(tmp_path / "masks"), **settings).require(prcc.train)
    assert len(list((tmp_path / "mine").rglob("*.png"))) == 18
    assert not cached_files(tmp_path)


def test_tracklets_are_refused(prcc):
    video = [replace(sample, frames=(sample.path,)) for sample in prcc.train]
    with pytest.raises(DataError, match="video benchmark"):
        ParsingStore(prcc).require(video)


@pytest.mark.parametrize("setting", ["layout", "schema", "on_missing"])
def test_unknown_settings_list_the_choices(prcc, setting):
    with pytest.raises(ConfigError, match=rf"data\.parsing\.{setting}=nonsense should be one of"):
        ParsingStore(prcc, **{setting: "nonsense"})


def test_the_store_reaches_loader_processes(prcc, canonical, tmp_path):
    expected = write_masks(prcc, canonical)
    store = ParsingStore(prcc, str(tmp_path / "masks"), schema="atr18")
    store.require(prcc.train)
    copy = pickle.loads(pickle.dumps(store))
    assert all((copy.get(sample) == mask).all() for sample, mask in expected.items())


def test_masks_of_a_benchmark_are_its_own_unless_a_root_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    virtual = Virtual()
    store = ParsingStore(virtual)
    report = store.require(virtual.train)
    assert (report.images, report.missing) == (1280, 0)
    assert "come with the benchmark" in report.sentences()[0]
    assert not (tmp_path / "cache").exists()
    sample = virtual.train[7]
    own = store.get(sample)
    assert (own == read_labels(virtual.parsing_path(sample))).all()
    other = ParsingStore(virtual, str(tmp_path / "masks"), "mirror", "canonical")
    folder = image_folder(virtual)
    write_labels(tmp_path / "masks" / image_place(sample, folder).with_suffix(".png"), own[:, ::-1])
    other.require([sample])
    assert (other.get(sample) == own[:, ::-1]).all()


def test_the_default_cache_is_the_users(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert parsing_cache.default_cache() == Path.home() / ".cache" / "ccreid" / "parsing"


def test_what_made_the_masks_decides_whether_garments_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(PRCC, "counts", {})
    prcc = PRCC(write_prcc(tmp_path).parent)
    for made_of, told, labels in (("pascal7", False, 7), ("atr18", True, 18)):
        folder = tmp_path / made_of
        folder.mkdir()
        masks = MaskFolder(folder, prcc, prcc.train, model="x", schema=made_of, num_labels=labels)
        for sample in prcc.train:
            masks.add(sample, np.full((32, 16), 2, dtype=np.uint8))
        masks.record()
        for schema in ("auto", "canonical"):
            store = ParsingStore(prcc, root=str(folder), schema=schema, cache=str(tmp_path / "c"))
            assert store.schema.name == "canonical"
            assert store.has_garments is told


def test_masks_of_images_without_folders_are_looked_for_everywhere():
    image = PurePosixPath("a.jpg")
    for layout in LAYOUTS:
        assert find_mask(Sample("a.jpg", 0), image, layout, Path("/nowhere")) is None
