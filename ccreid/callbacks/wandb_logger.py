"""Weights & Biases: online with a key, offline without, and never in the way of a run."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.wandb import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from ccreid.errors import ConfigError

if TYPE_CHECKING:
    from wandb import Run

    Mode = Literal["online", "offline", "disabled", "shared"]

_STEP = "trainer/global_step"  # the horizontal axis; Lightning logs it with every value
_OFFLINE = ("offline", "dryrun")  # two names of one WANDB_MODE


class WandbRunLogger(WandbLogger):
    """One wandb run per job; it holds numbers and the config, never terminal output.

    Images of people are in it, and leave the machine with it, only if `upload_pictures` is set.

    The run begins on rank 0 at the start of `Trainer.fit` and ends with `finish`. It is online when
    wandb knows a key (WANDB_API_KEY, ~/.netrc, its settings) that the server accepts, else offline
    with a warning. Nothing is asked on the terminal. WANDB_MODE is obeyed.

    Args:
        save_dir: the run's folder; wandb writes into `wandb/` inside it.
        config_file: the run's resolved config, read when the run begins.
        project: wandb's project.
        entity: wandb's user or team; None for the key's default.
        group: None groups by recipe and, within it, by sweep.
        name: None takes the settings typed on the command line, or the folder's name.
        tags: words to find the run by.
        connect_timeout: whole seconds to wait for the server, once for the key (there
            WANDB_HTTP_TIMEOUT, if set, is stronger) and once for the run.
        upload_timeout: seconds to wait for the rest of the upload at the end.
        upload_pictures: let the run's pictures, which show people, be part of it.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(
        self,
        save_dir: str,
        config_file: str,
        project: str = "ccreid",
        entity: str | None = None,
        group: str | None = None,
        name: str | None = None,
        tags: Sequence[str] = (),
        connect_timeout: int = 10,
        upload_timeout: float = 60.0,
        upload_pictures: bool = False,
    ) -> None:
        try:
            super().__init__(name=name, save_dir=save_dir, project=project)
        except ModuleNotFoundError:
            raise ConfigError(
                'logger=wandb needs the package wandb: pip install "ccreid[wandb]"\n'
                "logger=csv and logger=tensorboard do without it."
            ) from None
        self._config_file = config_file
        self._entity, self._group, self._tags = entity, group, tuple(tags)
        self._connect_timeout, self._upload_timeout = connect_timeout, upload_timeout
        self._upload_pictures = upload_pictures
        self._lost = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Run:
        """The run, begun at the first look; a dummy on every rank but the first."""
        if self._experiment is None:
            run = self._begin()
            run.define_metric(_STEP)
            run.define_metric("*", step_metric=_STEP, step_sync=True)
            self._experiment = run
        return cast("Run", self._experiment)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers; when wandb's own process has died, training goes on without it."""
        if not self._lost:
            with self._shielded():
                super().log_metrics(metrics, step)

    @rank_zero_only
    def log_pictures(self, files: Iterable[Path], step: int | None = None) -> None:
        """Log pictures as `pictures/<file's name>`, as they are on disk, if it was asked for."""
        if self._upload_pictures:
            for file in files:
                with self._shielded(ends=False):
                    self.log_image(f"pictures/{file.stem}", [str(file)], step, caption=[file.stem])

    def finish(self, failed: bool) -> None:
        """End the run, if one was begun, with exit code 1 if `failed`, else 0."""
        if self._experiment is not None:
            with self._shielded():
                self._experiment.finish(exit_code=int(failed))

    def _begin(self) -> Run:
        """Begin the run online if possible, else offline."""
        import wandb

        if self._upload_pictures:
            wandb.termwarn(
                "upload_pictures=true: pictures of people become part of this run and leave this "
                "machine with it. Ask the benchmark's licence whether they may."
            )
        try:
            mode = wandb.setup().settings.mode
        except ValueError as error:  # for instance WANDB_MODE=of
            raise ConfigError(f"wandb does not accept its own settings: {error}") from None
        run_id = secrets.token_hex(4)  # one for both attempts, so that they are one run
        if mode == "disabled":
            return self._init(mode, run_id)
        obstacle = "as it was told to." if mode in _OFFLINE else self._log_in()
        if not obstacle:
            try:
                return self._init("shared" if mode == "shared" else "online", run_id)
            except Exception as error:  # noqa: BLE001 - as in `_shielded`
                obstacle = str(error)
        run = self._init("offline", run_id)
        wandb.termwarn(
            f"Offline: {obstacle}\nUpload the run later with: wandb sync {run.settings.sync_dir}"
        )
        return run

    def _log_in(self) -> str:
        """Return why the run cannot be online; empty if it can."""
        import wandb

        if wandb.run is not None:
            return ""  # the user's own run is logged in; logging in again is refused
        limit_is_ours = "WANDB_HTTP_TIMEOUT" not in os.environ
        if limit_is_ours:
            os.environ["WANDB_HTTP_TIMEOUT"] = str(self._connect_timeout)
        try:
            known = wandb.login(prompt=False, verify=True)
        except wandb.Error as error:
            return f"the server did not answer in time, or refused the key. {error}"
        finally:
            if limit_is_ours:
                del os.environ["WANDB_HTTP_TIMEOUT"]
        return "" if known else "no key is known (`wandb login` stores one)."

    def _init(self, mode: Mode, run_id: str) -> Run:
        import wandb

        config: Any = OmegaConf.to_container(OmegaConf.load(self._config_file), resolve=True)
        return wandb.init(
            mode=mode,
            id=run_id,
            dir=self._save_dir,
            project=self._project,
            entity=self._entity,
            group=self._group or _group(config, Path(self._config_file).parent),
            name=self._name or _name(Path(self._config_file).parent),
            tags=self._tags,
            config=config,
            settings=wandb.Settings(
                init_timeout=self._connect_timeout,
                finish_timeout=self._upload_timeout,
                reinit="create_new",  # a run left open by others is neither taken over nor closed
                console="off",  # progress bars are no log, and errors name people's images
                quiet=True,
                silent=mode == "offline",  # `_begin` says where the run is and how to upload it
            ),
        )

    @contextmanager
    def _shielded(self, ends: bool = True) -> Iterator[None]:
        """Keep wandb's own failures from the run; after one that ends it, wandb gets no more."""
        import wandb

        try:
            yield
        except Exception as error:  # noqa: BLE001 - a dead wandb process has many private faces
            if not self._lost:
                what = "It stopped working" if ends else "It did not take a picture"
                wandb.termwarn(
                    f"{what}, and the run goes on without it: {error!r}\n"
                    f"What it has is in {self._save_dir}/wandb; metrics.csv is complete."
                )
            self._lost |= ends


def _group(config: Mapping[str, Any], folder: Path) -> str:
    """Return `<method>_<data>`, and in a sweep `/<sweep's folder>` behind it."""
    if not HydraConfig.initialized():  # composed in Python: by the files of both classes
        targets = config["method"]["_target_"], config["data"]["benchmark"]["_target_"]
        return "_".join(target.split(".")[-2] for target in targets)
    hydra = HydraConfig.get()
    choices = hydra.runtime.choices
    recipe = f"{choices['method']}_{choices['data']}"
    return f"{recipe}/{folder.parent.name}" if hydra.mode is RunMode.MULTIRUN else recipe


def _name(folder: Path) -> str:
    """Return the values typed on the command line (not the groups), or the folder's name."""
    if not HydraConfig.initialized():
        return folder.name
    hydra = HydraConfig.get()
    typed = [
        override
        for override in hydra.overrides.task
        if override.lstrip("+~").partition("=")[0] not in hydra.runtime.choices
    ]
    return " ".join(typed) or folder.name
