"""What a zip archive may hold before anything in it is read."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from ccreid.errors import DataError

LARGEST_MEMBER = 2**30
"""Bytes that a member may unpack to; captions of a million images fit."""

LARGEST_RATIO = 200
"""Bytes that a packed byte may become in a member of more than `SMALL` bytes."""

SMALL = 2**20

_ELSEWHERE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\x00")


def require_safe_members(archive: ZipFile, path: Path | str, largest: int | None = None) -> None:
    """Look at the names and declared sizes of all members; nothing is unpacked.

    Unpacking ends at the declared size (`zipfile` sees to that), so the bound holds for what is
    really read. Members are read one by one, into memory and never onto the disk.

    Args:
        archive: the open archive.
        path: its file, for the message.
        largest: bytes that a member may unpack to; None means `LARGEST_MEMBER`.

    Raises:
        DataError: a member's name leads out of the archive, is there twice or is a link, or the
            member unpacks to more than `largest` bytes or `LARGEST_RATIO` times its size.
    """
    seen: set[str] = set()
    for member in archive.infolist():
        fault = _fault(member, largest or LARGEST_MEMBER) or (
            "is there twice" if member.filename in seen else ""
        )
        seen.add(member.filename)
        if fault:
            raise DataError(
                f"{path}: its member {member.orig_filename!r} {fault}. Nothing was read from it. "
                "Get the archive again from whoever publishes it."
            )


def _fault(member: ZipInfo, largest: int) -> str:
    """Return what is wrong with a member, or nothing."""
    if _ELSEWHERE.search(member.orig_filename):
        return "has a name that leads out of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "is a link"
    if member.file_size > largest:
        return f"unpacks to {member.file_size:,} bytes, and {largest:,} are allowed"
    if member.file_size > max(SMALL, LARGEST_RATIO * member.compress_size):
        return f"unpacks to more than {LARGEST_RATIO} times its size, as a zip bomb does"
    return ""
