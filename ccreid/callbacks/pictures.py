"""Pictures of a run: ranked lists, and the clusters of a method that mines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from ccreid.callbacks.evaluation import Evaluation
from ccreid.callbacks.wandb_logger import WandbRunLogger
from ccreid.data.datamodule import ReIDDataModule
from ccreid.data.sample import ids
from ccreid.errors import require
from ccreid.retrieval import RepeatedResults, RetrievalResults
from ccreid.viz.clusters import most_clusters
from ccreid.viz.marks import save_sheet
from ccreid.viz.person_clusters import draw_person
from ccreid.viz.protocols import draw_protocols

if TYPE_CHECKING:
    from ccreid.methods.base import Method

Results = Mapping[str, RetrievalResults | RepeatedResults]


class RunPictures(Callback):
    """Draws ranked lists and, of a method that mines, the clusters of some train people.

    Those of every n epochs lie in `epoch_<n>/`, their ranked lists are of the held-out people where
    there are any. Those of the end are drawn by `draw`, once the run's metrics are there.

    Pictures stay on this machine, unless a logger was told to upload them.

    Args:
        folder: of the pictures.
        every_n_epochs: 0 draws at the end only.
        people: whose clusters are drawn: those with the most when it is done first, so that later
            sheets show the same people.
    """

    def __init__(self, folder: str, every_n_epochs: int = 0, people: int = 3) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("people", people)):
            require(value >= 0, f"callbacks.pictures.{name}", value, "0 or more")
        self._folder, self.every_n_epochs, self._people = Path(folder), every_n_epochs, people
        self._pids: list[int] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw when this epoch's turn has come and more are to follow."""
        method: Method = pl_module  # type: ignore[assignment]
        epoch = trainer.current_epoch + 1
        if not self.every_n_epochs or epoch % self.every_n_epochs or epoch == trainer.max_epochs:
            return
        (evaluation,) = (each for each in trainer.callbacks if isinstance(each, Evaluation))  # type: ignore[attr-defined]
        benchmark, results = evaluation.look(method)  # on all ranks
        if trainer.is_global_zero:
            folder = self._folder / f"epoch_{epoch:03d}"
            data = method.datamodule
            files = draw_protocols(results, benchmark, folder, licensor=data.benchmark)
            files += self._clusters(method, data, folder)
            upload(files, trainer.loggers, trainer.global_step)

    def draw(
        self,
        results: Results,
        data: ReIDDataModule,
        method: Method,
        loggers: Iterable[Logger] = (),
        step: int | None = None,
    ) -> list[Path]:
        """Draw the end of a run; to be called on rank 0.

        Args:
            results: of the test people, by protocol name.
            data: of the run.
            method: as it was trained.
            loggers: that may have been told to upload pictures.
            step: at which they show them.

        Returns:
            The files.
        """
        files = draw_protocols(results, data.benchmark, self._folder)
        files += self._clusters(method, data, self._folder)
        upload(files, loggers, step)
        return files

    def state_dict(self) -> dict[str, list[int]]:
        """Return whose clusters were drawn, so that a resumed run draws the same people's."""
        return {"people": self._pids}

    def load_state_dict(self, state_dict: dict[str, list[int]]) -> None:
        """Take over whose clusters are drawn."""
        self._pids = list(state_dict["people"])

    def _clusters(self, method: Method, data: ReIDDataModule, folder: Path) -> list[Path]:
        mined = method.clusters()
        if mined is None or not self._people:
            return []
        labels, pids = mined.cpu().numpy(), ids(data.train, "pid")
        self._pids = self._pids or most_clusters(labels, pids, self._people)
        name, files = type(method).__name__, []
        for pid in self._pids:
            own = np.flatnonzero(pids == pid)
            samples = [data.train[position] for position in own]
            title = f"{data.benchmark.name}, train: person {pid} as {name} mined last"
            sheet = draw_person(samples, labels[own], data.benchmark, title)
            files.append(save_sheet(sheet, folder / f"clusters_{pid}.png"))
        return files


def upload(files: Iterable[Path], loggers: Iterable[Logger], step: int | None) -> None:
    """Give pictures to the loggers that were told to upload them."""
    for logger in loggers:
        if isinstance(logger, WandbRunLogger):
            logger.log_pictures(files, step)
