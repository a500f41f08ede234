"""A wall clock that can be set wrong while its node runs (hard cases 29 and 30).

The offset stands in a small file, which the node reads when it starts and again at each SIGUSR1; then it says on stdout
what it has read, so that whoever changed the clock waits for that and not for a while. The monotonic clock is the
machine's and is never touched, as on a real machine whose time is set.

Rejected: libfaketime (it moves the monotonic clock too, unless told otherwise for each call, and is one more thing to
install), and time namespaces (they offset monotonic clocks only, and only before a process starts).
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from quorate.adapters.runtime.system import SystemClock

OFFSET_BYTES_MAX = 32


class OffsetClock:
    """The `Clock` port: the machine's clocks, the wall clock off by what `path` says, in milliseconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._system = SystemClock()
        self.offset_ms = 0
        self.monotonic_ms = self._system.monotonic_ms
        self.read()

    def wall_ms(self) -> int:
        return self._system.wall_ms() + self.offset_ms

    def read(self) -> None:
        """Go by what the file says now; no file: by the machine's clock."""
        if self._path.exists():
            with self._path.open("rb") as file:
                self.offset_ms = int(file.read(OFFSET_BYTES_MAX))

    def listen(self) -> None:
        """Read the file again at each SIGUSR1, and say so as an event `clock` on stdout."""

        def jump(_number: int, _frame: object) -> None:
            self.read()
            os.write(1, json.dumps({"event": "clock", "offset_ms": self.offset_ms}).encode() + b"\n")

        signal.signal(signal.SIGUSR1, jump)


def set_offset(path: Path, offset_ms: int) -> None:
    """Write the file in one step, so that no reader finds half of it."""
    draft = path.with_suffix(".draft")
    draft.write_text(str(offset_ms))
    draft.rename(path)
