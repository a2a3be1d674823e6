"""CRE/BSGA: clothes erasure, body-shape-guided attention and cross-clothes triplets.

Our reconstruction from the poster of Mu, Li, Li, Yang: "Learning Clothes-irrelevant Cues for
Clothes-Changing Person Re-identification", BMVC 2022. Neither the full paper nor its code was at
hand: what the poster leaves open follows its relatives, and is said to do so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ccreid.data.parsing.schemas import GARMENT
from ccreid.data.sample import Batch
from ccreid.data.transforms import RandomErasing
from ccreid.errors import ConfigError, DataError, require
from ccreid.losses import (
    attention_loss,
    batch_hard_triplet_loss,
    mine_cross_clothes_triplets,
    twin_consistency_loss,
)
from ccreid.methods.base import Method, OptimizerFactory, SchedulerFactory
from ccreid.methods.body_shape import BCTri, BodyShape
from ccreid.methods.clothes_erasure import ClothesErasure, Views, label_numbers
from ccreid.models import Backbone, BNNeck, IdentityClassifier, average_pool
from ccreid.models.erasure import trusted_masks
from ccreid.models.random_erasing import BatchRandomErasing
from ccreid.models.split_norm import running_statistics_kept

TRIPLETS = ("cross_clothes", "batch_hard")


class _Features(NamedTuple):
    pooled: Tensor  # f, [M, C]
    normalised: Tensor  # after the neck, [M, C]
    attention: dict[str, Tensor]  # by stage, [M, 1, h, w]


class CREBSGA(Method):
    """L = L_id + w_tri L_BCTri + w_att L_att over images and their erased twins.

    CRE erases the clothes of the training images; images and twins pass through one network with
    one classifier. BSGA predicts a map inside the network that is taught the body's silhouette and
    gates the features. BCTri pulls an image towards every other outfit of its person. With all
    three off it is the BNNeck baseline. At test there are images only, and no masks.

    Args:
        backbone: images to feature maps.
        num_identities: people in the train split.
        optimizer, scheduler, gather: see `Method`.
        cre: clothes erasure; None for the defaults.
        bsga: attention; None for the defaults.
        bctri: cross-clothes triplets; None for the defaults.
        triplet: `cross_clothes` (BCTri) or `batch_hard`.
        triplet_weight: w_tri.
        margin: of the triplets, in units of their distance.
        label_smoothing: probability spread over all identities.
        erasing: random erasing, drawn anew for images and twins; None for none. The loader must
            not do it as well: there it would come before the clothes are erased.

    Raises:
        ConfigError: an impossible setting.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"parsing", "clothes"})  # at most, see `needs`
    does_without: ClassVar[Mapping[str, str]] = {
        "clothes": "Without clothes labels: method.triplet=batch_hard",
        "parsing": "Without masks: method.cre.enabled=false method.bsga.enabled=false",
    }

    def __init__(
        self,
        backbone: Backbone,
        num_identities: int,
        optimizer: OptimizerFactory,
        scheduler: SchedulerFactory | None = None,
        gather: bool = False,
        cre: ClothesErasure | None = None,
        bsga: BodyShape | None = None,
        bctri: BCTri | None = None,
        triplet: str = "cross_clothes",
        triplet_weight: float = 1.0,
        margin: float = 0.3,
        label_smoothing: float = 0.1,
        erasing: BatchRandomErasing | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler, gather)
        require(triplet in TRIPLETS, "method.triplet", triplet, f"one of {', '.join(TRIPLETS)}")
        require(triplet_weight >= 0, "method.triplet_weight", triplet_weight, "at least 0")
        require(0 <= label_smoothing <= 1, "method.label_smoothing", label_smoothing, "in [0, 1]")
        self.cre, self.bsga = cre or ClothesErasure(), bsga or BodyShape()
        self.bctri = bctri or BCTri()
        self.backbone = backbone
        with torch.random.fork_rng(devices=[]):  # the parts below start alike with and without it
            self.body_attention = self.bsga.build(backbone) if self.bsga.enabled else None
        num_features = backbone.num_features
        if self.body_attention is not None:
            num_features += self.body_attention.num_features
        self.bnneck = BNNeck(num_features)
        self.classifier = IdentityClassifier(num_features, num_identities)
        self.triplet, self.triplet_weight, self.margin = triplet, triplet_weight, margin
        self.label_smoothing, self.erasing = label_smoothing, erasing
        self._turn = 0
        self._twin_draws: torch.Generator | None = None

    @classmethod
    def needs(cls, settings: Mapping[str, Any]) -> frozenset[str]:
        """Return the side information that training with these settings (`cfg.method`) takes."""
        parts = [settings[name] or {} for name in ("cre", "bsga")]  # null: the defaults, on
        masks = any(part.get("enabled", True) for part in parts)
        clothes = settings["triplet"] == "cross_clothes"
        return frozenset({"parsing"} if masks else ()) | frozenset({"clothes"} if clothes else ())

    def embed(self, images: Tensor) -> Tensor:
        """Return the pooled features after the neck, [B, C], wider where attention adds its own."""
        return self._features(images).normalised

    def attention(self, images: Tensor) -> dict[str, Tensor]:
        """Return the predicted attention in (0, 1) by stage, [B, 1, h, w]; none without BSGA."""
        return self._features(images).attention

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `id` and `triplet`, and as configured `attention` and `consistency`."""
        trusted = self._trusted_masks(batch)
        views = self._views(batch, trusted)
        features = self._view_features(views, len(batch["pid"]))
        pid = batch["pid"].repeat(views.times)
        clothes_id = batch["clothes_id"].repeat(views.times)
        logits = self.classifier(features.normalised)
        losses = {
            "id": cross_entropy(
                _kept(logits, views.kept),
                _kept(pid, views.kept),
                label_smoothing=self.label_smoothing,
            ),
            "triplet": self.triplet_weight
            * self._triplet_loss(features.pooled, pid, clothes_id, views),
        }
        if self.bsga.enabled:
            losses["attention"] = self.bsga.weight * self._attention_loss(
                features.attention, batch["parsing"], trusted, views
            )
        if self.cre.enabled and self.cre.consistency != "none":
            size = len(batch["pid"])
            kept = None if views.kept is None else views.kept[size:]
            losses["consistency"] = self.cre.consistency_weight * twin_consistency_loss(
                features.pooled[:size], features.pooled[size:], kept, self.cre.consistency
            )
        return losses

    def _trusted_masks(self, batch: Batch) -> Tensor:
        """Return which masks can be of a dressed person, [B] bool; none are asked for if unused."""
        if not (self.cre.enabled or self.bsga.enabled):
            return torch.zeros_like(batch["pid"], dtype=torch.bool)
        trusted = trusted_masks(_fitting_masks(batch), label_numbers(GARMENT))
        self.log_means({"untrusted_masks": (~trusted).float().mean()}, len(trusted))
        return trusted

    def _views(self, batch: Batch, trusted: Tensor) -> Views:
        """CRE: the images, each with its own random rectangle, and their twins with theirs."""
        images = batch["image"]
        if not self.cre.enabled:
            return Views(self._random_erasing(images), torch.zeros_like(trusted), None, 1)
        mean, draws = self.backbone.mean, self._twin_draws
        views = self.cre.views(
            images, batch["parsing"], trusted, mean, self._random_erasing, self._turn, draws
        )
        self.log_means({"erased_views": views.erased.float().mean()}, len(images))
        return views

    def _random_erasing(self, images: Tensor, draws: torch.Generator | None = None) -> Tensor:
        return images if self.erasing is None else self.erasing(images, self.backbone.mean, draws)

    def _view_features(self, views: Views, originals: int) -> _Features:
        if not (self.cre.enabled and self.cre.split_bn):
            return self._features(views.image)
        whole = self._features(views.image[:originals])
        with running_statistics_kept(self):
            twins = self._features(views.image[originals:])
        return _Features(
            torch.cat([whole.pooled, twins.pooled]),
            torch.cat([whole.normalised, twins.normalised]),
            {s: torch.cat([a, twins.attention[s]]) for s, a in whole.attention.items()},
        )

    def _features(self, images: Tensor) -> _Features:
        feature_map, attention = self.backbone(images), self.body_attention
        if attention is None:
            pooled, maps = average_pool(feature_map), {}
        else:
            pooled, maps = attention.pool(feature_map), attention.take_maps()
        return _Features(pooled, self.bnneck(pooled), maps)

    def _triplet_loss(
        self, pooled: Tensor, pid: Tensor, clothes_id: Tensor, views: Views
    ) -> Tensor:
        kept = torch.ones_like(views.erased) if views.kept is None else views.kept
        columns = self.gathered(pooled, pid, clothes_id, views.erased, kept)
        if views.kept is not None:
            columns = tuple(column[columns[-1]] for column in columns)
        pooled, pid, clothes_id, erased, _ = columns
        if self.triplet == "batch_hard":
            return batch_hard_triplet_loss(pooled, pid, self.margin, self.bctri.distance)
        triplets = mine_cross_clothes_triplets(
            pooled, pid, clothes_id, erased=erased, **self.bctri.mining
        )
        statistics = triplets.statistics(self.margin)
        self.log_means({f"triplet_{name}": v for name, v in statistics.items()}, len(pid))
        return triplets.loss(self.margin, self.bctri.reduce_n)

    def _attention_loss(
        self, maps: dict[str, Tensor], labels: Tensor, trusted: Tensor, views: Views
    ) -> Tensor:
        """BSGA: the mean over stages; a twin has its original's silhouette."""
        trusted = trusted.repeat(views.times)
        if views.kept is not None:
            trusted = trusted & views.kept
        losses = []
        for attention in maps.values():
            target = self.bsga.target(labels, attention).repeat(views.times, 1, 1, 1)
            losses.append(attention_loss(attention, target, trusted, self.bsga.loss))
        return torch.stack(losses).mean()

    def on_fit_start(self) -> None:
        """Refuse masks that show no garments, and the loader's random erasing beside this one."""
        masks = self.datamodule.parsing
        if self.cre.enabled and not self.cre.force and masks and not masks.has_garments:
            raise ConfigError(
                "These masks were made by a network that tells no garments from limbs (pascal7): "
                "clothes cannot be erased by them. Take other masks, method.cre.enabled=false, or, "
                "knowing that skin goes as well, method.cre.force=true."
            )
        steps = self.datamodule.train_transform.steps.transforms
        if any(isinstance(step, RandomErasing) for step in steps):
            raise ConfigError(
                "data.train_transform.erasing would come before the clothes are erased, and "
                "method.erasing draws the rectangles: set data.train_transform.erasing=null."
            )

    def on_train_epoch_start(self) -> None:
        """Give the twins draws of their own, so that the images' are the same without them."""
        super().on_train_epoch_start()
        self._twin_draws = torch.Generator(self.device).manual_seed(torch.initial_seed() + 1)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Note whose turn it is, for `method.cre.mode=alternate`."""
        self._turn = batch_idx


def _kept(values: Tensor, kept: Tensor | None) -> Tensor:
    return values if kept is None else values[kept]


def _fitting_masks(batch: Batch) -> Tensor:
    labels, images = batch["parsing"], batch["image"]
    if labels.shape != (len(images), *images.shape[-2:]):
        raise DataError(
            f"The batch's masks are {list(labels.shape)}, its images {list(images.shape)}: a mask "
            "must have its image's size and be cut and mirrored with it. ParsingStore resizes the "
            "masks on disk, TrainTransform takes image and mask together."
        )
    return labels
