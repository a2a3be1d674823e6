"""Names of other projects' tensors turned into ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from ccreid.errors import ConfigError, some

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
    state = {name.removeprefix("module."): value for name, value in state.items()}
    blocks = {int(name.split(".")[1]) for name in state if name.startswith("blocks.")}
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


def _replaced(name: str, parts: Mapping[str, str]) -> str:
    for old, new in parts.items():
        name = name.replace(old, new)
    return name
