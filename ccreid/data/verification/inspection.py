"""Reads every image of a benchmark once: is it whole, and what is its hash?"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from multiprocessing import get_context, parent_process
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from ccreid.data.files import SEPARATOR, read_bytes
from ccreid.data.verification.manifest import Inspected, Manifest, below
from ccreid.errors import DataError

CHUNK = 32  # images a process reads before it tells; a killed check reads at most so many again
WORTH_A_PROCESS = 500  # images: starting a process takes as long as reading about so many


def inspect_images(
    paths: Iterable[str],
    manifest: Manifest,
    workers: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[Inspected]:
    """Decode every image that the manifest does not know as it is now.

    Args:
        paths: as in `Sample.image_paths`; what is there twice is read once.
        manifest: what is known from earlier, and where to write what is found.
        workers: processes that read; 0 reads in this one.
        advance: is told how many of how many images are done.

    Returns:
        What was found, sorted by path. Equal images give equal lists, however often the check was
        stopped on the way.

    Raises:
        DataError: the manifest cannot be written, or a reading process died.
    """
    every = sorted(set(paths))
    known = manifest.begin()
    found = {path: known.get(below(manifest.root, path)) for path in every}
    unread = [path for path, own in found.items() if not _is_current(own, path)]
    done = len(every) - len(unread)
    advance(done, len(every))
    with closing(_read(unread, str(manifest.root), workers)) as chunks:
        for chunk in chunks:
            manifest.append(chunk.values())
            found.update(chunk)
            done += len(chunk)
            advance(done, len(every))
    return [own for own in found.values() if own is not None]


def inspect_image(path: str, root: Path | str) -> Inspected:
    """Hash a file's bytes and decode them, as training will."""
    size, mtime_ns = _stamp(path)
    name, sha256 = below(root, path), ""
    try:
        content = read_bytes(path)
        sha256 = hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.convert("RGB").size
    except UnidentifiedImageError:
        return Inspected(name, sha256, size, mtime_ns, 0, 0, "no image")
    except (DataError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        return Inspected(name, sha256, size, mtime_ns, 0, 0, f"cut short or damaged ({error})")
    return Inspected(name, sha256, size, mtime_ns, width, height)


def _read(
    paths: Sequence[str], root: str, workers: int
) -> Generator[dict[str, Inspected], None, None]:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    workers = min(workers, len(paths) // WORTH_A_PROCESS)
    if not workers:
        for chunk in chunks:
            yield _inspect_chunk(chunk, root)
        return
    # Spawned, not forked: the progress bar's thread may hold a lock at the moment of a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), _depend_on_parent) as pool:
        try:
            yield from pool.map(_inspect_chunk, chunks, [root] * len(chunks))
        except BrokenProcessPool:
            raise DataError(
                "A process that read images was killed. The same command goes on where this one "
                "ended; workers=0 reads without further processes."
            ) from None


def _depend_on_parent() -> None:
    """In a reading process: leave Ctrl-C to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _inspect_chunk(paths: Sequence[str], root: str) -> dict[str, Inspected]:
    return {path: inspect_image(path, root) for path in paths}


def _stamp(path: str) -> tuple[int, int]:
    for file in (path, path.partition(SEPARATOR)[0]):
        try:
            status = os.stat(file)
        except OSError:
            continue
        return status.st_size, status.st_mtime_ns
    return 0, 0


def _is_current(found: Inspected | None, path: str) -> bool:
    return found is not None and (found.size, found.mtime_ns) == _stamp(path)
