"""Networks and their parts: plain modules and functions of tensors."""

from ccreid.models.backbone import Backbone
from ccreid.models.camera_embedding import CameraEmbedding
from ccreid.models.gradient_reversal import GradientReversal
from ccreid.models.heads import BNNeck, IdentityClassifier
from ccreid.models.pooling import POOLINGS, average_pool, max_average_pool
from ccreid.models.recomposition import draw_donors, images_without_donor, recompose
from ccreid.models.similarity import cosine_similarity
from ccreid.models.text_projection import TEXT_PROJECTIONS, text_projection
from ccreid.models.tokens import forget_final_norm

__all__ = [
    "POOLINGS",
    "TEXT_PROJECTIONS",
    "BNNeck",
    "Backbone",
    "CameraEmbedding",
    "GradientReversal",
    "IdentityClassifier",
    "average_pool",
    "cosine_similarity",
    "draw_donors",
    "forget_final_norm",
    "images_without_donor",
    "max_average_pool",
    "recompose",
    "text_projection",
]
