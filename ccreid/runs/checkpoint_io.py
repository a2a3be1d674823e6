"""How Lightning's checkpoints reach the disk: whole, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from ccreid.errors import TrainingError
from ccreid.writing import disk_error, whole_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes beside the earlier checkpoint, and takes its place when all of it is on the disk.

    Lightning's own writes into the system's folder for temporary files, from where a file is moved
    to another disk piece by piece, and does not wait for the disk.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: plain containers of tensors and numbers.
            path: of the file, on a file system of this machine.
            storage_options: not used.

        Raises:
            TrainingError: it cannot be written; an earlier one of the same name is untouched.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            cause = error if isinstance(error, OSError) else disk_error(error)
            if cause is None:
                raise
            raise TrainingError(f"Cannot write {path}: {cause.strerror}. {_remedy(path)}") from None


def _remedy(path: Path) -> str:
    if not path.exists():
        return "Make room, or choose another folder (hydra.run.dir=<folder>), and begin again."
    return f"The one before it is whole: make room and go on with resume={path}."
