"""Batch cross-clothes triplet loss (BCTri): positives wear other outfits than the anchor.

Our reconstruction from the poster of Mu, Li, Li, Yang: "Learning Clothes-irrelevant Cues for
Clothes-Changing Person Re-identification", BMVC 2022. The poster gives the formula
`Σ_n max(m + d(x_i, x_j^n) − d(x_i, x_k), 0)`; what n, j and k run over is our reading of it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize

POSITIVES = ("per_outfit_hardest", "all")
DISTANCES = ("euclidean", "cosine")
ERASED_AS = ("extra_outfit", "same_outfit", "separate")
REDUCTIONS = ("sum", "mean")
FALLBACKS = ("same_outfit", "skip")


def cross_clothes_triplet_loss(
    features: Tensor,
    pids: Tensor,
    clothes_ids: Tensor,
    margin: float = 0.3,
    *,
    erased: Tensor | None = None,
    positives: str = "per_outfit_hardest",
    include_own: bool = False,
    distance: str = "euclidean",
    erased_as: str = "extra_outfit",
    reduce_n: str = "sum",
    fallback: str = "same_outfit",
) -> Tensor:
    """Mean over anchors of `Σ_n relu(margin + d(x_i, x_j^n) - d(x_i, x_k))`.

    x_k is the nearest image of another identity. With the default positives (reading H1) n runs
    over the outfits of the anchor's identity in the batch other than its own, and x_j^n is the
    farthest image in outfit n. `include_own` adds the anchor's own outfit (H1b); `positives="all"`
    makes every image of the identity in another outfit a positive (H2). An anchor is never its own
    positive. Anchors without a positive or without a negative form no triplet; without any triplet
    the loss is 0 with a zero gradient. Computed in float32 or better, also under autocast.

    Args:
        features: [M, D], any floating dtype, as given (not normalised).
        pids: identity of each feature, [M].
        clothes_ids: outfit of each feature, [M]; compared within an identity only, so that the
            unlabelled images (-1) of a person count as one outfit.
        margin: m, in the unit of the distance.
        erased: which features are of images whose clothes were erased, [M] bool; None for none.
        positives: `per_outfit_hardest` or `all`.
        include_own: let n also run over the anchor's own outfit.
        distance: `euclidean`, or `cosine` (1 - cosine).
        erased_as: an identity's erased images are one more outfit of it (`extra_outfit`), keep the
            outfit that was erased (`same_outfit`), or are mined apart from the others (`separate`).
        reduce_n: `sum` over n, as the formula, or `mean`.
        fallback: an anchor without a cross-clothes positive takes its farthest positive in the same
            outfit (`same_outfit`), or forms no triplet (`skip`).

    Returns:
        The loss, scalar.

    Raises:
        ValueError: an unknown choice.

    Source: sum and hinge from the poster. H1 as the default, the hardest negative and erased images
    as an outfit of their own are inferred; margin and Euclidean distance are those of the relatives
    Pixel Sampling (arXiv 2107.11522) and CAL (arXiv 2204.06890).
    """
    mined = mine_cross_clothes_triplets(
        features,
        pids,
        clothes_ids,
        erased=erased,
        positives=positives,
        include_own=include_own,
        distance=distance,
        erased_as=erased_as,
        fallback=fallback,
    )
    return mined.loss(margin, reduce_n)


class CrossClothesTriplets(NamedTuple):
    """The triplets of M images, from which the loss and what describes them are computed.

    Attributes:
        distance: of all pairs, [M, M], with the features' gradient.
        chosen: which columns are the positives of an anchor, its row, [M, M] bool.
        nearest_negative: distance of each anchor's x_k, [M]; 0 without one.
        used: which anchors have a triplet, [M] bool.
        fell_back: which of them took a positive in the same outfit, [M] bool.
        real: which images are not erased, [M] bool.
        unpaired: which of these see no other of their person in another outfit, [M] bool.
    """

    distance: Tensor
    chosen: Tensor
    nearest_negative: Tensor
    used: Tensor
    fell_back: Tensor
    real: Tensor
    unpaired: Tensor

    def loss(self, margin: float, reduce_n: str = "sum") -> Tensor:
        """Return `cross_clothes_triplet_loss` of these triplets."""
        _require_choice("reduce_n", reduce_n, REDUCTIONS)
        hinge = torch.relu(margin + self.distance - self.nearest_negative[:, None]) * self.chosen
        anchors = hinge.sum(dim=1)
        if reduce_n == "mean":
            anchors = anchors / self.chosen.sum(dim=1).clamp(min=1)
        return anchors.sum() / self.used.sum().clamp(min=1)

    @torch.no_grad()
    def statistics(self, margin: float) -> dict[str, Tensor]:
        """Describe them.

        Returns:
            Tensors on the features' device, all scalar: `active` (fraction of the triplets with a
            positive term), `positive_distance` and `negative_distance` (means over the triplets),
            `positives` (mean N over the anchors used), `fallback` (fraction of the anchors used
            that fell back), `unused` (fraction of the anchors without a triplet), `unpaired`
            (fraction of the images not erased that see no such image of their person in another
            outfit: many mean that the sampler is wrong).
        """
        negative = self.nearest_negative[:, None].expand_as(self.distance)
        triplets, used = self.chosen.sum().clamp(min=1), self.used.sum().clamp(min=1)
        active = (margin + self.distance - negative > 0) & self.chosen
        return {
            "active": active.sum() / triplets,
            "positive_distance": (self.distance * self.chosen).sum() / triplets,
            "negative_distance": (negative * self.chosen).sum() / triplets,
            "positives": self.cross_clothes_positives().sum() / used,
            "fallback": (self.fell_back & self.used).sum() / used,
            "unused": 1 - self.used.float().mean(),
            "unpaired": self.unpaired.sum() / self.real.sum().clamp(min=1),
        }

    def cross_clothes_positives(self) -> Tensor:
        """Return N of each anchor, [M]: its positives in other outfits."""
        return (self.chosen & ~self.fell_back[:, None]).sum(dim=1)


def mine_cross_clothes_triplets(
    features: Tensor,
    pids: Tensor,
    clothes_ids: Tensor,
    *,
    erased: Tensor | None = None,
    positives: str = "per_outfit_hardest",
    include_own: bool = False,
    distance: str = "euclidean",
    erased_as: str = "extra_outfit",
    fallback: str = "same_outfit",
) -> CrossClothesTriplets:
    """Find the triplets of `cross_clothes_triplet_loss`, where the arguments are described.

    Raises:
        ValueError: an unknown choice.
    """
    _require_choice("positives", positives, POSITIVES)
    _require_choice("distance", distance, DISTANCES)
    _require_choice("erased_as", erased_as, ERASED_AS)
    _require_choice("fallback", fallback, FALLBACKS)
    if erased is None:
        erased = torch.zeros_like(pids, dtype=torch.bool)
    distances, real = _pairwise(features, distance), ~erased
    same_person = pids[:, None] == pids[None, :]
    same_outfit = same_person & (clothes_ids[:, None] == clothes_ids[None, :])
    paired = (same_person & ~same_outfit & real).any(dim=1)
    both_or_neither = erased[:, None] == erased[None, :]
    visible = torch.ones_like(same_person)
    if erased_as == "extra_outfit":
        worn = same_outfit & both_or_neither
        same_outfit = worn | (same_person & erased[:, None] & erased[None, :])
    elif erased_as == "separate":
        visible = both_or_neither
    negative = ~same_person & visible
    itself = torch.eye(len(pids), dtype=torch.bool, device=pids.device)
    others = same_person & visible & ~itself
    cross = others if include_own else others & ~same_outfit
    fell_back = ~cross.any(dim=1) & (fallback == "same_outfit")
    candidates = torch.where(fell_back[:, None], others, cross)
    # Groups are the outfits, apart for either half where the halves are: candidates see to that.
    chosen = _farthest_of_each(distances.detach(), candidates, _first_of_group(same_outfit))
    if positives == "all":
        chosen = torch.where(fell_back[:, None], chosen, candidates)
    has_negative = negative.any(dim=1)
    nearest = distances.masked_fill(~negative, torch.inf).min(dim=1).values
    chosen = chosen & has_negative[:, None]
    return CrossClothesTriplets(
        distances,
        chosen,
        torch.where(has_negative, nearest, 0.0),
        chosen.any(dim=1),
        fell_back,
        real,
        real & ~paired,
    )


def _first_of_group(same: Tensor) -> Tensor:
    """Number each row's group by the group's first row, [M]."""
    return same.to(torch.uint8).argmax(dim=1)


def _farthest_of_each(distances: Tensor, candidates: Tensor, group: Tensor) -> Tensor:
    """Mark for every anchor the farthest candidate of each group, the first where several are."""
    groups = group.expand_as(distances)
    eligible = distances.masked_fill(~candidates, -torch.inf)
    nothing = torch.full_like(eligible, -torch.inf)
    farthest = nothing.scatter_reduce(1, groups, eligible, "amax").gather(1, groups)
    marked = candidates & (eligible == farthest)
    size = distances.shape[1]
    column = torch.arange(size, device=group.device).expand_as(distances)
    marked_column = torch.where(marked, column, size)
    first = torch.full_like(column, size).scatter_reduce(1, groups, marked_column, "amin")
    return marked & (first.gather(1, groups) == column)


def _pairwise(features: Tensor, distance: str) -> Tensor:
    """Return all distances [M, M] with their gradient, in float32 or better."""
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    with torch.autocast(features.device.type, enabled=False):
        if distance == "cosine":
            unit = normalize(features)
            return 1 - unit @ unit.T
        # The value is the direct form's, which keeps near-duplicates apart; the gradient is the
        # product form's, whose memory does not grow with M²·D and which adds in a fixed order.
        centred = features - features.detach().mean(dim=0)
        norm = centred.square().sum(dim=1)
        product = norm[:, None] + norm[None, :] - 2 * centred @ centred.T
        with torch.no_grad():
            direct = torch.cdist(centred, centred, compute_mode="donot_use_mm_for_euclid_dist")
        squared = product + (direct.square() - product).detach()
        # Below the limit the clamp passes no gradient, so identical features divide by nothing.
        return squared.clamp(min=1e-12).sqrt()


def _require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value}: choose one of {', '.join(choices)}.")
