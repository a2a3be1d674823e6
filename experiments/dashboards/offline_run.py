"""Reads and writes the file of an offline wandb run: records in LevelDB's log format.

https://github.com/google/leveldb/blob/main/doc/log_format.md, with a header of wandb's own before
it, whose bytes count in the first block, and zlib's CRC-32 over kind and data.
"""

import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

MAGIC = b":W&B\xe1\xbe\x00"
BLOCK, HEADER = 32 * 1024, 7  # crc (4), length (2), kind (1)
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path: Path) -> Iterator[bytes]:
    """Yield the records of a run's file, each a message of wandb's protocol.

    Raises:
        ValueError: it is none, or damaged; the end that a killed run has cut short is left out.
    """
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        raise ValueError(f"{path} is not the file of a wandb run.")
    at, record = len(MAGIC), b""
    while at + HEADER <= len(data):
        if (room := BLOCK - at % BLOCK) < HEADER:  # a block's tail is padding
            at += room
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        fragment = data[at + HEADER : at + HEADER + length]
        if len(fragment) < length:
            return
        if checksum(kind, fragment) != data[at : at + 4]:
            raise ValueError(f"{path} is damaged at byte {at}.")
        at += HEADER + length
        record = fragment if kind in (FULL, FIRST) else record + fragment
        if kind in (FULL, LAST):
            yield record


def write_records(path: Path, records: Iterable[bytes]) -> None:
    """Write records so that `wandb sync` reads them."""
    parts, at = [MAGIC], len(MAGIC)
    for record in records:
        begun = False
        while not begun or record:
            room = BLOCK - at % BLOCK
            if room < HEADER:
                parts.append(bytes(room))
                at += room
                room = BLOCK
            fragment, record = record[: room - HEADER], record[room - HEADER :]
            kind = {(0, 0): FULL, (0, 1): FIRST, (1, 1): MIDDLE, (1, 0): LAST}[begun, bool(record)]
            parts += [checksum(kind, fragment), len(fragment).to_bytes(2, "little"), bytes([kind])]
            parts.append(fragment)
            at += HEADER + len(fragment)
            begun = True
    path.write_bytes(b"".join(parts))


def checksum(kind: int, fragment: bytes) -> bytes:
    return zlib.crc32(fragment, zlib.crc32(bytes([kind]))).to_bytes(4, "little")
