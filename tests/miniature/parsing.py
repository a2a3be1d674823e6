"""Parsing masks in every published schema, made from the exact canonical masks of `virtual`."""

from pathlib import Path

import numpy as np
from PIL import Image

from ccreid.data.benchmarks.virtual import Virtual
from ccreid.data.files import read_labels

# Per schema, by canonical label: the source labels that its pixels get. Two labels side by side
# ("|": left and right half of the part), one above the other ("/"), or one per person (",").
SOURCE_LABELS = {
    "ps6": "0 1 2 3 2 4 5 5 2 2",
    "scnet12": "0 1 2 3,4 5 9 8 7 10 6,11",
    "atr18": "0 2/11 4 5,6 7 14|15 12|13 9|10 16 8,17",
    "lip20": "0 2/13 5,7 9,12 6,10 14|15 16|17 18|19 0 11,3",
    "pascal7": "0 1 2 5/6 2 3/4 5/6 6 0 2",
    "fashn18": "0 2/1 3 5,6 4 12/13 14 15 8 7,10",
    "mediapipe6": "0 1/3 4 4 4 2 2 5 5 5",
    "sapiens28": "0 3/2 22 12 1 10|19 11|20 8|17 0 1",
    "canonical": "0 1 2 3 4 5 6 7 8 9",
}


def source_mask(canonical: np.ndarray, schema: str, person: int = 0) -> np.ndarray:
    """Write a canonical mask [H, W] in the labels of `schema`."""
    source = np.zeros_like(canonical)
    rows, columns = np.indices(canonical.shape)
    for label, text in enumerate(SOURCE_LABELS[schema].split()):
        part = canonical == label
        for separator, positions in (("|", columns), ("/", rows)):
            if separator in text and part.any():
                first, second = (int(name) for name in text.split(separator))
                middle = np.median(positions[part])
                source[part] = np.where(positions[part] <= middle, first, second)
        if "|" not in text and "/" not in text:
            choices = [int(name) for name in text.split(",")]
            source[part] = choices[person % len(choices)]
    return source


def source_masks(schema: str, count: int) -> list[np.ndarray]:
    """Return masks of `count` images of `virtual` in the labels of `schema`."""
    benchmark = Virtual()
    step = max(len(benchmark.train) // count, 1)
    return [
        source_mask(read_labels(benchmark.parsing_path(sample)), schema, sample.pid)
        for sample in benchmark.train[::step][:count]
    ]


def write_mask(path: Path, labels: np.ndarray, channels: int | None = None) -> None:
    """Write a mask as palette PNG, or as .npy of class probabilities, channels last."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        image = Image.fromarray(labels).convert("P")
        image.putdata(labels.ravel().tolist())
        image.putpalette([(53 * i + 7) % 256 for i in range(768)])
        image.save(path)
        return
    classes = np.arange(channels or int(labels.max()) + 1)
    np.save(path, (0.9 * (labels[..., None] == classes) + 0.01).astype(np.float32))
