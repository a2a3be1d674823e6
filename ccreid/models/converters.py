"""Names of other projects' tensors turned into ours, and what their shapes tell.

The names of FIRe² and DIFFER were read in the authors' code; none of their released files was at
hand. What a file holds beyond these names is refused by whoever loads the result, with its names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ccreid.errors import ConfigError, some

_RESNET_CHILDREN = {"0": "conv1", "1": "bn1", **{str(i + 3): f"layer{i}" for i in range(1, 5)}}
"""FIRe² keeps torchvision's network as a list of its children; timm gives them the same names."""

_EVA_CLIP_TO_TIMM = {
    "attn.inner_attn_ln.": "attn.norm.",
    "attn.q_bias": "attn.q_proj.bias",
    "attn.v_bias": "attn.v_proj.bias",
    "mlp.ffn_ln.": "mlp.norm.",
    "mlp.w1.": "mlp.fc1_g.",
    "mlp.w2.": "mlp.fc1_x.",
    "mlp.w3.": "mlp.fc2.",
}

_DIFFER_PARTS = {
    "head.": "classifier.",
    "head_clip_bio.fc": "biometric_head.fc",  # fc1 and fc2 of clipMLP
    "head_clip_bio.": "biometric_head.fc.",
    "norm_bio.": "backbone.network.norm.",
}


class Converted(NamedTuple):
    """Weights of an official checkpoint, for a method of this library.

    Attributes:
        state: the tensors under the method's names.
        sizes: of the train split, as far as shapes tell them.
        settings: of the method, as far as names and shapes tell them.
    """

    state: dict[str, Tensor]
    sizes: dict[str, int]
    settings: dict[str, Any]


def eva_clip_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the image tower out of an EVA-CLIP or open_clip state dict, under timm's names.

    The projection into CLIP's space and tables of the rotary embedding, which timm computes, are
    left out. What remains fits `timm.create_model("eva02_large_patch14_clip_224", num_classes=0)`
    and its relatives, and as a file `backbone.weights`.

    Raises:
        ConfigError: there is no image tower.
    """
    tower = {
        re.sub(r"^visual\.(trunk\.)?", "", name): value
        for name, value in state.items()
        if name.startswith("visual.")
    }
    if not tower:
        raise ConfigError(
            f"No tensor's name begins with 'visual.' (there are {some(list(state), 3)}): give the "
            "state dict of an EVA-CLIP model as open_clip or its authors save it."
        )
    return {
        _replaced(name, _EVA_CLIP_TO_TIMM): value
        for name, value in tower.items()
        if "rope" not in name and not name.startswith("head.")
    }


def differ_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of an official DIFFER checkpoint as `ccreid.methods.differ.DIFFER` does.

    The authors keep the last block apart, as `head_bio`. The result fits a method with the same
    backbone, heads and numbers of cameras and identities: `method.load_state_dict(...)`. Some
    released checkpoints have biases in their non-biometric heads: `method.non_biometric_bias`.

    Args:
        state: names to tensors, with or without `module.` before the names.

    Raises:
        ConfigError: it has no `head_bio`, so it is not such a checkpoint.

    Source: repository xliangp/DIFFER, of the model types `clipFc` and `clipMLP`.
    """
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    blocks = {int(m[1]) for name in state if (m := re.match(r"blocks\.(\d+)\.", name))}
    if not blocks or not any(name.startswith("head_bio.") for name in state):
        raise ConfigError(
            f"This is no DIFFER checkpoint: it has no 'head_bio.*' beside 'blocks.*' (there are "
            f"{some(list(state), 3)}). Give the state dict that the authors' training saved."
        )
    parts = _DIFFER_PARTS | {"head_bio.": f"backbone.network.blocks.{max(blocks) + 1}."}
    converted = {}
    for name, value in state.items():
        if name == "camera_embed":  # [cameras, 1, C]
            converted["cameras.table"] = value.squeeze(1)
        elif head := re.fullmatch(r"head_clip_bioReverse\.(\d+)\.(head_fc|fc1|fc2)\.(\w+)", name):
            number, layer, kind = head.groups()
            layer = layer.removeprefix("head_")
            converted[f"non_biometric_heads.{number}.{layer}.{kind}"] = value
        elif part := next((part for part in parts if name.startswith(part)), None):
            converted[parts[part] + name.removeprefix(part)] = value
        else:
            converted[f"backbone.network.{name}"] = value
    return converted


def fire2_state(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Name the tensors of an official FIRe² checkpoint as `ccreid.methods.fire2.FIRe2` does.

    Args:
        content: of the file: the network is under `model_state_dict`, the identity classifier under
            `classifier_state_dict`.

    Raises:
        ConfigError: it is no such checkpoint.

    Source: repository QizaoWang/FIRe-CCReID, commit 00ffdec, a ResNet-50.
    """
    parts = [content.get(name) for name in ("model_state_dict", "classifier_state_dict")]
    if not all(isinstance(part, Mapping) and _are_tensors(part) for part in parts):
        raise ConfigError(
            "This is no FIRe² checkpoint: it lacks the state dicts 'model_state_dict' and "
            f"'classifier_state_dict' (there are {some([str(name) for name in content], 3)}). Give "
            "the file that the authors' training saved."
        )
    named: dict[str, Tensor] = {}
    for part in parts:
        assert part is not None
        named |= {str(name).removeprefix("module."): value for name, value in part.items()}
    return {_fire2_name(name): value for name, value in named.items()}


def _fire2_name(name: str) -> str:
    if child := re.fullmatch(r"backbone\.(\d+)\.(.+)", name):
        return f"backbone.network.{_RESNET_CHILDREN.get(child[1], child[1])}.{child[2]}"
    return _replaced(name, {"FAR_": "recomposed_", "bottleneck.": "bnneck."})


def from_fire2(content: Mapping[str, Any]) -> Converted:
    """Convert an official FIRe² checkpoint, see `fire2_state`."""
    state = fire2_state(content)
    return Converted(state, {"num_identities": _rows(state, "classifier.weight")}, {})


def from_differ(content: Mapping[str, Any]) -> Converted:
    """Convert an official DIFFER checkpoint, see `differ_state`.

    The kind of the heads, their hidden width and whether they have biases are told by the shapes.
    """
    for wrapper in ("state_dict", "model"):
        if isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not _are_tensors(content):
        raise ConfigError(
            "This is no DIFFER checkpoint: it holds more than a state dict. Give the file that the "
            "authors' training saved."
        )
    state = differ_state(content)
    is_mlp = "biometric_head.fc1.weight" in state
    sizes = {
        "num_identities": _rows(state, "classifier.weight"),
        "num_cameras": _rows(state, "cameras.table"),
        "caption_dim": _rows(state, f"biometric_head.{'fc2' if is_mlp else 'fc'}.weight"),
    }
    settings: dict[str, Any] = {"heads": "clipMLP" if is_mlp else "clipFc"}
    if is_mlp:
        settings["hidden_dim"] = _rows(state, "biometric_head.fc1.weight")
    else:
        settings["non_biometric_bias"] = "non_biometric_heads.0.fc.bias" in state
    return Converted(state, sizes, settings)


def without_cameras(state: Mapping[str, Tensor], factor: float) -> dict[str, Tensor]:
    """Move the embedding of DIFFER's only camera into the position embedding.

    On benchmarks without cameras the authors give every image camera 0, whose vector is then added
    to every token as the position embedding is. Here such an image has no camera, and no vector.

    Args:
        state: of `differ_state`.
        factor: what the authors multiply the vector by.

    Raises:
        ConfigError: there are several cameras.
    """
    table, place = state["cameras.table"], "backbone.network.pos_embed"
    if len(table) != 1:
        raise ConfigError(
            f"This checkpoint knows {len(table)} cameras, and the benchmark named by data= has "
            "none. Name the benchmark that it was trained on."
        )
    return {**state, place: state[place] + factor * table, "cameras.table": table[:0]}


def _rows(state: Mapping[str, Tensor], name: str) -> int:
    """Return the first size of a tensor."""
    if name not in state or state[name].ndim == 0:
        raise ConfigError(
            f"The checkpoint holds no {name} (as it would be named here), whose shape tells a size."
        )
    return len(state[name])


def _are_tensors(state: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in state.values())


def _replaced(name: str, parts: Mapping[str, str]) -> str:
    for old, new in parts.items():
        name = name.replace(old, new)
    return name
