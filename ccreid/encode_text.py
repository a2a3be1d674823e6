"""Turn captions into features: `python -m ccreid.encode_text data=prcc encoder=open_clip`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR

if TYPE_CHECKING:
    from omegaconf import DictConfig


def encode_text(cfg: DictConfig) -> Path:
    """Encode the captions of the train images; return the file of features.

    Where there is no file of texts yet and the benchmark comes with captions, these are written
    first.

    Raises:
        CCReIDError: there are no captions, or the encoder cannot be had.
    """
    from ccreid import report
    from ccreid.build import choose_device, instantiate
    from ccreid.data.captions.features import encode, write_features
    from ccreid.data.captions.files import (
        TEXTS,
        benchmark_captions,
        captions_folder,
        of_images,
        read_captions,
        write_captions,
    )

    benchmark = instantiate(cfg.data.benchmark)
    folder = captions_folder(cfg.folder, benchmark)
    encoder = instantiate(cfg.encoder).to(choose_device(cfg.device))
    if not (folder / TEXTS).exists():
        captions = benchmark_captions(benchmark)
        folder.mkdir(parents=True, exist_ok=True)
        write_captions(folder / TEXTS, captions)
    captions = of_images(read_captions(folder / TEXTS), benchmark.train)
    features = encode(captions, encoder)
    path = folder / f"{encoder.name}.safetensors"
    write_features(path, captions, features, encoder)
    report.show(
        f"{features.shape[0]} texts of {len(captions)} of the {len(benchmark.train)} train images, "
        f"{features.shape[1]} numbers each: {path}\n"
        f"Train on them with data.captions.layout=ccreid data.captions.folder={folder} "
        f"data.captions.encoder={encoder.name}"
    )
    return path


@hydra.main(config_path=str(CONF_DIR), config_name="encode_text", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(encode_text, cfg)


if __name__ == "__main__":
    run_verb(main, "encode_text")
