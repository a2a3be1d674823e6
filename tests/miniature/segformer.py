"""A SegFormer of some thousand random parameters, saved as transformers saves any model."""

from pathlib import Path

import torch
import transformers


def write_segformer(folder: Path, num_labels: int = 18, favourite: int | None = None) -> Path:
    """Save a network with its image processor and return the folder.

    Args:
        folder: where to.
        num_labels: of the network.
        favourite: a label that it gives to every pixel.
    """
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_labels=num_labels,
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    network = transformers.SegformerForSemanticSegmentation(config)
    if favourite is not None:
        with torch.no_grad():
            network.decode_head.classifier.weight.zero_()
            network.decode_head.classifier.bias.zero_()
            network.decode_head.classifier.bias[favourite] = 1
    network.save_pretrained(folder)
    size = {"height": 64, "width": 32}
    transformers.SegformerImageProcessor(size=size).save_pretrained(folder)
    return folder
