"""RocksDB's logs (`*.log`, and `MANIFEST-*`, which has the same format), made safe to read.

A log is a sequence of blocks of 32 KiB, each a sequence of records: checksum (4 bytes), length (2), type (1), body; a
rest of less than a header is padding. The checksum covers type and body. Some types say that the file is being used
for the second time, and are followed by the number of the log. RocksDB's reader, if it meets one of them after a
record of another type, neither takes the record nor passes over it, but looks at it again, for ever: one flipped bit
and the node never starts, without a word (hard case 25). It looks at the type before it looks at the checksum.

`disarm` overwrites such a type with that of an ordinary whole record. Then the checksum decides, as for any other
damage: if it was the type alone, the record is whole again, and if not, it is damaged.

Invariant: a log that is whole is not touched. We never let RocksDB reuse log files, so these types never occur in one;
and lengths that are right lead from one header exactly to the next.

Rejected: checking every record here (RocksDB does, and a log may have hundreds of megabytes); refusing to start (the
reader copes with all other damage); a limit on the time that opening takes (a thread in native code cannot be ended).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 32 * 1024
_HEADER_BYTES: Final = 7
_TYPE_AT: Final = 6
_REUSED_TYPES: Final = frozenset({5, 6, 7, 8, 11, 131})
"""Whole, first, middle and last record, sizes of timestamps, and the log before, of a file that is used again."""
_WHOLE_TYPE: Final = b"\x01"


def disarm(log: Path) -> list[int]:
    """Overwrite the types in `log` that RocksDB's reader does not get over.

    Returns the offsets of the records concerned, empty if there is none; raises `OSError`.
    """
    found = []
    with log.open("rb") as file:
        start = 0
        while block := file.read(_BLOCK_BYTES):
            found += [start + at for at in _headers(block) if block[at + _TYPE_AT] in _REUSED_TYPES]
            start += len(block)
    if found:
        with log.open("r+b") as file:
            for at in found:
                file.seek(at + _TYPE_AT)
                file.write(_WHOLE_TYPE)
    return found


def whole_bytes(log: Path) -> int:
    """How far the records of `log` are complete; what follows is taken for an unfinished last one.

    So it is if the file was cut off, and if the length of a record near its end was changed to a larger one. Raises
    `OSError`.
    """
    start = whole = 0
    with log.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            for at in _headers(block):
                end = at + _HEADER_BYTES + _length(block, at)
                if end > len(block):
                    return start + at
                whole = start + end
            start += len(block)
    return whole


def _headers(block: bytes) -> Iterator[int]:
    """Where the records of one block begin, as far as their lengths can be believed."""
    at = 0
    while at + _HEADER_BYTES <= len(block):
        yield at
        at += _HEADER_BYTES + _length(block, at)


def _length(block: bytes, at: int) -> int:
    return int.from_bytes(block[at + 4 : at + _TYPE_AT], "little")
