"""What writes captions: a vision-language model on this machine, or an endpoint the user runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from ccreid.errors import ConfigError, require
from ccreid.models.hub import import_extra, loading, require_complete


class Captioner(ABC):
    """Describes images, one short text each.

    Attributes:
        name: which model it is, for the record beside the captions.
        batch_size: images to hand over at a time.
    """

    name: str
    batch_size: int

    def to(self, device: torch.device) -> Captioner:
        """Compute on this device, where it computes at all."""
        return self

    @abstractmethod
    def answer(self, images: Sequence[Image.Image], prompt: str) -> list[str]:
        """Return what the model says of every image when asked this."""

    def describe(self, images: Sequence[Image.Image], prompt: str) -> list[str]:
        """Return one line of text per image; empty where the model has nothing to say."""
        return [" ".join(text.split()) for text in self.answer(images, prompt)]


class LocalCaptioner(Captioner):
    """An instruction-tuned vision-language model through transformers; decodes greedily.

    Args:
        model: its name on the model hub, or a local folder.
        batch_size: images at a time.
        max_new_tokens: an answer is cut off after so many.

    Raises:
        ConfigError: transformers is not installed, or the model cannot be had or takes no chat.
    """

    def __init__(self, model: str, batch_size: int = 8, max_new_tokens: int = 60) -> None:
        require(batch_size >= 1, "captioner.batch_size", batch_size, "1 or more")
        require(max_new_tokens >= 1, "captioner.max_new_tokens", max_new_tokens, "1 or more")
        transformers = import_extra("transformers", "text", "captioner=transformers")
        with loading("captioner.model", model):
            self.processor = transformers.AutoProcessor.from_pretrained(model)
            network, loaded = transformers.AutoModelForImageTextToText.from_pretrained(
                model, dtype="auto", output_loading_info=True
            )
        require_complete(loaded, "captioner.model", model)
        if getattr(self.processor, "chat_template", None) is None:
            raise ConfigError(
                f"captioner.model={model} has no chat template: it cannot be asked. Choose an "
                "instruction-tuned model."
            )
        self.processor.tokenizer.padding_side = "left"  # answers begin where the questions end
        self.network = network.eval().requires_grad_(False)
        self.name, self.batch_size, self.max_new_tokens = model, batch_size, max_new_tokens

    def to(self, device: torch.device) -> Captioner:
        """Move the model."""
        self.network = self.network.to(device)
        return self

    @torch.inference_mode()
    def answer(self, images: Sequence[Image.Image], prompt: str) -> list[str]:
        """Return what the model says of every image when asked this."""
        inputs = self.processor.apply_chat_template(
            [_question({"type": "image", "image": image}, prompt) for image in images],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            processor_kwargs={"padding": True, "return_tensors": "pt"},
        ).to(self.network.device, self.network.dtype)
        tokens = self.network.generate(
            **inputs, max_new_tokens=self.max_new_tokens, do_sample=False
        )
        answers: list[str] = self.processor.batch_decode(
            tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return answers


def _question(image: dict[str, Any], prompt: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [image, {"type": "text", "text": prompt}]}]
