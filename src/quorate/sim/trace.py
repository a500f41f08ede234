"""What happened, as a hash that two processes can compare and, if asked, as a transcript that a person can read.

The hash takes in every delivered frame with all its bytes, every operation of a client and every fault, each with its
virtual time. Equal hashes therefore mean equal runs, down to the order of siblings in a record. The transcript costs
time, so its lines are made by a callable that runs only when somebody reads them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import xxhash

Watch = Callable[[int, int, int, bytes, Callable[[], str]], None]
"""Called as watch(time in microseconds, actor, kind, content, what renders the line)."""

_HEADER = struct.Struct("<qii")


class Trace:
    """The running hash of a simulation and its optional transcript."""

    __slots__ = ("_hash", "_write", "events", "watch")

    def __init__(self, write: Callable[[str], None] | None = None) -> None:
        """`write` takes the transcript's lines; None: there is none."""
        self._hash = xxhash.xxh3_128()
        self._write = write
        self.events = 0
        self.watch: Watch | None = None
        """Called like `event`, for whoever wants to choose among the lines (`transcript.py`)."""

    def event(self, time_us: int, actor: int, kind: int, content: bytes, line: Callable[[], str]) -> None:
        """Something happened at `actor` (a member, or minus the number of a client). `line` renders it."""
        self.events += 1
        self._hash.update(_HEADER.pack(time_us, actor, kind))
        self._hash.update(content)
        if self._write is not None:
            self._write(f"{time_us / 1000:12.3f}  {line()}")
        if self.watch is not None:
            self.watch(time_us, actor, kind, content, line)

    def digest(self) -> str:
        """32 hexadecimal digits over everything so far."""
        return self._hash.hexdigest()


KIND_FRAME = 1
KIND_LOST = 2
KIND_CONNECTION = 3
KIND_INVOKE = 4
KIND_RESULT = 5
KIND_FAULT = 6
