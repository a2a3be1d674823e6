"""What a check of a benchmark's images found, kept in a file with one line per image.

A line is written as soon as its image was read, so that a check that was stopped goes on from
there and a later one reads only what has changed since.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ccreid.data.files import SEPARATOR
from ccreid.errors import DataError
from ccreid.writing import write_whole

_TITLE = "ccreid manifest 1"
_LINE = re.compile(
    r"(?P<content>(?P<sha256>[0-9a-f]{64}|-)\t(?P<size>\d+)\t(?P<mtime_ns>\d+)\t(?P<width>\d+)\t"
    r"(?P<height>\d+)\t(?P<status>[^\t]+)\t(?P<path>[^\t]+))\t(?P<check>[0-9a-f]{8})\n"
)


@dataclass(frozen=True)
class Inspected:
    """What reading one image found.

    Attributes:
        path: below the benchmark's root; whole where it lies elsewhere.
        sha256: of the file's bytes, hexadecimal; empty if they could not be read.
        size, mtime_ns: bytes and time of change of the file, or of the archive it is a member of;
            0 if there is none.
        width, height: in pixels; 0 if it is no whole image.
        error: why it cannot be decoded; empty for a whole image.
    """

    path: str
    sha256: str
    size: int
    mtime_ns: int
    width: int
    height: int
    error: str = ""


@dataclass(frozen=True)
class Manifest:
    """A file of `Inspected` lines, for one benchmark at one place.

    Attributes:
        file: where it is.
        name: the benchmark.
        root: the folder or archive that the lines' paths are below.
    """

    file: Path
    name: str
    root: Path

    @property
    def title(self) -> str:
        """The first line: what the lines are about."""
        return "\t".join((_TITLE, self.name, _escape(str(self.root.resolve())))) + "\n"

    def begin(self) -> dict[str, Inspected]:
        """Return the whole images it knows by path, and leave a file that can be appended to.

        A file of another benchmark or place is not believed, nor a line that was altered or cut
        short, nor one that tells of an error, which may have passed.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            lines = self.file.read_text("ascii", errors="replace").splitlines(keepends=True)
        except FileNotFoundError:
            lines = []
        except OSError as error:
            raise DataError(_unusable(self.file, error)) from None
        own = lines[1:] if lines[:1] == [self.title] else []
        believed = {line: found for line in own if (found := _parse(line)) and not found.error}
        if [self.title, *believed] != lines:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(_unusable(self.file, error)) from None
            with write_whole(self.file, lambda *why: DataError(_unusable(*why))) as file:
                file.write("".join([self.title, *believed]).encode("ascii"))
        return {found.path: found for found in believed.values()}

    def append(self, found: Iterable[Inspected]) -> None:
        """Write lines; they are safe from the death of this process when it returns.

        Raises:
            DataError: the file cannot be written.
        """
        try:
            with open(self.file, "a", encoding="ascii") as file:
                file.writelines(map(_format, found))
        except OSError as error:
            raise DataError(_unusable(self.file, error)) from None


def below(root: Path | str, path: str) -> str:
    """Return a path as it is below the root; unchanged where it lies elsewhere."""
    rest = path.removeprefix(str(root))
    return rest[1:] if rest != path and rest[:1] in (os.sep, SEPARATOR) else path


def _format(found: Inspected) -> str:
    numbers = (found.size, found.mtime_ns, found.width, found.height)
    texts = _escape(found.error or "ok"), _escape(found.path)
    content = "\t".join((found.sha256 or "-", *map(str, numbers), *texts))
    return f"{content}\t{_checksum(content)}\n"


def _parse(line: str) -> Inspected | None:
    match = _LINE.fullmatch(line)
    if match is None or match["check"] != _checksum(match["content"]):
        return None
    size, mtime_ns, width, height = map(int, match.group("size", "mtime_ns", "width", "height"))
    status = _unescape(match["status"])
    return Inspected(
        _unescape(match["path"]),
        match["sha256"].replace("-", ""),
        size,
        mtime_ns,
        width,
        height,
        "" if status == "ok" else status,
    )


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"


def _escape(text: str) -> str:
    """Keep tabs, line ends and names of any encoding inside one ASCII field."""
    return text.encode("unicode_escape").decode("ascii")


def _unescape(text: str) -> str:
    return text.encode("ascii").decode("unicode_escape")


def _unusable(file: Path, error: OSError) -> str:
    return f"The manifest {file.absolute()} cannot be used: {error}. Say where: manifest=<folder>"
