"""Keeps the best epoch of a run, wherever the run goes on."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from ccreid.runs.processes import process_rank
from ccreid.writing import write_whole

log = logging.getLogger(__name__)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, for a run that was copied or moved, or goes on in a new folder, as well.

    Lightning's own forgets the best epoch so far when the folder is another, and lets the next
    epoch overwrite it.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best epoch so far; its file is copied where this folder has none."""
        before = Path(state_dict["best_model_path"])
        here = Path(os.path.join(self.dirpath or "", before.name))
        if before.name and str(self.dirpath) != state_dict["dirpath"]:
            if here.is_file() or before.is_file():
                _copy(before, here)
                places = ("best_model_path", "kth_best_model_path", "last_model_path")
                state_dict = {
                    **state_dict,
                    **dict.fromkeys(places, str(here)),
                    "dirpath": self.dirpath,
                    "best_k_models": {str(here): state_dict["best_model_score"]},
                }
            else:
                log.warning("%s is gone: the best epoch from now on is kept", before)
        super().load_state_dict(state_dict)


def _copy(before: Path, here: Path) -> None:
    if here.is_file() or process_rank():
        return
    here.parent.mkdir(parents=True, exist_ok=True)
    with before.open("rb") as source, write_whole(here) as target:
        shutil.copyfileobj(source, target)
