"""Who is shown, how outfits are numbered, and what must not be seen."""

import numpy as np
import pytest
from PIL import Image

from ccreid.data.benchmarks.ccvid import CCVID
from ccreid.data.benchmarks.prcc import PRCC
from ccreid.data.sample import Sample
from ccreid.errors import ConfigError
from ccreid.viz.samples import (
    outfit_numbers,
    outfits_in_turn,
    require_people,
    sample_picture,
    spread_people,
)


def people(*pids):
    return [Sample(f"{position}.jpg", pid=pid) for position, pid in enumerate(pids)]


def test_people_are_spread_evenly():
    samples = people(*range(10, 31), 10, 10)
    assert spread_people(samples, 3) == [10, 20, 30]
    assert spread_people(samples, 1) == [10]
    assert spread_people(people(4, 2, 9), 8) == [2, 4, 9]


def test_images_of_a_person_come_in_as_many_outfits_as_there_are():
    worn = [5, 5, 5, 2, 9, 9]
    samples = [Sample(f"{i}.jpg", pid=1, clothes_id=outfit) for i, outfit in enumerate(worn)]
    shown = [sample.path[0] for sample in outfits_in_turn(samples, 5)]
    assert shown == ["3", "0", "4", "1", "5"]
    assert len(outfits_in_turn(samples, 9)) == 6


def test_outfits_are_numbered_person_by_person():
    worn = [(1, 12), (2, 30), (1, 10), (2, 20), (1, 12), (3, 0)]
    samples = [Sample("a.jpg", pid=pid, clothes_id=outfit) for pid, outfit in worn]
    assert outfit_numbers(samples) == [1, 1, 0, 0, 1, 0]
    assert outfit_numbers([*samples, Sample("b.jpg", pid=1)]) is None


@pytest.mark.parametrize(
    ("wanted", "message"),
    [([5], r"no person 5\. It has 1, 2, 7"), ([1, 1], "each once"), ([], "one or more")],
)
def test_people_who_are_not_there_are_named(wanted, message):
    require_people(people(7, 1, 2), [2, 7], "train split")
    with pytest.raises(ConfigError, match=message):
        require_people(people(7, 1, 2), wanted, "train split")


@pytest.mark.parametrize(("benchmark", "hidden"), [(CCVID, True), (PRCC, False)])
def test_faces_are_hidden_where_the_licence_wants_that(tmp_path, benchmark, hidden):
    pixels = np.random.default_rng(0).integers(256, size=(64, 32, 3), dtype=np.uint8)
    for name, shown in (("other", 255 - pixels), ("middle", pixels)):
        Image.fromarray(shown).save(tmp_path / f"{name}.png")
    frames = tuple(str(tmp_path / f"{name}.png") for name in ("other", "middle", "other"))
    sample = Sample(str(tmp_path), pid=1, frames=frames)
    picture = np.asarray(sample_picture(sample, benchmark))
    np.testing.assert_array_equal(picture[16:], pixels[16:])
    assert len(np.unique(picture[:16].reshape(-1, 3), axis=0)) == (16 if hidden else 512)
