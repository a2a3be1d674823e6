"""ParsingReport: which masks were found, in words for a log or a benchmark's card."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ParsingReport:
    """What masks were found for a list of images.

    Attributes:
        source: where they are from, in words.
        images: how many were asked for.
        missing: images without a mask.
        resized: masks of another size than their image.
        implausible: masks that cannot be of a dressed person; the method does not trust them.
        on_missing: what becomes of images without a mask.
    """

    source: str
    images: int
    missing: int
    resized: int = 0
    implausible: int = 0
    on_missing: str = "error"

    def sentences(self) -> list[str]:
        """Say it, one sentence per fact; of what there is none nothing is said."""
        fate = {
            "skip": "left out of training",
            "no_erase_no_att": "trained on without erasure and attention loss",
        }.get(self.on_missing, "missing")
        facts = {
            f"images have no mask and are {fate}": self.missing,
            "masks have another size than their image and were resized to it": self.resized,
            "masks cannot be of a dressed person and are not trusted": self.implausible,
        }
        head = f"Parsing masks of {self.images - self.missing:,} of {self.images:,} images: "
        return [f"{head}{self.source}."] + [
            f"{count:,} ({count / self.images:.1%}) {what}."
            for what, count in facts.items()
            if count
        ]
