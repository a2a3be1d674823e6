"""Networks and their parts: plain modules and functions of tensors."""

from ccreid.models.backbone import Backbone
from ccreid.models.heads import BNNeck, IdentityClassifier
from ccreid.models.pooling import average_pool, max_average_pool
from ccreid.models.recomposition import draw_donors, images_without_donor, recompose
from ccreid.models.similarity import cosine_similarity

__all__ = [
    "BNNeck",
    "Backbone",
    "IdentityClassifier",
    "average_pool",
    "cosine_similarity",
    "draw_donors",
    "images_without_donor",
    "max_average_pool",
    "recompose",
]
