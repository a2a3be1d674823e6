from pathlib import Path

import pytest

from ccreid.data.benchmarks.base import SplitCount
from ccreid.data.benchmarks.ltcc import LTCC
from ccreid.data.benchmarks.prcc import PRCC
from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.parsing.layouts import (
    LAYOUTS,
    choose_layout,
    find_mask,
    image_folder,
    image_place,
    require_own_places,
)
from ccreid.data.sample import Sample
from ccreid.errors import DataError
from tests.miniature.ltcc import write_ltcc
from tests.miniature.prcc import write_prcc

PRCC_IMAGE, LTCC_IMAGE = "001/A_cropped_rgb10", "000_1_c1_000012"

# Where the authors' own loaders look: the benchmark, the layout, the mask of its first image.
PUBLISHED = [
    ("prcc", "ps", f"mask_6/train/{PRCC_IMAGE}.npy"),
    ("prcc", "ps_mask", f"mask/train/{PRCC_IMAGE}.npy"),
    ("prcc", "scnet", f"rgb/processed/{PRCC_IMAGE}.png"),
    ("prcc", "scnet", f"processed/{PRCC_IMAGE}.png"),
    ("prcc", "sicl", f"parsing/{PRCC_IMAGE}.png"),
    ("prcc", "mirror", f"rgb/train/{PRCC_IMAGE}.png"),
    ("prcc", "mirror", f"train/{PRCC_IMAGE}.npy"),
    ("ltcc", "scnet", f"processed/{LTCC_IMAGE}.png"),
    ("ltcc", "sicl", f"parsing/{LTCC_IMAGE}.png"),
    ("ltcc", "schp_flat", f"{LTCC_IMAGE}.png"),
    ("ltcc", "schp_flat", f"{LTCC_IMAGE}.npy"),
    ("ltcc", "mirror", f"train/{LTCC_IMAGE}.png"),
]


@pytest.fixture
def benchmarks(tmp_path, monkeypatch):
    monkeypatch.setattr(PRCC, "counts", {})
    monkeypatch.setattr(LTCC, "counts", {"train": SplitCount(2, 4)})
    return {"prcc": PRCC(write_prcc(tmp_path)), "ltcc": LTCC(write_ltcc(tmp_path))}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def first_mask(benchmark, layout, root):
    place = image_place(benchmark.train[0], image_folder(benchmark))
    return find_mask(benchmark.train[0], place, layout, root)


@pytest.mark.parametrize(("data", "layout", "mask"), PUBLISHED)
def test_masks_are_found_where_their_authors_put_them(benchmarks, tmp_path, data, layout, mask):
    root = tmp_path / "masks"
    assert first_mask(benchmarks[data], layout, root) is None
    path = touch(root / mask)
    assert first_mask(benchmarks[data], layout, root) == path
    others = [name for name in LAYOUTS if name != layout]
    assert all(first_mask(benchmarks[data], name, root) is None for name in others)


@pytest.mark.parametrize(
    ("layout", "folder"), [("ps", "mask_6"), ("ps_mask", "mask"), ("sicl", "parsing")]
)
def test_the_folder_itself_may_be_the_root(benchmarks, tmp_path, layout, folder):
    names = {"sicl": f"{PRCC_IMAGE}.png"}
    path = touch(tmp_path / "masks" / folder / names.get(layout, f"train/{PRCC_IMAGE}.npy"))
    assert first_mask(benchmarks["prcc"], layout, tmp_path / "masks" / folder) == path


def write_all(benchmark, layout, root, skip=0):
    folder = image_folder(benchmark)
    for sample in benchmark.train[skip:]:
        touch(next(LAYOUTS[layout](root, image_place(sample, folder))))


@pytest.mark.parametrize(
    ("data", "layout"), sorted({(data, layout) for data, layout, _ in PUBLISHED})
)
def test_auto_recognises_every_layout(benchmarks, tmp_path, data, layout):
    write_all(benchmarks[data], layout, tmp_path / "masks")
    assert choose_layout(benchmarks[data], tmp_path / "masks") == layout


def test_auto_prefers_the_first_complete_layout(benchmarks, tmp_path):
    write_all(benchmarks["prcc"], "ps", tmp_path, skip=1)  # 17 of 18 images: 94 %
    write_all(benchmarks["prcc"], "sicl", tmp_path)
    assert choose_layout(benchmarks["prcc"], tmp_path) == "sicl"
    write_all(benchmarks["prcc"], "ps", tmp_path)
    assert choose_layout(benchmarks["prcc"], tmp_path) == "ps"


def test_auto_asks_for_the_same_fifty_images_and_bears_two_misses(tmp_path):
    virtual = Virtual()  # 1,280 images
    root = tmp_path / "masks"
    asked = set()

    class Spy(type(root)):
        def is_file(self):
            if self.suffix == ".png" and "virtual" in self.parts:
                asked.add(self)
            return False

    for _ in range(2):
        with pytest.raises(DataError):
            choose_layout(virtual, Spy(root))
        mirror = {path for path in asked if "train" in path.parts}
        assert len({path.name for path in mirror}) == 50
    names = sorted(mirror)
    for path in names[3:]:
        touch(Path(path))
    with pytest.raises(DataError, match="mirror 47"):
        choose_layout(virtual, root)
    touch(Path(names[2]))
    assert choose_layout(virtual, root) == "mirror"


def test_no_layout_says_what_was_found_expected_and_how_to_make_masks(benchmarks, tmp_path):
    write_all(benchmarks["prcc"], "ps", tmp_path / "masks", skip=9)
    with pytest.raises(DataError) as error:
        choose_layout(benchmarks["prcc"], tmp_path / "masks")
    text = str(error.value)
    for part in (
        "Of 18 random train images have one, by layout: ps 9, ps_mask 0",
        str(tmp_path / "masks" / "mask_6" / "train" / f"{PRCC_IMAGE}.npy"),
        "data.parsing.root=",
        "python -m ccreid.parse data=prcc",
    ):
        assert part in text


def test_a_flat_folder_cannot_tell_images_of_one_name_apart(benchmarks, tmp_path):
    """Every person of PRCC has an A_cropped_rgb10: one mask would serve them all."""
    touch(tmp_path / "masks" / "A_cropped_rgb10.png")
    with pytest.raises(DataError, match=r"several images are called \w_cropped_rgb1\d"):
        choose_layout(benchmarks["prcc"], tmp_path / "masks", "schp_flat")
    for sample in benchmarks["prcc"].train:
        touch(tmp_path / "masks" / f"{Path(sample.path).stem}.png")
    with pytest.raises(DataError, match="No parsing masks of prcc"):
        choose_layout(benchmarks["prcc"], tmp_path / "masks")


def test_an_image_is_never_its_own_mask(benchmarks):
    """LTCC's images are PNGs: its own folder mirrors itself."""
    ltcc = benchmarks["ltcc"]
    assert first_mask(ltcc, "mirror", ltcc.root) is None


def test_places_are_below_the_benchmark_or_inside_its_archive(benchmarks):
    places = {
        "prcc": f"rgb/train/{PRCC_IMAGE}.jpg",
        "ltcc": f"train/{LTCC_IMAGE}.png",
    }
    for data, place in places.items():
        benchmark = benchmarks[data]
        assert str(image_place(benchmark.train[0], image_folder(benchmark))) == place
    virtual = Virtual()
    place = str(image_place(virtual.train[0], image_folder(virtual)))
    assert place == virtual.train[0].path.split("!")[1]


def test_two_images_never_share_a_mask():
    images = [Sample(f"/data/{name}", pid=1) for name in ("1/a.jpg", "2/a.jpg", "1/a.b.jpg")]
    require_own_places([*images, images[0]], "/data")
    with pytest.raises(DataError, match=r"/data/1/a\.jpg and /data/1/a\.png would have one mask"):
        require_own_places([*images, Sample("/data/1/a.png", pid=1)], "/data")
