"""The label schemas of published parsing masks, and the library's canonical labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ccreid.errors import DataError
from ccreid.models.erasure import BODY_RANGE, MIN_CLOTHES

CANONICAL_LABELS = (
    "background",
    "head",
    "upper",
    "lower",
    "onepiece",
    "arms",
    "legs",
    "shoes",
    "bag",
    "other_wear",
)
"""Names of labels 0 to 9; head includes hair, hats and glasses, shoes includes socks."""

GARMENT = ("upper", "lower", "onepiece", "other_wear")
"""What clothes erasure takes for clothes; a mask with too little of it is not trusted."""
_GARMENTS = [CANONICAL_LABELS.index(name) for name in GARMENT]


@dataclass(frozen=True)
class Schema:
    """What the labels of a segmentation network mean.

    Canonical labels have no sides: left and right shoes, legs and arms of a schema become one
    label. A mask that is mirrored after its conversion therefore needs no labels swapped.

    Attributes:
        name: as `data.parsing.schema` says it.
        canonical: the canonical label of every source label, in their order.
        has_garments: whether clothes are told from the body; else they cannot be erased.
    """

    name: str
    canonical: tuple[int, ...]
    has_garments: bool = True

    @property
    def num_labels(self) -> int:
        """Number of source labels."""
        return len(self.canonical)

    def convert(self, labels: NDArray[np.uint8], path: str) -> NDArray[np.uint8]:
        """Return the canonical labels of a mask, [H, W] uint8.

        Args:
            labels: source labels, [H, W].
            path: of the mask, for the message.

        Raises:
            DataError: a label that the schema does not have.
        """
        if (highest := int(labels.max(initial=0))) >= self.num_labels:
            raise DataError(
                f"{path} holds label {highest}, but the labels of schema '{self.name}' end at "
                f"{self.num_labels - 1}. Say which network made these masks: "
                f"data.parsing.schema=<one of: {', '.join(SCHEMAS)}>"
            )
        return np.array(self.canonical, dtype=np.uint8)[labels]


_SAPIENS = (0, 9, 1, 1, 6, 5, 5, 6, 7, 7, 5, 6, 3, 6, 5, 5, 6, 7, 7, 5, 6, 5, 2, 1, 1, 1, 1, 1)

SCHEMAS = {
    schema.name: schema
    for schema in (
        Schema("canonical", tuple(range(len(CANONICAL_LABELS)))),
        # Pixel Sampling's probabilities. Which of 4 and 5 are arms is not published: both are skin.
        Schema("ps6", (0, 1, 2, 3, 5, 6)),
        # SCNet's merge of ATR: background, head, upper, skirt, pants, dress, belt, shoes, legs,
        # arms, bag, scarf. SiCL's masks have the same labels.
        Schema("scnet12", (0, 1, 2, 3, 3, 4, 9, 7, 6, 5, 8, 9)),
        # Background, hat, hair, sunglasses, upper, skirt, pants, dress, belt, 2 shoes, face,
        # 2 legs, 2 arms, bag, scarf.
        Schema("atr18", (0, 1, 1, 1, 2, 3, 3, 4, 9, 7, 7, 1, 6, 6, 5, 5, 8, 9)),
        # Background, hat, hair, glove, sunglasses, upper, dress, coat, socks, pants, jumpsuit,
        # scarf, skirt, face, 2 arms, 2 legs, 2 shoes.
        Schema("lip20", (0, 1, 1, 9, 1, 2, 4, 2, 7, 3, 4, 9, 3, 1, 5, 5, 6, 6, 7, 7)),
        # Background, head, torso, upper and lower arms, upper and lower legs: the torso stands for
        # the upper garment, and trousers cannot be told from legs.
        Schema("pascal7", (0, 1, 2, 5, 5, 6, 6), has_garments=False),
        # Background, face, hair, top, dress, skirt, pants, belt, bag, hat, scarf, glasses, arms,
        # hands, legs, feet, bare torso, jewelry.
        Schema("fashn18", (0, 1, 1, 2, 4, 3, 3, 9, 8, 1, 9, 1, 5, 5, 6, 7, 5, 9)),
        # Background, hair, body skin, face skin, clothes (all of them), others.
        Schema("mediapipe6", (0, 1, 5, 1, 2, 9)),
        # Sapiens' 28 Goliath classes; 1 is apparel, 21 the bare torso, from 23 on lips and teeth.
        Schema("sapiens28", _SAPIENS),
    )
}
"""All schemas by name; their order decides nothing."""


def is_implausible(labels: NDArray[np.uint8]) -> bool:
    """Return whether a canonical mask [H, W] cannot be of a dressed person in a person's image.

    That is what `cre_bsga` would not trust in training. An all-background mask is implausible.
    """
    return are_implausible(np.bincount(labels.ravel(), minlength=len(CANONICAL_LABELS)))


def are_implausible(pixels: NDArray[np.int64]) -> bool:
    """The same from the number of pixels of every canonical label, [10]."""
    body = int(pixels[1:].sum())
    clothes = int(pixels[_GARMENTS].sum())
    filled = body / max(int(pixels.sum()), 1)
    return clothes < MIN_CLOTHES * body or not BODY_RANGE[0] <= filled <= BODY_RANGE[1]
