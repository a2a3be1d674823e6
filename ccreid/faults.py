"""Faults of the machine, each ending in one library error: no memory, a killed loader process."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ccreid.errors import CCReIDError, ConfigError

# CUDA's allocator, the CPU's, cuBLAS's and cuDNN's: none but the first has an exception of its own.
_NO_MEMORY = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")

# torch names a loader's process by its number, in one of two sentences.
_DEAD_LOADER = re.compile(r"DataLoader worker \(pid(?:\(s\))? [\d, ]+\) [^.]*")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that the host or the device has no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)


@contextmanager
def within_memory(what: str, remedy: str) -> Iterator[None]:
    """Let a block that runs out of memory end in a ConfigError.

    Args:
        what: was being done, as "embedding batches of 128 images".
        remedy: which setting to change.

    Raises:
        ConfigError: there was not enough memory on the host or the device.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ConfigError(f"Memory ran out while {what} ({reason}).\n{remedy}") from None


@contextmanager
def loading_images(
    phase: str,
    setting: str,
    workers: int,
    failure: type[CCReIDError] = ConfigError,
    go_on: str = "",
) -> Iterator[None]:
    """Let a block that reads from a DataLoader end in one library error when its processes fail.

    It belongs around the whole phase: torch raises the death of a process from a signal handler,
    wherever the main process happens to be. A library error that comes out of a process loses the
    traceback that torch puts before it.

    Args:
        phase: what is going on, as "training".
        setting: which says how many processes there are, as `data.workers`.
        workers: its value.
        failure: the error to raise.
        go_on: a last sentence of it.

    Raises:
        CCReIDError: `failure`, when a process died, or an error raised in one.
    """
    try:
        yield
    except CCReIDError as error:
        text = str(error)
        if not text.startswith("Caught "):
            raise
        raise type(error)(re.split(r"\nccreid\.errors\.\w+: ", text)[-1].strip()) from None
    except RuntimeError as error:
        if (death := _DEAD_LOADER.search(str(error))) is None:
            raise
        raise failure(
            f"While {phase} a process that loads images died: {death[0].strip()}. Most likely the "
            "machine, or the container's shared memory (/dev/shm), had no memory left and the "
            f"system ended it. Set {setting} to less than {workers}; 0 loads images without "
            f"further processes. {go_on}".strip()
        ) from None
