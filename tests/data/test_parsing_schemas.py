import numpy as np
import pytest

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.files import read_labels
from ccreid.data.parsing.schemas import CANONICAL_LABELS, SCHEMAS, is_implausible
from ccreid.errors import DataError
from tests.miniature.parsing import SOURCE_LABELS, source_mask

BACKGROUND, HEAD, UPPER, LOWER, ONEPIECE, ARMS, LEGS, SHOES, BAG, OTHER = range(10)

# Written from the networks' own lists of classes, name by name.
BY_NAME = {
    "atr18": {
        HEAD: "hat=1 hair=2 sunglasses=3 face=11",
        UPPER: "upper=4",
        LOWER: "skirt=5 pants=6",
        ONEPIECE: "dress=7",
        ARMS: "left=14 right=15",
        LEGS: "left=12 right=13",
        SHOES: "left=9 right=10",
        BAG: "bag=16",
        OTHER: "belt=8 scarf=17",
    },
    "lip20": {
        HEAD: "hat=1 hair=2 sunglasses=4 face=13",
        UPPER: "upper=5 coat=7",
        LOWER: "pants=9 skirt=12",
        ONEPIECE: "dress=6 jumpsuit=10",
        ARMS: "left=14 right=15",
        LEGS: "left=16 right=17",
        SHOES: "socks=8 left=18 right=19",
        OTHER: "glove=3 scarf=11",
    },
    "scnet12": {
        HEAD: "head=1",
        UPPER: "upper=2",
        LOWER: "skirt=3 pants=4",
        ONEPIECE: "dress=5",
        ARMS: "arms=9",
        LEGS: "legs=8",
        SHOES: "shoes=7",
        BAG: "bag=10",
        OTHER: "belt=6 scarf=11",
    },
    "fashn18": {
        HEAD: "face=1 hair=2 hat=9 glasses=11",
        UPPER: "top=3",
        LOWER: "skirt=5 pants=6",
        ONEPIECE: "dress=4",
        ARMS: "arms=12 hands=13 torso=16",
        LEGS: "legs=14",
        SHOES: "feet=15",
        BAG: "bag=8",
        OTHER: "belt=7 scarf=10 jewelry=17",
    },
    "sapiens28": {
        HEAD: "face_neck=2 hair=3 lips=23 lips=24 teeth=25 teeth=26 tongue=27",
        UPPER: "upper=22",
        LOWER: "lower=12",
        ARMS: "hands=5 and=14 arms=6 and=10 and=15 and=19 torso=21",
        LEGS: "lower_leg=7 upper_leg=11 and=16 and=20 feet=4 and=13",
        SHOES: "shoe=8 sock=9 shoe=17 sock=18",
        OTHER: "apparel=1",
    },
    "ps6": {HEAD: "head=1", UPPER: "upper=2", LOWER: "pants=3", ARMS: "arms=4", LEGS: "legs=5"},
    "pascal7": {HEAD: "head=1", UPPER: "torso=2", ARMS: "both=3 both=4", LEGS: "both=5 both=6"},
    "mediapipe6": {HEAD: "hair=1 face=3", ARMS: "skin=2", UPPER: "clothes=4", OTHER: "others=5"},
}


@pytest.mark.parametrize("name", BY_NAME)
def test_every_source_label_has_the_canonical_label_of_its_name(name):
    expected = {0: BACKGROUND}
    for canonical, text in BY_NAME[name].items():
        expected |= {int(word.split("=")[1]): canonical for word in text.split()}
    assert dict(enumerate(SCHEMAS[name].canonical)) == expected


def test_canonical_masks_stay_as_they_are():
    labels = np.arange(10, dtype=np.uint8).reshape(2, 5)
    assert (SCHEMAS["canonical"].convert(labels, "mask.png") == labels).all()


def test_only_pascal_cannot_tell_garments():
    assert [name for name, schema in SCHEMAS.items() if not schema.has_garments] == ["pascal7"]


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("atr18", [(9, 10), (12, 13), (14, 15)]),
        ("lip20", [(14, 15), (16, 17), (18, 19)]),
        ("sapiens28", [(4, 13), (5, 14), (6, 15), (7, 16), (8, 17), (9, 18), (10, 19), (11, 20)]),
    ],
)
def test_canonical_labels_have_no_sides_to_swap_when_mirrored(name, sides):
    """Mirroring with left and right swapped, then converting, is converting, then mirroring."""
    virtual = Virtual()
    canonical = read_labels(virtual.parsing_path(virtual.train[0]))
    source = source_mask(canonical, name)
    swap = np.arange(SCHEMAS[name].num_labels, dtype=np.uint8)
    for left, right in sides:
        swap[[left, right]] = right, left
    assert (swap[source] != source).any()
    convert = SCHEMAS[name].convert
    mirrored_first = convert(swap[source[:, ::-1]], "mask.png")
    assert (mirrored_first == convert(source, "mask.png")[:, ::-1]).all()


@pytest.mark.parametrize("name", [name for name in SOURCE_LABELS if name in SCHEMAS])
def test_an_unknown_label_names_the_mask_the_schema_and_the_choices(name):
    schema = SCHEMAS[name]
    labels = np.full((2, 2), schema.num_labels, dtype=np.uint8)
    with pytest.raises(DataError, match=rf"some/mask\.png holds label {schema.num_labels}") as e:
        schema.convert(labels, "some/mask.png")
    for word in (name, "atr18", "data.parsing.schema="):
        assert word in str(e.value)


def mask_of(**fractions):
    """A mask of 1,000 pixels in which parts cover these thousandths."""
    labels = [CANONICAL_LABELS.index(part) for part, n in fractions.items() for _ in range(n)]
    return np.array([*labels, *[0] * (1000 - len(labels))], dtype=np.uint8).reshape(20, 50)


@pytest.mark.parametrize(
    ("parts", "implausible"),
    [
        ({}, True),  # all background
        ({"upper": 49}, True),
        ({"upper": 50}, False),
        ({"upper": 950}, False),
        ({"upper": 951}, True),
        ({"head": 91, "lower": 9}, True),
        ({"head": 90, "lower": 10}, False),
        ({"arms": 90, "onepiece": 10}, False),
        ({"legs": 90, "other_wear": 10}, False),
        ({"head": 90, "shoes": 10}, True),  # shoes and bags are no garments
        ({"head": 90, "bag": 10}, True),
    ],
)
def test_a_mask_is_implausible_outside_the_published_bounds(parts, implausible):
    assert is_implausible(mask_of(**parts)) is implausible
