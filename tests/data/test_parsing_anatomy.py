import numpy as np
import pytest

from ccreid.data.parsing.anatomy import anatomy_score, choose_schema, label_rows, to_canonical
from ccreid.data.parsing.schemas import SCHEMAS
from ccreid.errors import DataError
from tests.miniature.parsing import SOURCE_LABELS, source_masks


@pytest.mark.parametrize("name", SOURCE_LABELS)
@pytest.mark.parametrize("count", [40, 200])
def test_the_schema_is_recognised_or_asked_for_and_never_mistaken(name, count):
    assert name in recognised_or_offered(source_masks(name, count))


def recognised_or_offered(masks):
    """The one schema that was recognised, or those that a refusal offers."""
    try:
        return [choose_schema(masks).name]
    except DataError as error:
        return str(error).split("several schemas")[1].split("one of: ")[1].split(">")[0].split(", ")


@pytest.mark.parametrize("name", ["scnet12", "atr18", "lip20", "fashn18", "sapiens28"])
def test_the_schemas_with_all_parts_are_recognised(name):
    assert choose_schema(source_masks(name, 200)).name == name


@pytest.mark.parametrize(("name", "channels"), [("ps6", 6), ("mediapipe6", 6), ("pascal7", 7)])
def test_the_number_of_channels_leaves_few_schemas(name, channels):
    assert choose_schema(source_masks(name, 60), channels).name == name


def test_a_fitting_size_alone_decides_nothing():
    """Labels 0 to 11 of ATR, whose arms and legs are out of sight, are not SCNet's twelve."""
    masks = [np.where(mask > 11, 0, mask) for mask in source_masks("atr18", 100)]
    assert max(mask.max() for mask in masks) == 11 == SCHEMAS["scnet12"].num_labels - 1
    assert choose_schema(masks).name == "atr18"


def test_an_unknown_number_of_channels_is_refused():
    with pytest.raises(DataError, match="in 14 channels, and under no known schema"):
        choose_schema(source_masks("ps6", 10), 14)


def test_masks_that_look_like_nobody_are_refused():
    upside_down = [mask[::-1] for mask in source_masks("lip20", 40)]
    with pytest.raises(DataError, match="under no known schema do they look like people"):
        choose_schema(upside_down)


def test_two_schemas_that_read_alike_are_both_offered():
    """Head, upper and lower have the same labels for Pixel Sampling as in the canonical ones."""
    masks = [np.where(mask > 3, 0, mask) for mask in source_masks("ps6", 40)]
    with pytest.raises(DataError, match="several schemas") as error:
        choose_schema(masks, where="some/folder")
    for word in ("ps6", "canonical", "some/folder", "40 masks", "data.parsing.schema="):
        assert word in str(error.value)


def test_rows_of_labels_are_counted():
    mask = np.random.default_rng(0).integers(0, 18, (7, 5)).astype(np.uint8)
    rows = label_rows(mask)
    for label in range(256):
        for row in range(7):
            assert rows[label, row] == (mask[row] == label).sum()
    canonical = SCHEMAS["atr18"].convert(mask, "")
    assert (to_canonical(rows, SCHEMAS["atr18"]) == label_rows(canonical)[:10]).all()


def person(*bands):
    """Pixels per canonical label and row of a person of horizontal bands, beside background."""
    mask = np.zeros((10, len(bands)), dtype=np.int64)
    mask[0] = 5
    for row, label in enumerate(bands):
        mask[label, row] = 5
    return mask


def test_the_score_of_hand_made_people():
    upright = person(1, 2, 2, 3, 3, 7)  # 6 pairs in order, head and shoes small
    assert anatomy_score([upright]) == 1.0
    assert anatomy_score([upright[:, ::-1]]) == pytest.approx(2 / 8)  # only the sizes are right
    swapped = person(1, 3, 3, 2, 2, 7)  # trousers above the shirt: one of the six is wrong
    assert anatomy_score([swapped]) == pytest.approx(7 / 8)
    assert anatomy_score([upright, person(0, 0, 0, 0, 0, 0)]) == pytest.approx(0.5 * 0.5 / 0.7)
    assert anatomy_score([]) == 0.0
