"""The file that `python -m ccreid.export` writes: a network's weights, and how to use them.

It is a safetensors file, which can hold nothing but tensors and texts. Its texts (metadata):

    format         ccreid 1
    method         the class
    config         JSON: the settings of the run that rebuild method, transform and evaluation
    sizes          JSON: of the train split, as `ReIDDataModule.sizes`
    preprocessing  JSON: of an RGB image in [0, 1], for those who use the weights without ccreid
    left_out       JSON: names of the weights that only training needs
    origin         JSON: version, commit and, of converted weights, what they were converted from
    tensors_sha256, texts_sha256

The hashes tell a damaged or edited file; whoever edits one on purpose can hash it again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ccreid.errors import CheckpointError
from ccreid.writing import write_whole

SUFFIX = ".safetensors"
_FORMAT = "ccreid 1"
_JSON = ("config", "sizes", "preprocessing", "left_out", "origin")
_TENSORS, _TEXTS = "tensors_sha256", "texts_sha256"


class Exported(NamedTuple):
    """The content of an exported file.

    Attributes:
        method: the class that embeds, as `_target_` names it.
        config: plain settings; nothing in it was checked.
        sizes: of the train split.
        preprocessing: `height`, `width`, `interpolation`, `mean`, `std`, `mirror`.
        left_out: names of the weights that only training needs.
        origin: where the weights come from.
        tensors: the weights by name.
    """

    method: str
    config: dict[str, Any]
    sizes: dict[str, int]
    preprocessing: dict[str, Any]
    left_out: list[str]
    origin: dict[str, Any]
    tensors: dict[str, Tensor]


def write_exported(path: Path, content: Exported) -> None:
    """Write the file whole or not at all.

    Raises:
        CCReIDError: the file cannot be written.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in content.tensors.items()
    }
    texts = {"format": _FORMAT, "method": content.method, _TENSORS: tensors_hash(tensors)}
    for name in _JSON:
        texts[name] = json.dumps(getattr(content, name), sort_keys=True)
    texts[_TEXTS] = _texts_hash(texts)
    with write_whole(path) as file:
        file.write(save(tensors, texts))


def read_exported(path: Path) -> Exported:
    """Read an exported file and compare it with its hashes.

    Raises:
        CheckpointError: not whole, not written by `ccreid.export`, or altered.
    """
    try:
        with safe_open(path, framework="pt") as file:
            texts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is not a whole safetensors file ({error}). Get it again."
        ) from None
    if texts.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} was not written by python -m ccreid.export (format {texts.get('format')}, "
            f"wanted {_FORMAT}). Weights of a backbone alone are for backbone.weights=<file>."
        )
    for name, found in ((_TEXTS, _texts_hash(texts)), (_TENSORS, tensors_hash(tensors))):
        if texts.get(name) != found:
            raise CheckpointError(
                f"{path} was altered or damaged after it was written: {name} is {found}, and the "
                f"file says {texts.get(name)}. Get it again."
            )
    try:
        told = {name: json.loads(texts[name]) for name in _JSON}
        return Exported(method=texts["method"], **told, tensors=tensors)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} lacks one of its texts ({error}). Get it again.") from None


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all tensors: names in order, types, shapes, bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
        digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _texts_hash(texts: Mapping[str, str]) -> str:
    own = {name: text for name, text in texts.items() if name != _TEXTS}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
