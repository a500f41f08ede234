"""The reach: a small file that tells a start how far the store had come, by a witness other than its log.

A log that was cut off looks like one that ends there: RocksDB takes both for an unfinished last write, and a store that
has lost acknowledged writes would vouch for its memory, and use event numbers again (hard cases 1 and 25). So each
write is followed by its sequence number in this file. A start whose store ends below it knows that writes are missing.

Invariants:
- the number follows the write, so a process that is killed between the two has claimed nothing that is not there;
- it is written in place, in one call, and not synced: it speaks for a process that died while its machine lived on, and
  the operating system still has what was written. After the machine went down everything is suspected anyway, and after
  a clean stop the marker knows (`marker`);
- a damaged or missing file is no witness, and then the worst is assumed.

It costs about a microsecond a batch. Rejected: the marker in its place (it is renamed and synced, hundreds of times
that); a memory map (a write to one on a full disk ends the process); the number of the last sync only (with durability
`os`, writes are acknowledged before).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_intdigest

REACH_NAME: Final = "engine.reach"
_LAYOUT: Final = struct.Struct("<QQ")
"""sequence number, check"""


class Reach:
    """The file of the store in `directory`, from `begin` until `close`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / REACH_NAME
        self._descriptor = -1

    def begin(self, sequence: int) -> None:
        """Make it say where the store is now, whatever it said before. Raises `OSError`."""
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.advance(sequence)
        os.ftruncate(self._descriptor, _LAYOUT.size)

    def advance(self, sequence: int) -> None:
        """Everything up to `sequence` is with the operating system. Raises `OSError`."""
        os.pwrite(self._descriptor, _LAYOUT.pack(sequence, _check(sequence)), 0)

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_reach(directory: Path) -> int | None:
    """How far the store in `directory` had come; None if nobody can tell. Raises `OSError` if unreadable."""
    try:
        with (directory / REACH_NAME).open("rb") as file:
            content = file.read(_LAYOUT.size + 1)
    except FileNotFoundError:
        return None
    if len(content) != _LAYOUT.size:
        return None
    sequence, check = _LAYOUT.unpack(content)
    return int(sequence) if check == _check(sequence) else None


def _check(sequence: int) -> int:
    return xxh3_64_intdigest(sequence.to_bytes(8, "little"))
