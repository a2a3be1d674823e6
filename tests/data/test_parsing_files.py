import numpy as np
import pytest
from PIL import Image

from ccreid.data.parsing.files import read_notes, read_source, resize_labels, write_labels
from ccreid.errors import ConfigError, DataError
from tests.miniature.parsing import write_mask

LABELS = np.random.default_rng(0).integers(0, 6, (12, 9)).astype(np.uint8)


def saved(folder, array):
    np.save(folder / "mask.npy", array)
    return str(folder / "mask.npy")


def test_of_a_palette_png_the_indices_are_the_labels(tmp_path):
    write_mask(tmp_path / "mask.png", LABELS)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "P"
        assert (np.array(image.convert("L")) != LABELS).mean() > 0.5  # what converting would give
    labels, channels = read_source(str(tmp_path / "mask.png"))
    assert (labels == LABELS).all()
    assert channels is None


def logits(axis):
    rng = np.random.default_rng(1)
    return np.moveaxis(rng.normal(size=(12, 9, 6)) + 9 * np.eye(6)[LABELS], 2, axis)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("form", ["logits", "probabilities", "half"])
def test_of_probabilities_and_logits_the_largest_is_the_label(tmp_path, axis, form):
    values = logits(axis)
    if form == "probabilities":
        values = np.exp(values) / np.exp(values).sum(axis, keepdims=True)
    labels, channels = read_source(saved(tmp_path, values.astype("f2" if form == "half" else "f4")))
    assert (labels == LABELS).all()
    assert channels == 6


@pytest.mark.parametrize("shape", [(12, 9), (1, 12, 9), (12, 9, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_arrays_of_labels_are_read_as_labels(tmp_path, shape, dtype):
    labels, channels = read_source(saved(tmp_path, LABELS.reshape(shape).astype(dtype)))
    assert (labels == LABELS).all()
    assert labels.dtype == np.uint8
    assert channels is None


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([[{"a": 1}]], dtype=object), "could run code"),
        (np.full((4, 5, 2), np.nan), "finite numbers"),
        (np.array([["upper"]]), "finite numbers"),
        (np.zeros((0, 3)), "finite numbers"),
        (np.array([[0.5, 1.0]]), "labels"),
        (np.array([[-1, 2]]), "labels"),
        (np.array([[0, 256]]), "labels"),
        (np.zeros(5), "labels"),
        (np.zeros((8, 8, 8)), "which axis holds the classes"),
        (np.zeros((8, 3, 9)), "which axis holds the classes"),
    ],
)
def test_other_arrays_are_refused_by_name(tmp_path, array, said):
    np.save(tmp_path / "mask.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=said) as error:
        read_source(str(tmp_path / "mask.npy"))
    assert "mask.npy" in str(error.value)


def test_a_file_cut_short_is_refused(tmp_path):
    path = saved(tmp_path, LABELS)
    content = (tmp_path / "mask.npy").read_bytes()
    (tmp_path / "mask.npy").write_bytes(content[:-20])
    with pytest.raises(DataError, match="not a whole"):
        read_source(path)


def test_a_colour_image_is_no_mask(tmp_path):
    Image.new("RGB", (9, 12)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match="mode RGB"):
        read_source(str(tmp_path / "mask.png"))


def test_labels_are_resized_to_the_nearest_and_never_mixed():
    doubled = resize_labels(LABELS, (18, 24))
    assert (doubled == LABELS.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_what_is_written_is_read_with_its_notes_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "some" / "mask.png"
    write_labels(path, LABELS, {"ccreid": "resized"})
    assert (read_source(str(path)).labels == LABELS).all()
    assert read_notes(path)["ccreid"] == "resized"
    assert [p.name for p in path.parent.iterdir()] == ["mask.png"]


def test_a_write_that_fails_leaves_the_old_mask(tmp_path, monkeypatch):
    path = tmp_path / "mask.png"
    write_labels(path, LABELS)

    def cut_short(self, file, **settings):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", cut_short)
    with pytest.raises(ConfigError, match="disk full"):
        write_labels(path, np.zeros_like(LABELS))
    assert (read_source(str(path)).labels == LABELS).all()
