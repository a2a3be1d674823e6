"""What the property tests of configs share: which settings there are, what they are changed to."""

import functools
import shutil
import tempfile

import lightning
from hypothesis import strategies as st
from lightning import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ccreid.config import compose
from ccreid.errors import CCReIDError, ConfigError
from ccreid.settings.kinds import require_sound
from tests.conftest import TINY

NUMBERS = (0, 1, 7, -1, 0.5, -0.5, 10**9, 10**30, 1e300, float("nan"), float("inf"))
OTHERS = (None, True, False, "", "abc", "none", [], ["x"], [1, 2], [0.5, -1.0], [None], {})
_ENUMERATED = (  # each belongs to one setting and is wrong in all others
    "auto fp32 bf16 fp16 cpu cosine euclidean soft pk cross_clothes identities memory bicubic "
    "joint replace alternate upper random_subset garment_plus mean swap blur vertical_prior drop "
    "mse ps_sigmoid bce dice residual concat_branch deskpro cbam7 layer4 contour batch_hard all "
    "same_outfit separate skip max average clipMLP identity ramp pose test_vit test_resnet "
    "torch.optim.SGD ccreid.models.Backbone os.system leave_out package mirror atr18 minilm worst "
    "best first pca ranked clusters cc disk biometrics captions tfidf none ${seed} ${nothing}"
)
WORDS = _ENUMERATED.split()
VALUES = st.one_of(
    st.sampled_from(NUMBERS),
    st.sampled_from(OTHERS),
    st.sampled_from(WORDS),
    st.integers(),
    st.floats(),
    st.text("a0-.:/", max_size=3),
    st.lists(st.sampled_from(NUMBERS), max_size=3),
)
# Where a run is written and what may be built have tests of their own.
LEFT_ALONE = ("hydra", "output_dir", "allow_targets", "resume", "manifest", "folder")


class Reached(Exception):
    """A verb has come to where its settings are all taken."""


def reach(*_arguments, **_settings):
    raise Reached


class _AfterOneBatch(Callback):
    on_train_batch_end = reach


def stop_training(monkeypatch, batches):
    """Let a training end with `Reached` before its first batch, or after it."""
    fit = lightning.Trainer.fit

    def stopped(trainer, *arguments, **settings):
        if trainer.world_size == 1:  # more would start processes
            if batches:
                trainer.callbacks.append(_AfterOneBatch())
            else:
                trainer.limit_train_batches = 0
            fit(trainer, *arguments, **settings)
        raise Reached

    monkeypatch.setattr(lightning.Trainer, "fit", stopped)


@functools.cache
def training(method):
    """Compose a tiny run whose every phase begins in its first epoch."""
    begin = {"fire2": ["method.mining.start_epoch=0"], "cal": ["method.start_epoch=0"]}
    settings = [f"method={method}", "debug=fast", "data.check_files=false", "output_dir=out"]
    return compose("train", [*TINY, *settings, *begin.get(method, [])])


def keys_of(cfg, prefix=""):
    """Return every setting and every group of settings of a config by its full name."""
    keys = []
    for name in cfg:
        key, node = f"{prefix}{name}", cfg._get_node(name)
        if key in LEFT_ALONE:
            continue
        keys.append(key)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            keys += keys_of(node, f"{key}.")
    return keys


def outcome(verb, base, key, value):
    """Change one setting as the command line would, and run a verb as its shell does.

    Returns:
        `ran`, or the one error that the library raised. Anything else is raised here, too.
    """
    folder = tempfile.mkdtemp()
    cfg = base.copy()
    if "output_dir" in cfg:
        cfg.output_dir = folder
    try:
        try:
            OmegaConf.update(cfg, key, value)
        except OmegaConfBaseException as error:  # told by `compose`, see below
            raise ConfigError(str(error)) from None
        require_sound(cfg)
        verb(cfg)
    except Reached:
        return "ran"
    except CCReIDError as error:
        return error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return "ran"
