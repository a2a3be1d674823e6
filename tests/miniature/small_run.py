"""A run of a second: the baseline on the folder in miniature."""

from pathlib import Path

from omegaconf import DictConfig

from ccreid.config import compose
from tests.conftest import TINY


def small_run(root: Path, *overrides: str, folder: str = "run") -> DictConfig:
    """Compose a run on `root`, as `write_folder` made it, into `<folder>` beside it."""
    settings = [setting for setting in TINY if setting != "data=virtual"]
    settings += ["data=folder", "method=baseline", "debug=fast", f"data.root={root}"]
    settings += ["data.identities_per_batch=2", "data.images_per_identity=4"]
    return compose("train", [*settings, f"output_dir={root.parent / folder}", *overrides])
