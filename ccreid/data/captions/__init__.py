"""Captions: their files, the features computed of them, and one store that gives them."""

from ccreid.data.captions.files import PERSPECTIVES
from ccreid.data.captions.store import CaptionStore

__all__ = ["PERSPECTIVES", "CaptionStore"]
