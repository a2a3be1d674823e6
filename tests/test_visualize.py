"""The verb `visualize`: what it draws from a checkpoint, and what it refuses."""

import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ccreid.checkpoints.checkpoint import load_checkpoint
from ccreid.clustering import fine_grained_labels
from ccreid.config import compose
from ccreid.data.benchmarks.ccvid import CCVID
from ccreid.data.benchmarks.virtual import ARCHIVE, Virtual
from ccreid.data.files import read_image, read_labels
from ccreid.data.sample import ids
from ccreid.data.transforms import TestTransform
from ccreid.errors import ConfigError
from ccreid.features import evaluating, extract_features
from ccreid.train import train
from ccreid.visualize import visualize
from ccreid.viz.attention_sheet import LABEL_COLOURS
from ccreid.viz.attention_sheet import Layout as AttentionLayout
from ccreid.viz.clusters import Layout as ClusterLayout
from ccreid.viz.marks import PALETTE
from ccreid.viz.ranked_lists import Layout as RankedLayout
from tests.conftest import TINY
from tests.miniature.ccvid import write_ccvid

PEOPLE = {"train": range(1, 5), "query": (65, 66, 67), "gallery": (65, 66, 67)}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """An archive of four train and three test people, and a checkpoint of CRE/BSGA on it."""
    folder = tmp_path_factory.mktemp("visualize")
    archive = folder / "small.zip"
    with zipfile.ZipFile(ARCHIVE) as whole, zipfile.ZipFile(archive, "w") as part:
        for name in whole.namelist():
            split, file = name.split("/")[-2:]
            if name.endswith((".jpg", ".png")) and int(file[:4]) in PEOPLE[split]:
                part.writestr(name, whole.read(name))
    settings = ["method=cre_bsga", "debug=fast", "data.identities_per_batch=2"]
    run = [f"data.archive={archive}", f"output_dir={folder / 'run'}"]
    checkpoint = train(compose("train", [*TINY, *settings, *run])).checkpoint
    return archive, checkpoint


@pytest.fixture
def draw(small, tmp_path):
    def run(*overrides):
        given = [f"checkpoint={small[1]}", f"output_dir={tmp_path / 'pictures'}", *overrides]
        return visualize(compose("visualize", given))

    return run


def pixels(file):
    return np.asarray(Image.open(file)).astype(int)


def shown_at(sheet, corner, width):
    x, y = corner
    return sheet[y : y + 2 * width, x : x + width]


def scaled(image, width):
    return np.asarray(image.resize((width, 2 * width), Image.Resampling.LANCZOS)).astype(int)


def which(shown, samples):
    """The sample whose image this is."""
    found = [s for s in samples if (scaled(read_image(s.path), shown.shape[1]) == shown).all()]
    assert len(found) == 1
    return found[0]


def test_everything_is_drawn_unless_less_is_asked_for(draw, tmp_path):
    files = draw()
    names = ["ranked_general", "ranked_sc", "ranked_cc", "attention"]
    assert [file.stem for file in files[:4]] == names
    assert [file.stem.split("_")[0] for file in files[4:]] == ["clusters"] * 3 + ["embedding"]
    assert all(file.parent == tmp_path / "pictures" for file in files)
    assert all(Image.open(file).size[0] > 400 for file in files)
    assert (tmp_path / "pictures" / "config.yaml").exists()


def test_the_worst_queries_of_one_protocol_come_first(draw, small):
    rows, places = 3, 4
    (file,) = draw("what=[ranked]", "protocol=cc", f"rows={rows}", f"places={places}")
    assert file.name == "ranked_cc.png"
    layout = RankedLayout(rows, places, 96, captions=False)
    assert Image.open(file).size == layout.size
    benchmark = Virtual(small[0])
    features = features_of(small, (*benchmark.query, *benchmark.gallery), mirror=True)
    query, gallery = torch.nn.functional.normalize(features).split([len(benchmark.query), 36])
    precision = [
        average_precision(sample, feature, benchmark, gallery)
        for sample, feature in zip(benchmark.query, query, strict=True)
    ]
    worst = np.argsort(precision, kind="stable")[:rows]
    for row, index in enumerate(worst):
        shown = shown_at(pixels(file), layout.image(row, -1), 96)
        assert which(shown, benchmark.query) == benchmark.query[index]


def average_precision(sample, feature, benchmark, gallery):
    """By the definition: other cameras and other clothes count, and other people."""
    counts = [
        other.pid != sample.pid
        or (other.camid != sample.camid and other.clothes_id != sample.clothes_id)
        for other in benchmark.gallery
    ]
    distances = (1 - gallery @ feature).numpy()
    order = [i for i in np.argsort(distances, kind="stable") if counts[i]]
    hits = [benchmark.gallery[i].pid == sample.pid for i in order]
    return np.mean([(i + 1) / (rank + 1) for i, rank in enumerate(np.flatnonzero(hits))])


def features_of(small, samples, mirror):
    method = load_checkpoint(small[1]).build_method()
    with evaluating(method):
        return extract_features(
            method.embed,
            samples,
            TestTransform(64, 32),
            device=torch.device("cpu"),
            mirror=mirror,
        )


def test_attention_stands_beside_image_and_mask(draw, small):
    (file,) = draw("what=[attention]", "people=[67,65]", "attention.images=2")
    benchmark = Virtual(small[0])
    layout = AttentionLayout(images=4, columns=4, width=96)
    sheet = pixels(file)
    assert sheet.shape[:2] == layout.size[::-1]
    everyone = (*benchmark.query, *benchmark.gallery)
    found = [which(shown_at(sheet, layout.image(i, 0), 96), everyone) for i in range(4)]
    assert [sample.pid for sample in found] == [67, 67, 65, 65]
    for first, second in (found[:2], found[2:]):
        assert first.clothes_id != second.clothes_id
    for number, sample in enumerate(found):
        mask = Image.fromarray(LABEL_COLOURS[read_labels(benchmark.parsing_path(sample))])
        exact = np.asarray(mask.resize((96, 192), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(shown_at(sheet, layout.image(number, 2), 96), exact)


def test_a_method_without_attention_shows_activations(draw, small, tmp_path):
    cfg = compose(
        "train",
        [
            *TINY,
            "method=baseline",
            "debug=fast",
            f"data.archive={small[0]}",
            "data.identities_per_batch=2",
            f"output_dir={tmp_path / 'run'}",
        ],
    )
    (file,) = draw("what=attention", f"checkpoint={train(cfg).checkpoint}", "attention.people=3")
    assert Image.open(file).size == AttentionLayout(images=6, columns=2, width=96).size


def test_clusters_are_those_of_the_mining(draw, small):
    settings = {"eps": 0.15, "k1": 4, "k2": 2}
    overrides = [f"clusters.mining.{name}={value}" for name, value in settings.items()]
    files = draw("what=[clusters]", "people=[3,2]", "places=20", "rows=20", *overrides)
    assert [file.name for file in files] == ["clusters_3.png", "clusters_2.png"]
    train_list = Virtual(small[0]).train
    features = features_of(small, train_list, mirror=False)
    labels, _ = fine_grained_labels(features, ids(train_list, "pid"), **settings)
    for file, pid in zip(files, (3, 2), strict=True):
        clusters = {}
        for sample, label in zip(train_list, labels.tolist(), strict=True):
            if sample.pid == pid:
                clusters.setdefault(label, set()).add(sample)
        expected = sorted(clusters.values(), key=len, reverse=True)
        assert len(expected) > 1
        layout = ClusterLayout(len(expected), len(expected[0]), 72, bars=True)
        sheet = pixels(file)
        assert sheet.shape[:2] == layout.size[::-1]
        outfits = sorted({sample.clothes_id for members in expected for sample in members})
        for row, members in enumerate(expected):
            for place in range(len(members)):
                x, y = layout.image(row, place)
                sample = which(shown_at(sheet, (x, y), 72), train_list)
                assert sample in members
                bar = sheet[y + 2 * 72 + 4, x + 3]
                assert tuple(bar) == PALETTE[outfits.index(sample.clothes_id)]


def test_the_people_with_the_most_clusters_are_chosen(draw, small):
    mining = ["clusters.mining.eps=0.15", "clusters.mining.k1=4", "clusters.mining.k2=2"]
    files = draw("what=[clusters]", "clusters.people=2", *mining)
    pids = ids(train_list := Virtual(small[0]).train, "pid")
    features = features_of(small, train_list, mirror=False)
    labels, _ = fine_grained_labels(features, pids, eps=0.15, k1=4, k2=2)
    counts = {pid: -len(set(labels[pids == pid].tolist())) for pid in range(1, 5)}
    most = sorted(counts, key=lambda pid: (counts[pid], pid))[:2]
    assert [file.stem for file in files] == [f"clusters_{pid}" for pid in most]


def test_the_embedding_shows_all_test_images_of_its_people(draw, small, monkeypatch):
    given = {}

    def spy(points, pids, outfits, **texts):
        given.update(points=points, pids=pids, outfits=outfits, **texts)
        return real(points, pids, outfits, **texts)

    from ccreid import pictures

    real = pictures.draw_embedding
    monkeypatch.setattr(pictures, "draw_embedding", spy)
    (file,) = draw("what=[embedding]", "people=[65,67]", "embedding.projection=pca")
    benchmark = Virtual(small[0])
    shown = [s for p in (65, 67) for s in (*benchmark.query, *benchmark.gallery) if s.pid == p]
    np.testing.assert_array_equal(given["pids"], ids(shown, "pid"))
    assert set(given["outfits"]) == {0, 1, 2, 3}
    assert f"{len(shown)} test images of 2 people" in given["title"]
    first = file.read_bytes()
    file.unlink()
    assert draw("what=[embedding]", "people=[65,67]", "embedding.projection=pca")[0] == file
    assert file.read_bytes() == first


def test_tracklets_are_shown_by_one_frame(draw, tmp_path, monkeypatch):
    monkeypatch.setattr(CCVID, "counts", {})
    write_ccvid(tmp_path)
    data = ["data=ccvid", f"data.root={tmp_path}", "data.workers=0"]
    files = draw(*data, "embedding.projection=pca", "clusters.people=1", "protocol=cc")
    assert [file.stem for file in files] == ["ranked_cc", "attention", "clusters_1", "embedding"]
    benchmark = CCVID(tmp_path)
    # Video has no masks: image, activation and attention are left.
    layout = AttentionLayout(images=4, columns=3, width=96)
    sheet = pixels(files[1])
    assert sheet.shape[:2] == layout.size[::-1]
    cover = scaled(read_image(benchmark.query[0].cover), 96)
    np.testing.assert_allclose(shown_at(sheet, layout.image(0, 0), 96), cover, atol=3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["what=[rank]"], "Did you mean 'ranked'"),
        (["what=[]"], "one or more pictures"),
        (["what=[ranked,ranked]"], "each once"),
        (["order=random"], "order=random should be one of worst, best"),
        (["rows=0"], "rows=0"),
        (["seed=-1"], "seed=-1"),
        (["attention.people=x"], r"attention\.people=x"),
        (["protocol=ccc"], "Did you mean 'cc'"),
        (["what=[clusters]", "people=[65]"], "train split has no person 65"),
        (["what=[embedding]", "people=[1]"], "test splits has no person 1"),
        (["embedding.projection=umap"], "one of tsne, pca"),
        (["clusters.mining.eps=2", "what=[clusters]"], "above 0 and at most 1"),
    ],
)
def test_impossible_wishes_are_named(draw, overrides, message):
    with pytest.raises(ConfigError, match=message):
        draw(*overrides)


def test_a_checkpoint_is_needed(tmp_path):
    with pytest.raises(ConfigError, match="Say which checkpoint"):
        visualize(compose("visualize", [f"output_dir={tmp_path}"]))
