import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from ccreid.data import factors
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.factors import ARCHIVE, LEVELS, controlled_images
from ccreid.data.files import read_image, read_labels
from ccreid.errors import DataError
from ccreid.retrieval.factors import factor_similarities


@pytest.fixture(scope="module")
def images():
    return controlled_images()


@pytest.fixture(scope="module")
def records():
    """The archive's own record of every image, by file name."""
    index = json.loads(zipfile.ZipFile(ARCHIVE).read("virtual-factors/index.json"))
    return {record["file"]: record for record in index}


def record_of(images, records, position):
    return records[images.samples[position].path.rsplit("/", 1)[-1]]


def test_twelve_people_are_there_once_at_every_level(images):
    assert len(images.pids) == len(set(images.pids.tolist())) == 12
    shapes = {factor: rows.shape for factor, rows in images.levels.items()}
    assert shapes == {factor: (12, len(names)) for factor, names in LEVELS.items()}
    used = np.concatenate([rows.ravel() for rows in images.levels.values()])
    assert set(used.tolist()) == set(range(len(images.samples))) == set(range(12 * 12))
    for rows in images.levels.values():
        pids = [[images.samples[i].pid for i in row] for row in rows]
        assert pids == [[pid] * rows.shape[1] for pid in images.pids]


def test_the_image_that_factors_share_is_the_same_in_the_archive(images):
    archive = zipfile.ZipFile(ARCHIVE)
    for pid in images.pids:
        content = {archive.read(f"virtual-factors/{pid:04d}_{f}_0.jpg") for f in LEVELS}
        assert len(content) == 1


def test_one_factor_changes_and_no_other(images, records):
    truth = {
        "clothes": lambda r: r["outfit"],
        "camera": lambda r: r["camid"],
        "yaw": lambda r: round(r["yaw_deg"]),
        "pose": lambda r: r["pose"],
    }
    for factor, rows in images.levels.items():
        for row in rows:
            found = [record_of(images, records, i) for i in row]
            for other, value in truth.items():
                assert len({value(r) for r in found}) == (len(row) if other == factor else 1)
            assert [r["level"] for r in found] == list(range(len(row)))
    turned = [record_of(images, records, i)["yaw_deg"] for i in images.levels["yaw"][0]]
    assert tuple(f"{angle - turned[0]:.0f}°" for angle in turned) == LEVELS["yaw"]
    poses = [record_of(images, records, i)["pose"] for i in images.levels["pose"][0]]
    assert tuple(poses) == ("walking", "standing", "texting")


def test_others_are_seen_alike(images, records):
    assert images.others.shape == (12, 5)
    for first, others in zip(images.levels["clothes"][:, 0], images.others, strict=True):
        seen = [record_of(images, records, i) for i in (first, *others)]
        assert len({r["pid"] for r in seen}) == 6
        for same in ("camid", "yaw_deg", "pose", "outfit", "sex"):
            assert len({r[same] for r in seen}) == 1


def test_ids_are_the_true_ones_and_people_are_of_the_test_part(images, records):
    virtual = Virtual()
    for position, sample in enumerate(images.samples):
        record = record_of(images, records, position)
        assert (sample.pid, sample.camid) == (record["pid"], record["camid"])
    assert len({sample.clothes_id for sample in images.samples}) == 48
    tested = {sample.pid for sample in virtual.query}
    assert set(images.pids.tolist()) <= tested - {sample.pid for sample in virtual.train}


def pixels(images, keep):
    """Small pictures less their mean, black where `keep` does not hold of the mask's labels."""
    rows = []
    for sample in images.samples:
        mask = sample.path.replace("virtual-factors/", "virtual-factors/masks/")
        labels = Image.fromarray(keep(read_labels(mask.replace(".jpg", ".png"))))
        small = np.asarray(read_image(sample.path).resize((16, 32)), dtype=float) / 255 - 0.5
        rows.append((small * np.asarray(labels.resize((16, 32)))[..., None]).ravel())
    return np.array(rows) - np.mean(rows, axis=0)


def test_pixels_of_known_content_get_the_answers_they_should(images):
    """The background passes for the person in one camera only; clothes are not the person."""
    background = pixels(images, lambda labels: labels == 0)
    found = factor_similarities(background, images.levels, images.others)
    assert found.kept("clothes").mean > 0.85
    assert found.ranked_right("clothes").mean > 0.95
    assert np.isnan(found.kept("clothes+camera").mean)
    assert found.ranked_right("clothes+camera").mean == pytest.approx(0.5, abs=0.1)
    assert found.kept("camera").mean < 0

    garments = pixels(images, lambda labels: np.isin(labels, [2, 3, 4, 7, 8]))
    head = pixels(images, lambda labels: labels == 1)
    of_garments, of_head = (
        factor_similarities(each, images.levels, images.others) for each in (garments, head)
    )
    assert of_garments.kept("clothes+camera").mean < 0.4 < of_head.kept("clothes+camera").mean
    assert of_garments.kept("camera").mean > of_head.kept("camera").mean


def test_the_credits_of_virtual_are_its_own():
    inside = zipfile.ZipFile(ARCHIVE).read("virtual-factors/CREDITS.txt")
    assert ARCHIVE.with_name("virtual-CREDITS.txt").read_bytes() == inside


def test_an_altered_or_missing_archive_is_refused(tmp_path, monkeypatch):
    altered = tmp_path / "virtual-factors.zip"
    altered.write_bytes(ARCHIVE.read_bytes())
    with zipfile.ZipFile(altered, "a") as archive:
        archive.writestr("virtual-factors/extra.txt", "x")
    monkeypatch.setattr(factors, "ARCHIVE", altered)
    with pytest.raises(DataError, match="SHA-256 differs"):
        controlled_images()
    monkeypatch.setattr(factors, "ARCHIVE", tmp_path / "none.zip")
    with pytest.raises(DataError, match="No archive at"):
        controlled_images()
