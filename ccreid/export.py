"""Export a trained network: `python -m ccreid.export checkpoint=<file> output=<folder>`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import hydra

from ccreid.commands import guarded, run_verb
from ccreid.config import CONF_DIR
from ccreid.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig


def export(cfg: DictConfig) -> Path:
    """Write the weights that embedding takes and all it takes to use them; return the file.

    Every verb takes the file as `checkpoint=` and computes the same numbers from it.

    Raises:
        CCReIDError: the checkpoint is missing or not what it should be, or the file is there.
    """
    from omegaconf import OmegaConf

    from ccreid import report
    from ccreid.checkpoints.checkpoint import load_checkpoint
    from ccreid.checkpoints.exporting import export_checkpoint

    if OmegaConf.is_missing(cfg, "checkpoint"):
        raise ConfigError("Say which checkpoint: checkpoint=<run folder>/checkpoints/last.ckpt")
    checkpoint = load_checkpoint(cfg.checkpoint, cfg.allow_targets)
    path = export_checkpoint(checkpoint, cfg.output, report.origin(checkpoint.config))
    report.show(f"{path}\nUse it as any checkpoint: python -m ccreid.evaluate checkpoint={path}")
    return path


@hydra.main(config_path=str(CONF_DIR), config_name="export", version_base="1.3")
def main(cfg: DictConfig) -> None:
    """Hydra's entry."""
    guarded(export, cfg)


if __name__ == "__main__":
    run_verb(main, "export")
