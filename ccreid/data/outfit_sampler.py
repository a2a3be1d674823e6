"""Batches in which every person wears several outfits: what cross-clothes triplets need."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ccreid.data.samplers import PKSampler
from ccreid.errors import require

Numbers = NDArray[np.int64]


class CrossClothesPKSampler(PKSampler):
    """A `PKSampler` whose K images of an identity are spread over its outfits.

    Each time an identity is drawn, min(C, its outfits) outfits give K images as evenly as K allows.
    Outfits, and the images of an outfit, come round in random order: none comes again before the
    others have had their turn, and within one draw an image comes twice only where its outfit has
    fewer images than its share. The epoch has as many batches as the `PKSampler`'s; identities with
    outfits of unequal size show the images of the small ones more often.

    Args:
        pid, identities_per_batch, images_per_identity, seed, epoch, rank, world_size: see
            `PKSampler`.
        clothes_id: outfit of every train image, [N]; a person's unlabelled images (-1) count as one
            outfit.
        outfits_per_identity: C.

    Raises:
        ConfigError: as `PKSampler`, or C is below 1.

    Source: needed by the BCTri of CRE/BSGA (BMVC 2022); C = 4 and the even split are inferred.
    """

    def __init__(
        self,
        pid: Numbers,
        clothes_id: Numbers,
        identities_per_batch: int,
        images_per_identity: int,
        seed: int,
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
        outfits_per_identity: int = 4,
    ) -> None:
        super().__init__(
            pid, identities_per_batch, images_per_identity, seed, epoch, rank, world_size
        )
        outfits = outfits_per_identity
        require(outfits >= 1, "data.outfits_per_identity", outfits, "at least 1")
        self.outfits_per_identity, self._clothes_id = outfits, clothes_id

    @property
    def num_single_outfit_identities(self) -> int:
        """How many identities wear one outfit only, and so have no cross-clothes pair."""
        return sum(len(np.unique(self._clothes_id[images])) == 1 for images in self._images)

    def _cut(self, images: Numbers, rng: np.random.Generator) -> Numbers:
        worn = self._clothes_id[images]
        decks = [_Deck(images[worn == outfit], rng) for outfit in np.unique(worn)]
        order = _Deck(np.arange(len(decks)), rng)
        number = min(self.outfits_per_identity, len(decks), self.K)
        share, more = divmod(self.K, number)
        chunks = np.empty((max(1, len(images) // self.K), self.K), dtype=np.int64)
        for chunk in chunks:
            parts = [
                decks[outfit].deal(share + (place < more))
                for place, outfit in enumerate(order.deal(number))
            ]
            chunk[:] = np.concatenate(parts)
        return chunks


class _Deck:
    """Cards in random order, and in a new one when they run out; no round leaves a card out."""

    def __init__(self, cards: Numbers, rng: np.random.Generator) -> None:
        self._cards, self._rng = cards, rng
        self._left = rng.permutation(cards)

    def deal(self, number: int) -> Numbers:
        """Return so many cards, different ones where there are enough."""
        if number > len(self._cards):
            return np.resize(self._rng.permutation(self._cards), number)
        if number > len(self._left):
            # The cards left are dealt now, so in the new round they come last.
            rounds = (self._left, np.setdiff1d(self._cards, self._left), self._left)
            self._left = np.concatenate([self._rng.permutation(cards) for cards in rounds])
        dealt, self._left = self._left[:number], self._left[number:]
        return dealt
