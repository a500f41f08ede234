"""What a real node hands to its disk, written down beside it, so that it can be judged as a simulated one is.

The checkers need the dots of every write, which the simulator reads off its disks (`sim/observer.py`). Here a wrapper
stands between the production node and its production engine. Before each batch goes to the engine it is appended to a
side file, and after the engine has returned a mark is appended. Each append is one `write` to a file that the operating
system holds, so a killed process loses none of it but perhaps a part of its last one.

Invariants:
- a side file holds every change of DATA and HINTS that the engine may hold, in the order in which they were made;
- between two lives of a node it is settled whether the one batch that may have been under way was stored: an engine is
  asked for it before it takes anything new, and the verdict opens the next life's file. A batch that had its mark and
  is not there is lost, which is for the judge to say (hard case 25);
- times are CLOCK_MONOTONIC, which all processes of a machine share, and are taken before the batch is stored. So
  whatever a node received from another has a later time there than here.

META is left out: no check asks for it. Rejected: reading the nodes' stores from time to time (what is overwritten
between two looks would never be seen), and RocksDB's own log (its format is not ours, and it is deleted as it goes).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final

import msgspec

from quorate.core.errors import StorageError
from quorate.core.limits import MIB
from quorate.core.ports import Engine, OpenReport, Space, WriteOperation

RECORDED: Final = (Space.DATA, Space.HINTS)
ENTRY_BYTES_MAX: Final = 256 * MIB
_HEADER: Final = struct.Struct(">IBQ")
"""Length of the body, kind, nanoseconds."""


class Kind(IntEnum):
    """What an entry of a side file says."""

    BATCH = 1
    """A batch goes to the engine; the body is [(space, key, value or None) …]."""
    RANGE = 2
    """A range is deleted; the body is (space, start, end)."""
    DONE = 3
    """The engine took what the entry before says."""
    REFUSED = 4
    """The engine failed at it: nobody knows whether it is stored."""
    VERDICT = 5
    """The first of a life: the body says of the latest life before it that changed anything which life that is, and
    whether its last change is stored."""


class Change(msgspec.Struct, frozen=True):
    """A batch, or the deletion of a range, on its way to an engine."""

    time_ns: int
    batch: list[WriteOperation] = []
    cleared: tuple[Space, bytes, bytes] | None = None
    """(space, start, end)"""


class Life(msgspec.Struct):
    """What one life of a node wrote. `finished`: the engine took the last change."""

    number: int
    changes: list[Change]
    finished: bool
    torn: bool
    """The file ends within an entry, as a kill may leave it."""
    verdict: tuple[int, bool] | None = None
    """(number of an earlier life, was its last change stored)"""


class RecordingEngine:
    """An `Engine` that writes down what it passes on. `name` is the node's; `folder` must not be on the node's disk."""

    def __init__(self, engine: Engine, folder: Path, name: str) -> None:
        self._engine = engine
        earlier = life_numbers(folder, name)
        number = earlier[-1] + 1 if earlier else 1
        self._file = os.open(life_path(folder, name, number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        for previous in reversed(earlier):
            life = read_life(folder, name, previous)
            if life.changes:
                self._append(Kind.VERDICT, msgspec.msgpack.encode((previous, holds(engine, life.changes[-1]))))
                break
        self.get = engine.get
        self.scan = engine.scan
        self.sync = engine.sync
        self.data_bytes = engine.data_bytes
        self.free_fraction = engine.free_fraction

    @property
    def report(self) -> OpenReport:
        return self._engine.report

    def write(self, batch: Sequence[WriteOperation]) -> None:
        recorded = [operation for operation in batch if operation[0] in RECORDED]
        if not recorded:
            self._engine.write(batch)
            return
        self._append(Kind.BATCH, msgspec.msgpack.encode(recorded))
        self._watched(lambda: self._engine.write(batch))

    def delete_range(self, space: Space, start: bytes, end: bytes) -> None:
        if space not in RECORDED:
            self._engine.delete_range(space, start, end)
            return
        self._append(Kind.RANGE, msgspec.msgpack.encode((space, start, end)))
        self._watched(lambda: self._engine.delete_range(space, start, end))

    def close(self) -> None:
        self._engine.close()

    def _watched(self, change: Callable[[], None]) -> None:
        try:
            change()
        except StorageError:
            self._append(Kind.REFUSED)
            raise
        self._append(Kind.DONE)

    def _append(self, kind: Kind, body: bytes = b"") -> None:
        entry = _HEADER.pack(len(body), kind, time.monotonic_ns()) + body
        written = os.write(self._file, entry)
        assert written == len(entry), "the trial's own disk is full; what its nodes do cannot be recorded"


def holds(engine: Engine, change: Change) -> bool:
    """Does `engine` hold what `change` was to store? Of an atomic batch everything is there, or nothing."""
    if change.cleared is not None:
        return next(iter(engine.scan(*change.cleared)), None) is None
    last = {(space, key): value for space, key, value in change.batch}
    return all(engine.get(space, key) == value for (space, key), value in last.items())


def life_path(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}-{number:06d}.side"


def life_numbers(folder: Path, name: str) -> list[int]:
    """The lives of a node that have a side file, ascending."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob(f"{name}-*.side"))


def read_life(folder: Path, name: str, number: int) -> Life:
    """The side file of one life; raises `AssertionError` if anything but its end is not as it was written."""
    life = Life(number, [], finished=True, torn=False)
    for kind, time_ns, body in _entries(life_path(folder, name, number).read_bytes(), life):
        if kind == Kind.VERDICT:
            life.verdict = msgspec.msgpack.decode(body, type=tuple[int, bool])
        elif kind == Kind.BATCH:
            life.changes.append(Change(time_ns, msgspec.msgpack.decode(body, type=list[WriteOperation])))
            life.finished = False
        elif kind == Kind.RANGE:
            cleared = msgspec.msgpack.decode(body, type=tuple[Space, bytes, bytes])
            life.changes.append(Change(time_ns, cleared=cleared))
            life.finished = False
        elif kind == Kind.DONE:
            life.finished = True
    return life


def _entries(data: bytes, life: Life) -> Iterator[tuple[Kind, int, bytes]]:
    """(kind, nanoseconds, body) of each whole entry; notes in `life` if the last one is not whole."""
    offset = 0
    while offset < len(data):
        if offset + _HEADER.size > len(data):
            life.torn = True
            return
        length, kind, time_ns = _HEADER.unpack_from(data, offset)
        assert length <= ENTRY_BYTES_MAX, f"a side file claims an entry of {length} bytes"
        start = offset + _HEADER.size
        offset = start + length
        if offset > len(data):
            life.torn = True
            return
        yield Kind(kind), time_ns, data[start:offset]
