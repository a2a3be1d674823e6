"""CRE of CRE/BSGA: which of a batch's images are erased, and what the network sees of it.

Our reconstruction from the poster (Mu, Li, Li, Yang, BMVC 2022). Settings name body parts; they
become the numbers of the masks here, because models know nothing of how data is labelled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ccreid.data.parsing import CANONICAL_LABELS
from ccreid.data.parsing.schemas import GARMENT
from ccreid.errors import ConfigError, nearest, require
from ccreid.losses.twin_consistency import CONSISTENCIES
from ccreid.models.erasure import (
    FILLS,
    any_of,
    dilate,
    erase_clothes,
    vertical_prior,
)

LABEL = {name: number for number, name in enumerate(CANONICAL_LABELS)}
GARMENT_PLUS = (*GARMENT, "shoes", "bag")
CLOTHES_SETS = {"garment": GARMENT, "garment_plus": GARMENT_PLUS}
# One piece covers both halves, so that a region never misses its wearer.
REGIONS = {
    "upper": ("upper", "onepiece", "other_wear", "bag"),
    "lower": ("lower", "onepiece", "shoes"),
}

MODES = ("joint", "replace", "alternate")
BAD_PARSE = ("keep", "vertical_prior", "drop")

Augment = Callable[[Tensor, torch.Generator | None], Tensor]


def label_numbers(names: Sequence[str]) -> tuple[int, ...]:
    """Return the canonical numbers of body parts and garments by name.

    Raises:
        ConfigError: an unknown name, or `background`.
    """
    for name in names:
        if name not in LABEL or name == "background":
            raise ConfigError(
                f"method.cre.clothes_set names '{name}'.{nearest(str(name), LABEL)} Choose "
                f"garment, garment_plus, or a list of {', '.join(CANONICAL_LABELS[1:])}."
            )
    return tuple(LABEL[name] for name in names)


@dataclass(frozen=True)
class Views:
    """What the network sees of a batch of B images: V views of each, view after view.

    Attributes:
        image: [V·B, 3, H, W].
        erased: which of them lost their clothes, [V·B] bool.
        kept: which of them the losses see, [V·B] bool; None for all.
        times: V.
    """

    image: Tensor
    erased: Tensor
    kept: Tensor | None
    times: int


@dataclass(frozen=True)
class ClothesErasure:
    """Settings of Clothes-Relevant information Erasure (CRE).

    Attributes:
        enabled: off: every batch is seen as it is.
        mode: `joint` (a batch and its erased twins), `replace` (images of the batch are erased with
            probability p), `alternate` (likewise in every second batch, none in the others).
        p: probability that an image is erased; in `joint`, that it has twins. None is 1, in
            `replace` 0.5, so that whole images are trained on as well.
        n_variants: twins per image, in `joint` only.
        region: `all`, `upper`, `lower`, or `random_subset` (per image one of the two, or both).
        clothes_set: `garment`, `garment_plus` (also shoes and bags), or canonical names.
        fill: see `models.erasure.erase_clothes`.
        dilate_px: pixels by which clothes grow before they are erased.
        on_bad_parse: what becomes of an image whose mask is not trusted: it is not erased (`keep`),
            erased by a guess from its silhouette (`vertical_prior`), or has no twin (`drop`; the
            network still computes it, and batch norm sees it, but no loss does).
        split_bn: originals and twins are normalised each by their own statistics; the running ones,
            used at test, are the originals'. Scale and shift are shared (AdvProp's are not).
        consistency: pulls a twin's feature to its original's: `none`, `mse`, `cosine`, or
            `ps_sigmoid`, the mean of sigmoid(||f - f'||²) (Pixel Sampling, arXiv 2107.11522).
        consistency_weight: of that term.
        force: erase by masks that tell no garments from limbs, too.

    Raises:
        ConfigError: an unknown choice, or settings that contradict each other.
    """

    enabled: bool = True
    mode: str = "joint"
    p: float | None = None
    n_variants: int = 1
    region: str = "all"
    clothes_set: str | Sequence[str] = "garment"
    fill: str = "black"
    dilate_px: int = 0
    on_bad_parse: str = "keep"
    split_bn: bool = False
    consistency: str = "none"
    consistency_weight: float = 1.0
    force: bool = False

    def __post_init__(self) -> None:
        for name, choices in (
            ("mode", MODES),
            ("region", ("all", *REGIONS, "random_subset")),
            ("fill", tuple(FILLS)),
            ("on_bad_parse", BAD_PARSE),
            ("consistency", ("none", *CONSISTENCIES)),
        ):
            value = getattr(self, name)
            require(value in choices, f"method.cre.{name}", value, f"one of {', '.join(choices)}")
        require(0 <= self.probability <= 1, "method.cre.p", self.p, "between 0 and 1")
        swaps = self.fill == "swap" and self.dilate_px > 0  # would paste what is beside a garment
        require(not swaps, "method.cre.dilate_px", self.dilate_px, "0 with method.cre.fill=swap")
        # Each twin is one more image through the network, each pixel one more around a mask of 2K.
        for name, low, high in (("n_variants", 1, 64), ("dilate_px", 0, 1000)):
            value = getattr(self, name)
            require(
                low <= value <= high, f"method.cre.{name}", value, f"at least {low}, at most {high}"
            )
        weight = self.consistency_weight
        require(weight >= 0, "method.cre.consistency_weight", weight, "at least 0")
        require(len(self.clothes) > 0, "method.cre.clothes_set", self.clothes_set, "not empty")
        if self.mode != "joint":
            wanted = f"{{}} unless method.cre.mode=joint (it is {self.mode}: there are no twins)"
            for name, value, plain in (
                ("n_variants", self.n_variants, 1),
                ("split_bn", self.split_bn, False),
                ("consistency", self.consistency, "none"),
            ):
                require(value == plain, f"method.cre.{name}", value, wanted.format(plain))
            wanted = "keep or vertical_prior unless method.cre.mode=joint"
            require(self.on_bad_parse != "drop", "method.cre.on_bad_parse", "drop", wanted)

    @property
    def probability(self) -> float:
        """That an image is erased or has twins."""
        if self.p is None:
            return 0.5 if self.mode == "replace" else 1.0
        return self.p

    @property
    def clothes(self) -> tuple[int, ...]:
        """The labels that are erased."""
        if isinstance(self.clothes_set, str):
            return label_numbers(CLOTHES_SETS.get(self.clothes_set, (self.clothes_set,)))
        return label_numbers(self.clothes_set)

    def views(
        self,
        images: Tensor,
        labels: Tensor,
        trusted: Tensor,
        mean: Tensor,
        augment: Augment,
        turn: int = 0,
        generator: torch.Generator | None = None,
    ) -> Views:
        """Return what the network sees of a batch; augmented view by view, erased before that.

        Args:
            images: [B, 3, H, W] in [0, 1].
            labels: human parsing, [B, H, W] canonical.
            trusted: which of them can be of a dressed person, [B] bool, see `trusted_masks`.
            mean: RGB of the fill `mean`.
            augment: what happens to erased and whole images alike (random erasing).
            turn: number of the batch in its epoch, for `alternate`.
            generator: draws for the erased views; the whole ones are augmented with torch's own, so
                that they are the same with erasure and without.
        """
        if self.mode == "joint":
            return self._with_twins(images, labels, trusted, mean, augment, generator)
        if self.mode == "alternate" and turn % 2 == 0:
            return Views(augment(images, None), torch.zeros_like(trusted), None, 1)
        drawn = torch.rand(len(images), generator=generator, device=images.device)
        drawn = drawn < self.probability
        garments = self._garments(labels, trusted, generator) * drawn[:, None, None]
        erased = erase_clothes(images, garments, self.fill, mean, generator)
        return Views(augment(erased, None), _any_pixel(garments), None, 1)

    def _with_twins(
        self,
        images: Tensor,
        labels: Tensor,
        trusted: Tensor,
        mean: Tensor,
        augment: Augment,
        generator: torch.Generator | None,
    ) -> Views:
        whole = torch.zeros_like(trusted)
        views, erased, kept = [augment(images, None)], [whole], [~whole]
        for _ in range(self.n_variants):
            drawn = torch.rand(len(images), generator=generator, device=images.device)
            drawn = drawn < self.probability
            garments = self._garments(labels, trusted, generator)
            twins = erase_clothes(images, garments, self.fill, mean, generator)
            views.append(augment(twins, generator))
            erased.append(_any_pixel(garments))
            kept.append(drawn & trusted if self.on_bad_parse == "drop" else drawn)
        all_kept = self.probability == 1 and self.on_bad_parse != "drop"
        return Views(
            torch.cat(views),
            torch.cat(erased),
            None if all_kept else torch.cat(kept),
            1 + self.n_variants,
        )

    def _garments(
        self, labels: Tensor, trusted: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return which pixels to erase by their label, 0 elsewhere, [B, H, W]."""
        garments = labels * any_of(labels, self.clothes)
        guess = torch.zeros_like(labels)
        if self.on_bad_parse == "vertical_prior":
            guess = vertical_prior(labels, LABEL["upper"], LABEL["lower"])
            guess = guess * any_of(guess, self.clothes)
        garments = torch.where(trusted[:, None, None], garments, guess)
        return dilate(self._in_region(garments, generator), self.dilate_px)

    def _in_region(self, garments: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.region == "all":
            return garments
        upper, lower = (any_of(garments, label_numbers(REGIONS[r])) for r in ("upper", "lower"))
        if self.region != "random_subset":
            return garments * (upper if self.region == "upper" else lower)
        # 0: upper alone, 1: lower alone, 2: both; whoever shows one of them only loses that one
        draw = torch.randint(3, (len(garments), 1, 1), generator=generator, device=garments.device)
        takes_upper = (draw != 1) | ~lower.flatten(1).any(dim=1)[:, None, None]
        takes_lower = (draw != 0) | ~upper.flatten(1).any(dim=1)[:, None, None]
        return garments * ((upper & takes_upper) | (lower & takes_lower))


def _any_pixel(garments: Tensor) -> Tensor:
    return (garments > 0).flatten(1).any(dim=1)
