"""The reach: a small file that tells a start how far the store had come, by a witness other than its own files.

RocksDB takes a log that was cut off for one that ends there, with an unfinished last write. It does the same with a
manifest that was cut off, and then deletes the tables that this does not mention. A store that has lost acknowledged
writes would vouch for its memory, and use event numbers again (hard cases 1 and 25). So each write is followed by its
sequence number, and by the length of the manifest, in this file. A start whose store ends below that knows that
something is missing.

Invariants:
- the number follows the write, so a process that is killed between the two has claimed nothing that is not there;
- it is written in place, in one call, and not synced: it speaks for a process that died while its machine lived on, and
  the operating system still has what was written. After the machine went down everything is suspected anyway, and after
  a clean stop the marker knows (`marker`);
- a damaged or missing file is no witness, and then the worst is assumed.

It costs a good microsecond a batch. What it does not see is a manifest that lost what was noted down in it after the
very last write.

Rejected: the marker in its place (it is renamed and synced, hundreds of times that); a memory map (a write to one on a
full disk ends the process); the number of the last sync only (with durability `os`, writes are acknowledged before);
suspecting the store when there is a table that the manifest does not know (whoever is killed while tables are being
merged leaves some of them, and has lost nothing).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final, NamedTuple

from xxhash import xxh3_64_intdigest

REACH_NAME: Final = "engine.reach"
_BODY: Final = struct.Struct("<QQQ")
_CHECK: Final = struct.Struct("<Q")
_FILE_BYTES: Final = _BODY.size + _CHECK.size


class Reached(NamedTuple):
    """How far a store has come."""

    sequence: int
    """RocksDB's sequence number after the last write."""
    manifest: int
    """The number in the name of its manifest."""
    manifest_bytes: int


class Reach:
    """The file of the store in `directory`, from `begin` until `close`."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / REACH_NAME
        self._descriptor = self._manifest_descriptor = -1
        self._manifest = 0

    def begin(self, sequence: int, manifest: Path) -> None:
        """Make it say where the store is now, whatever it said before. Raises `OSError`."""
        self._manifest = manifest_number(manifest.name)
        self._manifest_descriptor = os.open(manifest, os.O_RDONLY | os.O_CLOEXEC)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.advance(sequence)
        os.ftruncate(self._descriptor, _FILE_BYTES)

    def advance(self, sequence: int) -> None:
        """Everything up to `sequence` is with the operating system. Raises `OSError`."""
        manifest_bytes = os.lseek(self._manifest_descriptor, 0, os.SEEK_END)
        body = _BODY.pack(sequence, self._manifest, manifest_bytes)
        os.pwrite(self._descriptor, body + _CHECK.pack(xxh3_64_intdigest(body)), 0)

    def close(self) -> None:
        """Idempotent."""
        for descriptor in (self._descriptor, self._manifest_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._manifest_descriptor = -1


def read_reach(directory: Path) -> Reached | None:
    """How far the store in `directory` had come; None if nobody can tell. Raises `OSError` if unreadable."""
    try:
        with (directory / REACH_NAME).open("rb") as file:
            content = file.read(_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    body = content[: _BODY.size]
    if content[_BODY.size :] != _CHECK.pack(xxh3_64_intdigest(body)):
        return None
    return Reached(*_BODY.unpack(body))


def manifest_number(name: str) -> int:
    """The number in the name of a manifest; 0 if it has none."""
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() and len(digits) < 20 else 0
