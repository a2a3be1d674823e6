"""Which schema unlabelled masks are written in: the one under which they look like people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ccreid.data.parsing.schemas import CANONICAL_LABELS, SCHEMAS, Schema, are_implausible
from ccreid.errors import DataError

_HEAD, _UPPER, _LOWER, _ONEPIECE, _ARMS, _LEGS, _SHOES, _BAG, _OTHER = range(
    1, len(CANONICAL_LABELS)
)
_ABOVE = [
    *((_HEAD, part) for part in (_UPPER, _LOWER, _ONEPIECE, _ARMS, _LEGS, _SHOES)),
    *((part, below) for part in (_UPPER, _ARMS) for below in (_LOWER, _LEGS, _SHOES)),
    *((part, below) for part in (_ONEPIECE, _LOWER) for below in (_LEGS, _SHOES)),
    (_LEGS, _SHOES),
]
"""Pairs of parts of a standing person: the median row of the first is above the second's."""
_SMALL = (_HEAD, _SHOES, _BAG, _OTHER)
_SMALL_SHARE = 0.35  # of the body; a misread mask has for instance a shirt as part of the head

_DRESSED = 0.7  # so many masks show a garment of the upper body
_CERTAIN = 0.5  # the best schema must reach this much of the highest score, 1
_MARGIN = 0.05  # and be better than the second by this fraction


def choose_schema(
    masks: Iterable[NDArray[np.uint8]], num_labels: int | None = None, where: str = "these masks"
) -> Schema:
    """Decide by anatomy in which schema masks are written.

    Schemas that lack a label of the masks, or have another number of labels than probabilities have
    channels, are out; among the others the best `anatomy_score` wins, never the fitting size alone.

    Args:
        masks: source labels, [H, W] each; 200 are enough.
        num_labels: number of channels, where the masks were probabilities.
        where: the masks lie there, for the message.

    Raises:
        DataError: no schema fits, or the two best are within 5 % of each other.
    """
    rows = [label_rows(mask) for mask in masks]
    highest = max((int(np.flatnonzero(r.any(axis=1))[-1]) for r in rows), default=0)
    scores = {
        name: anatomy_score([to_canonical(r, schema) for r in rows])
        for name, schema in SCHEMAS.items()
        if highest < schema.num_labels and num_labels in (None, schema.num_labels)
    }
    ranked = sorted(scores, key=lambda name: -scores[name])
    said = ", ".join(f"{name} {scores[name]:.2f}" for name in ranked[:4])
    if not ranked or scores[ranked[0]] < _CERTAIN:
        channels = "" if num_labels is None else f" in {num_labels} channels"
        raise DataError(
            f"The masks in {where} hold labels up to {highest}{channels}, and under no known "
            f"schema do they look like people ({said or 'none has these labels'}). "
            f"{_remedy(list(SCHEMAS))}"
        )
    if len(ranked) > 1 and scores[ranked[1]] > (1 - _MARGIN) * scores[ranked[0]]:
        alike = [name for name in ranked if scores[name] > (1 - _MARGIN) * scores[ranked[0]]]
        raise DataError(
            f"The masks in {where} could be written in several schemas (anatomy of {len(rows)} "
            f"masks, 1 is best: {said}). {_remedy(alike)}"
        )
    return SCHEMAS[ranked[0]]


def anatomy_score(masks: Sequence[NDArray[np.int64]]) -> float:
    """Return how much canonical masks look like standing, dressed people, 0 to 1.

    The mean over masks of the fraction of what can be checked that is right: pairs of parts in
    their order from top to bottom, and head, shoes, bag and other wear each below 0.35 of the body
    (0 for an implausible mask). Less where fewer than 70 % show a garment of the upper body.

    Args:
        masks: pixels per canonical label and row, [10, H] each.
    """
    if not masks:
        return 0.0
    dressed = sum(bool(mask[[_UPPER, _ONEPIECE]].any()) for mask in masks) / len(masks)
    right = sum(map(_right, masks)) / len(masks)
    return right * min(1.0, dressed / _DRESSED)


def label_rows(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the number of pixels of every label in every row, [256, H]."""
    height = labels.shape[0]
    keys = labels.astype(np.int64) * height + np.arange(height)[:, None]
    return np.bincount(keys.ravel(), minlength=256 * height).reshape(256, height)


def to_canonical(rows: NDArray[np.int64], schema: Schema) -> NDArray[np.int64]:
    """Merge the rows of source labels [256, H] to those of canonical labels, [10, H]."""
    merged = np.zeros((len(CANONICAL_LABELS), rows.shape[1]), dtype=np.int64)
    np.add.at(merged, np.array(schema.canonical), rows[: schema.num_labels])
    return merged


def _right(mask: NDArray[np.int64]) -> float:
    """Return the fraction of what can be checked in one mask that is right."""
    pixels = mask.sum(axis=1)
    if are_implausible(pixels):
        return 0.0
    below = mask.cumsum(axis=1)
    median = (2 * below >= pixels[:, None]).argmax(axis=1)
    order = [
        median[upper] < median[lower] for upper, lower in _ABOVE if pixels[[upper, lower]].all()
    ]
    small = [pixels[part] < _SMALL_SHARE * pixels[1:].sum() for part in _SMALL if pixels[part]]
    return float(np.mean(order + small)) if order else 0.0


def _remedy(names: Sequence[str]) -> str:
    return (
        "Say which network made them: data.parsing.schema=<one of: "
        f"{', '.join(names)}>. docs/parsing.md says what is in each."
    )
