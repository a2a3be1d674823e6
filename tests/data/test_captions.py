"""Captions from every source; what an image's features should be is known in closed form."""

import io
import json
import zipfile
from copy import copy

import numpy as np
import pytest
import torch

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.celeb_reid import CelebReIDLight
from ccreid.data.benchmarks.ltcc import LTCC
from ccreid.data.benchmarks.prcc import PRCC
from ccreid.data.benchmarks.virtual import PERSPECTIVES as PERSPECTIVES_OF_VIRTUAL
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.captions import CaptionStore
from ccreid.data.captions.features import encode, write_features
from ccreid.data.captions.files import (
    PERSPECTIVES,
    append_captions,
    benchmark_captions,
    distinct_texts,
    drop_half_line,
    image_key,
    keys_of,
    read_captions,
    write_captions,
)
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError, DataError
from ccreid.models.text_encoders import TextEncoder, TfidfEncoder
from tests.miniature.celeb_reid import write_celeb_reid
from tests.miniature.ltcc import write_ltcc
from tests.miniature.prcc import write_prcc

D, ENCODER = 5, "EVA02-CLIP-L-14"
COUNTS = {
    PRCC: {"train": SplitCount(3, 18), "query": SplitCount(2, 14), "gallery": SplitCount(2, 4)},
    LTCC: {},
    CelebReIDLight: {},
}
WRITERS = {
    PRCC: write_prcc,
    LTCC: write_ltcc,
    CelebReIDLight: lambda root: write_celeb_reid(root, "Celeb-reID-light"),
}


class Lengths(TextEncoder):
    """Knows of a text how long it is and what it begins with."""

    name, source = "lengths", "length and first letter"

    def encode(self, texts):
        return np.array([[len(t), ord(t[0]), 1] for t in texts], dtype=np.float32)


@pytest.fixture(scope="module")
def virtual():
    return Virtual()


@pytest.fixture
def prcc(tmp_path, monkeypatch):
    return open_miniature(PRCC, tmp_path, monkeypatch)


def open_miniature(benchmark, root, monkeypatch):
    monkeypatch.setattr(benchmark, "counts", COUNTS[benchmark])
    WRITERS[benchmark](root)
    return benchmark(root)


def released_name(benchmark, sample):
    parts = sample.path.rsplit("/", 2)[-2:]
    stem = parts[1].rsplit(".", 1)[0]
    return f"{parts[0]}/{stem}" if isinstance(benchmark, PRCC) else stem


def write_release(benchmark, folder, skip=(), seed=0):
    """Write the authors' files; return their rows by path, and the summaries by pid."""
    rng = np.random.default_rng(seed)
    samples = [s for s in benchmark.train if s.path not in skip]
    rng.shuffle(samples)  # the names say which rows belong to whom, not their order
    data = rng.normal(size=(6 * len(samples), D))
    (folder / ENCODER).mkdir(parents=True, exist_ok=True)
    names = np.array([released_name(benchmark, s) for s in samples])
    np.savez(folder / ENCODER / "train.npz", data=data, metadata=names)
    rows = {s.path: data[6 * n : 6 * n + 6].astype(np.float32) for n, s in enumerate(samples)}
    pids = sorted({s.pid for s in benchmark.train})
    summaries = {pid: rng.normal(size=D).astype(np.float32) for pid in pids}
    content = {
        str(pid): {f"ft_{ENCODER}": [v.tolist()] if pid % 2 else v.tolist(), "summary": "text"}
        for pid, v in summaries.items()
    }
    (folder / "train_caption_summary_biometric.json").write_text(json.dumps(content))
    return rows, summaries


def open_release(benchmark, folder, **settings):
    return CaptionStore(benchmark, layout="differ", folder=folder, encoder=ENCODER, **settings)


@pytest.mark.parametrize("benchmark", [PRCC, LTCC, CelebReIDLight])
@pytest.mark.parametrize("summary", [False, True])
def test_released_files_work_as_they_are(tmp_path, monkeypatch, benchmark, summary):
    benchmark = open_miniature(benchmark, tmp_path, monkeypatch)
    rows, summaries = write_release(benchmark, tmp_path / "text")
    store = open_release(
        benchmark, tmp_path / "text", non_biometric=["pose", "hairstyle"], summary=summary
    )
    assert (store.dim, store.missing) == (D, ())
    for sample in benchmark.train:
        got = store.get(sample)
        assert got.dtype == torch.float32
        first = summaries[sample.pid] if summary else rows[sample.path][0]
        expected = np.stack([first, rows[sample.path][3], rows[sample.path][1]])
        np.testing.assert_array_equal(got.numpy(), expected)


def test_people_who_share_base_names_keep_their_own_texts(prcc, tmp_path):
    """PRCC's miniature names the images of all people alike, as the benchmark partly does."""
    stems = {s.path.rsplit("/", 1)[-1] for s in prcc.train}
    assert len(stems) < len(prcc.train)
    hidden = prcc.train[0]
    write_release(prcc, tmp_path / "text", skip={hidden.path})
    with pytest.raises(DataError, match="1 of 18 train images lack a text"):
        open_release(prcc, tmp_path / "text")


def test_names_with_extension_are_known_too(prcc, tmp_path):
    names = np.array([f"{released_name(prcc, s)}.jpg" for s in prcc.train])
    (tmp_path / ENCODER).mkdir()
    data = np.arange(len(names) * 6 * D, dtype=np.float16).reshape(-1, D)
    np.savez(tmp_path / ENCODER / "train.npz", data=data, metadata=names)
    assert open_release(prcc, tmp_path).get(prcc.train[1])[0, 0] == 6 * D


def test_a_release_with_fewer_perspectives_lists_them(prcc, tmp_path):
    names = np.array([released_name(prcc, s) for s in prcc.train])
    (tmp_path / ENCODER).mkdir()
    np.savez(tmp_path / ENCODER / "train.npz", data=np.ones((36, D)), metadata=names)
    with pytest.raises(ConfigError, match=r"no perspective 'clothing'.*: biometrics, hairstyle$"):
        open_release(prcc, tmp_path)
    assert open_release(prcc, tmp_path, non_biometric=["hairstyle"]).get(prcc.train[0]).shape == (
        2,
        D,
    )


def test_a_pickled_release_is_refused(prcc, tmp_path):
    (tmp_path / ENCODER).mkdir()
    names = np.array([released_name(prcc, s) for s in prcc.train], dtype=object)
    np.savez(tmp_path / ENCODER / "train.npz", data=np.ones((18 * 6, D)), metadata=names)
    with pytest.raises(DataError, match="can run code"):
        open_release(prcc, tmp_path)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"data": np.ones((18 * 6, D))}, "plain arrays"),
        ({"data": np.ones((18 * 6 + 1, D)), "metadata": 18}, "1 to 6 rows"),
        ({"data": np.ones((18 * 7, D)), "metadata": 18}, "1 to 6 rows"),
        ({"data": np.full((18 * 6, D), np.nan), "metadata": 18}, "not finite"),
        ({"data": np.ones((18 * 6, D)), "metadata": 9}, "1 to 6 rows"),
    ],
)
def test_a_damaged_release_says_what_is_wrong(prcc, tmp_path, arrays, said):
    if "metadata" in arrays:
        names = [released_name(prcc, s) for s in prcc.train][: arrays["metadata"]]
        arrays = arrays | {"metadata": np.array(names)}
    (tmp_path / ENCODER).mkdir()
    np.savez(tmp_path / ENCODER / "train.npz", **arrays)
    with pytest.raises(DataError, match=said):
        open_release(prcc, tmp_path)


def test_a_release_that_unpacks_to_much_more_or_lies_about_its_size_is_refused(prcc, tmp_path):
    file = tmp_path / ENCODER / "train.npz"
    file.parent.mkdir()
    np.savez_compressed(file, data=np.zeros((2**12, 2**10)), metadata=np.array(["a"]))
    with pytest.raises(DataError, match="as a zip bomb does"):
        open_release(prcc, tmp_path)
    header = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**13, 2)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.npy", header.getvalue())
        archive.writestr("metadata.npy", header.getvalue())
    with pytest.raises(DataError, match="plain arrays"):
        open_release(prcc, tmp_path)


def test_an_image_named_twice_is_refused(prcc, tmp_path):
    (tmp_path / ENCODER).mkdir()
    names = np.array([released_name(prcc, prcc.train[0])] * 18)
    np.savez(tmp_path / ENCODER / "train.npz", data=np.ones((18 * 6, D)), metadata=names)
    with pytest.raises(DataError, match="17 images twice"):
        open_release(prcc, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"1": {f"ft_{ENCODER}": [1.0] * (D + 1)}}, f"{D} finite numbers"),
        ({"1": {"ft_other": [1.0] * D}}, "should be a JSON file"),
        ({"01": {f"ft_{ENCODER}": [1.0] * D}}, "there twice"),
        ({"woman": {f"ft_{ENCODER}": [1.0] * D}}, "no person's number"),
    ],
)
def test_damaged_summaries_say_what_is_wrong(prcc, tmp_path, change, said):
    write_release(prcc, tmp_path)
    path = tmp_path / "train_caption_summary_biometric.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=said):
        open_release(prcc, tmp_path, summary=True)


def test_relabelled_summaries_are_no_summaries(prcc, tmp_path):
    """0, 1, 2 for people 1, 2, 5: person 5 has none, and is counted, not given another's."""
    write_release(prcc, tmp_path)
    path = tmp_path / "train_caption_summary_biometric.json"
    relabelled = dict(zip("012", json.loads(path.read_text()).values(), strict=True))
    path.write_text(json.dumps(relabelled))
    with pytest.raises(DataError, match="6 of 18 train images lack"):
        open_release(prcc, tmp_path, summary=True)


def test_a_missing_release_lists_what_is_there(prcc, tmp_path):
    write_release(prcc, tmp_path)
    with pytest.raises(DataError, match=f"Did you mean '{ENCODER}'"):
        CaptionStore(prcc, layout="differ", folder=tmp_path, encoder="EVA02-CLIP-L")


def test_tolerated_missing_texts_become_the_mean_direction(prcc, tmp_path):
    hidden = prcc.train[4]
    rows, _ = write_release(prcc, tmp_path, skip={hidden.path})
    with pytest.raises(DataError, match=hidden.path):
        open_release(prcc, tmp_path, max_missing=0.05)  # 1 of 18 is more
    store = open_release(prcc, tmp_path, max_missing=0.06)
    assert store.missing == (hidden.path,)
    assert "1 images without text get the mean" in store.describe()
    others = np.stack([rows[s.path][:3] for s in prcc.train if s != hidden]).astype(np.float64)
    expected = (others / np.linalg.norm(others, axis=2, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(store.get(hidden).numpy(), expected, rtol=1e-5)
    np.testing.assert_array_equal(store.get(prcc.train[5]), rows[prcc.train[5].path][:3])


def test_captions_of_another_benchmark_are_refused_however_many_may_be_missing(
    prcc, tmp_path, monkeypatch
):
    write_release(open_miniature(LTCC, tmp_path, monkeypatch), tmp_path / "text")
    with pytest.raises(DataError, match="18 of 18"):
        open_release(prcc, tmp_path / "text", max_missing=0.99)


def write_own(benchmark, folder, encoder=None):
    captions = {
        key: {"biometrics": f"person {n % 3}", "clothing": "b" * (n + 1)}
        for n, key in enumerate(keys_of(benchmark.train))
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_captions(folder / "captions.jsonl", captions)
    encoder = encoder or Lengths()
    features = encode(captions, encoder)
    write_features(folder / f"{encoder.name}.safetensors", captions, features, encoder)
    return captions


def open_own(benchmark, folder, **settings):
    settings = {"encoder": "lengths", "non_biometric": ["clothing"]} | settings
    return CaptionStore(benchmark, layout="ccreid", folder=folder, **settings)


def test_our_own_files_give_every_image_the_features_of_its_texts(prcc, tmp_path):
    captions = write_own(prcc, tmp_path / "own")
    store = open_own(prcc, tmp_path / "own")
    assert (store.dim, store.encoder) == (3, "length and first letter")
    for sample in prcc.train:
        texts = captions[image_key(sample)]
        expected = Lengths().encode([texts["biometrics"], texts["clothing"]])
        np.testing.assert_array_equal(store.get(sample), expected)


def test_the_default_folder_is_named_after_the_benchmark(prcc, tmp_path, monkeypatch):
    write_own(prcc, tmp_path / "captions" / "prcc")
    monkeypatch.chdir(tmp_path)
    assert open_own(prcc, None).dim == 3


def test_features_of_other_texts_are_refused(prcc, tmp_path):
    captions = write_own(prcc, tmp_path)
    key = image_key(prcc.train[0])
    append_captions(tmp_path / "captions.jsonl", [(key, {"clothing": "something else"})])
    with pytest.raises(DataError, match="features of other texts"):
        open_own(prcc, tmp_path)
    other = captions[image_key(prcc.train[1])]["clothing"]  # no new text, another owner
    append_captions(tmp_path / "captions.jsonl", [(key, {"clothing": other})])
    captions[key]["clothing"] = other
    write_features(
        tmp_path / "lengths.safetensors", captions, encode(captions, Lengths()), Lengths()
    )
    store = open_own(prcc, tmp_path)
    assert torch.equal(store.get(prcc.train[0])[1], store.get(prcc.train[1])[1])


def test_texts_of_images_outside_the_train_split_do_not_count(prcc, tmp_path):
    write_own(prcc, tmp_path)
    append_captions(tmp_path / "captions.jsonl", [("003/cropped_rgb10.jpg", {"clothing": "new"})])
    assert open_own(prcc, tmp_path).dim == 3


def test_images_that_were_left_out_do_not_change_the_features_of_the_others(prcc, tmp_path):
    write_own(prcc, tmp_path)
    fewer = copy(prcc)
    fewer.train = prcc.train[1:]
    with pytest.raises(DataError, match="features of other texts"):
        open_own(fewer, tmp_path)
    some, every = open_own(fewer, tmp_path, listed=prcc.train), open_own(prcc, tmp_path)
    for sample in fewer.train:
        assert torch.equal(some.get(sample), every.get(sample))


def test_features_of_another_dimension_are_refused(prcc, tmp_path):
    captions = write_own(prcc, tmp_path)
    short = encode(captions, Lengths())[:-1]
    write_features(tmp_path / "lengths.safetensors", captions, short, Lengths())
    with pytest.raises(DataError, match=r"should hold \[21, 3\] finite numbers"):
        open_own(prcc, tmp_path)


def test_missing_or_damaged_features_say_how_to_make_them(prcc, tmp_path):
    write_own(prcc, tmp_path)
    with pytest.raises(DataError, match="holds features by lengths"):
        open_own(prcc, tmp_path, encoder="minilm")
    (tmp_path / "lengths.safetensors").write_bytes(b"nothing")
    command = rf"encode_text data=prcc folder={tmp_path} encoder=<tfidf"
    with pytest.raises(DataError, match=rf"no file of text features(.|\n)*{command}"):
        open_own(prcc, tmp_path)
    (tmp_path / "captions.jsonl").unlink()
    with pytest.raises(DataError, match=r"python -m ccreid\.caption"):
        open_own(prcc, tmp_path)


def test_a_perspective_that_no_image_has_lists_those_there_are(prcc, tmp_path):
    write_own(prcc, tmp_path)
    with pytest.raises(ConfigError, match=r"'pose'.* There are: biometrics, clothing$"):
        open_own(prcc, tmp_path, non_biometric=["pose"])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"image": "001/a.jpg", "captions": {"shoos": "red"}}', "no perspective 'shoos'"),
        ('{"image": "001/a.jpg", "captions": {"pose": ""}}', "line 3 should be"),
        ('{"image": "001/a.jpg", "captions": ["a man"]}', "line 3 should be"),
        ('{"image": "001/a.jpg"}', "line 3 should be"),
        ('{"image": "001/a.jpg", "captions": {"pos', "line 3 should be"),
        ("", "line 3 should be"),
    ],
)
def test_a_line_that_is_no_caption_is_named(tmp_path, line, said):
    path = tmp_path / "captions.jsonl"
    append_captions(path, [("001/a.jpg", {"pose": "zu Fuß\u2028"}), ("001/b.jpg", {})])
    assert read_captions(path)["001/a.jpg"] == {"pose": "zu Fuß\u2028"}
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=said):
        read_captions(path)


def test_only_a_half_line_is_dropped(tmp_path):
    path = tmp_path / "captions.jsonl"
    append_captions(path, [("1/a.jpg", {"pose": "standing"}), ("1/b.jpg", {"pose": "walking"})])
    whole = path.read_bytes()
    assert not drop_half_line(path)
    assert path.read_bytes() == whole
    path.write_bytes(whole[:-3])
    assert drop_half_line(path)
    assert read_captions(path) == {"1/a.jpg": {"pose": "standing"}}
    path.write_bytes(b'{"im')
    assert drop_half_line(path)
    assert path.read_bytes() == b""


def test_lines_of_one_image_complete_each_other_and_the_last_one_wins(tmp_path):
    path = tmp_path / "captions.jsonl"
    append_captions(path, [("1/a.jpg", {"pose": "standing", "clothing": "red"})])
    append_captions(path, [("1/a.jpg", {"pose": "walking", "hairstyle": "short"})])
    assert read_captions(path)["1/a.jpg"] == {
        "pose": "walking",
        "clothing": "red",
        "hairstyle": "short",
    }


def test_images_are_known_by_the_last_two_parts_of_their_path():
    assert image_key(Sample("/data/virtual.zip!virtual/train/1.jpg", pid=1)) == "train/1.jpg"
    assert image_key(Sample("/data/prcc/rgb/train/001/A.jpg", pid=1)) == "001/A.jpg"
    with pytest.raises(DataError, match="both end in 001/A"):
        keys_of([Sample("/x/001/A.jpg", pid=1), Sample("/y/001/A.jpg", pid=1)])


def test_virtual_comes_with_all_six_perspectives(virtual):
    assert PERSPECTIVES_OF_VIRTUAL == PERSPECTIVES
    captions = benchmark_captions(virtual)
    assert len(captions) == len(virtual.train)
    for sample in virtual.train[::100]:
        texts = captions[image_key(sample)]
        assert tuple(texts) == PERSPECTIVES
        assert tuple(texts.values()) == virtual.captions(sample)


def test_texts_that_come_with_a_benchmark_are_encoded_at_once(virtual):
    store = CaptionStore(virtual, non_biometric=["hairstyle", "clothing"])
    texts = distinct_texts(benchmark_captions(virtual))
    features = TfidfEncoder().fit(texts).encode(texts)
    for sample in virtual.train[::100]:
        said = virtual.captions(sample)
        expected = [features[texts.index(said[k])] for k in (0, 1, 2)]
        np.testing.assert_array_equal(store.get(sample), np.stack(expected))
    again = CaptionStore(Virtual(), non_biometric=["hairstyle", "clothing"])
    assert all(torch.equal(store.get(s), again.get(s)) for s in virtual.train)


def test_the_encoder_sees_train_captions_only(virtual, monkeypatch):
    seen = []
    original = virtual.captions
    monkeypatch.setattr(virtual, "captions", lambda s: seen.append(s.path) or original(s))
    CaptionStore(virtual)
    assert set(seen) == {sample.path for sample in virtual.train}


def test_test_images_have_no_captions(virtual):
    store = CaptionStore(virtual)
    with pytest.raises(DataError, match="no train image"):
        store.get(virtual.query[0])


def test_a_benchmark_without_captions_says_what_to_do(prcc):
    with pytest.raises(DataError, match=r"prcc comes without captions.*ccreid\.caption"):
        CaptionStore(prcc)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layout": "npz"}, "data.captions.layout=npz"),
        ({"max_missing": 1.0}, "data.captions.max_missing"),
        ({"max_missing": -0.1}, "data.captions.max_missing"),
        ({"biometric": "biometric"}, "Did you mean 'biometrics'"),
        ({"non_biometric": ["cloth"]}, "Did you mean 'clothing'"),
        ({"non_biometric": ["pose", "pose"]}, "twice"),
        ({"non_biometric": ["biometrics"]}, "twice"),
        ({"non_biometric": "clothing"}, "a list: [clothing]"),
        ({"summary": True}, "only data.captions.layout=differ"),
        ({"encoder": "open_clip"}, "tfidf, minilm can"),
    ],
)
def test_impossible_settings(virtual, settings, said):
    with pytest.raises(ConfigError) as error:
        CaptionStore(virtual, **settings)
    assert said in str(error.value)
