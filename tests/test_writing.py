"""A file is whole or not there at all: after kills at any moment, and on a full disk."""

import errno
import multiprocessing
import os
import resource
import signal

import pytest
import torch

from ccreid import writing
from ccreid.errors import TrainingError
from ccreid.runs.checkpoint_io import WholeCheckpointIO
from ccreid.writing import remove_parts, whole_file

MOMENTS = ("before the first byte", "in the middle", "fsync", "replace")


def kill_at(moment, path):
    """Write `new` over what is there, and die at a moment of it."""

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if moment in ("fsync", "replace"):
        setattr(writing.os, moment, die)
    with whole_file(path) as file:
        if moment == "before the first byte":
            die()
        file.write(b"ne" * 100_000)
        if moment == "in the middle":
            file.flush()
            die()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("earlier", [b"old", None])
def test_a_writer_that_is_killed_leaves_what_was_there(tmp_path, moment, earlier):
    path = tmp_path / "last.ckpt"
    if earlier:
        path.write_bytes(earlier)
    writer = multiprocessing.get_context("fork").Process(target=kill_at, args=(moment, path))
    writer.start()
    writer.join(timeout=30)
    assert writer.exitcode == -signal.SIGKILL
    assert (path.read_bytes() if earlier else path.exists()) == (earlier or False)
    (part,) = set(tmp_path.iterdir()) - {path}  # what the next start removes
    remove_parts(tmp_path)
    assert not part.exists()
    with whole_file(path) as file:
        file.write(b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("last.ckpt", b"new")]


def test_a_file_and_its_place_in_the_folder_are_on_the_disk_before_the_end(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace

    def kind_of(descriptor):
        return "folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file"

    monkeypatch.setattr(writing.os, "fsync", lambda d: (done.append(kind_of(d)), sync(d)))
    monkeypatch.setattr(writing.os, "replace", lambda *p: (done.append("rename"), replace(*p)))
    with whole_file(tmp_path / "a") as file:
        file.write(b"new")
    assert done == ["file", "rename", "folder"]


def test_an_exception_leaves_what_was_there(tmp_path):
    (tmp_path / "a").write_bytes(b"old")

    def write():
        with whole_file(tmp_path / "a") as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


@pytest.fixture
def no_large_files():
    """The system itself refuses what is longer than 100 kB, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_the_disk_refuses_is_one_error_and_the_earlier_one_stays(
    tmp_path, no_large_files
):
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"a": torch.zeros(10)}, path)
    with pytest.raises(TrainingError, match=r"Cannot write .*last.ckpt: File too large") as error:
        WholeCheckpointIO().save_checkpoint({"a": torch.zeros(100_000)}, path)
    assert f"resume={path}" in str(error.value)
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
    assert torch.equal(torch.load(path)["a"], torch.zeros(10))


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_is_full_only_when_it_is_waited_for(tmp_path, monkeypatch, call):
    path = tmp_path / "last.ckpt"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*_):
        raise full

    monkeypatch.setattr(writing.os, call, refuse)
    with pytest.raises(TrainingError, match="No space left on device") as error:
        WholeCheckpointIO().save_checkpoint({"a": torch.zeros(10)}, path)
    assert "begin again" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_what_torch_itself_refuses_stays_its_own_error(tmp_path):
    with pytest.raises((RuntimeError, AttributeError, TypeError)) as error:
        WholeCheckpointIO().save_checkpoint({"a": lambda: 0}, tmp_path / "last.ckpt")
    assert not isinstance(error.value, TrainingError)
    assert not list(tmp_path.iterdir())
