"""Log lines and events of a node process, written so that whoever reads them can never stop the node.

A terminal that is paused, or a parent that does not read, fills the pipe; a node that then waits in `write` would hang
with all its requests. So a pipe is written without blocking, and what does not fit is dropped and counted.

Events are JSON, one a line, on stdout: {"event": "ready", …}. They are for programs: `quorate up` and tests wait for
them instead of sleeping. Log lines go to stderr: time, level, node, message.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import sys
import time
from typing import Any

STDOUT, STDERR = 1, 2


class LineWriter:
    """Writes whole lines to a file descriptor; never blocks if that is a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""
        self.dropped = 0
        if _is_pipe(descriptor):
            os.set_blocking(descriptor, False)

    def write(self, line: bytes) -> None:
        """Write `line` and a newline, or drop it whole."""
        if self._rest and not self._drain():
            self.dropped += 1
            return
        if self.dropped:
            self._rest = b"(%d lines were dropped because nobody read them)\n" % self.dropped
            self.dropped = 0
        self._rest += line + b"\n"
        self._drain()

    def _drain(self) -> bool:
        """Write what is left of the last line; True if nothing is."""
        while self._rest:
            try:
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]
            except BlockingIOError:
                return False
            except OSError:  # The reader is gone. Nothing can be said any more, and that is no reason to stop.
                self._rest = b""
        return True


class EventWriter:
    """Events on stdout."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lines = LineWriter(STDOUT)

    def emit(self, event: str, **fields: Any) -> None:
        self._lines.write(json.dumps({"event": event, "name": self._name, **fields}).encode())


class LogHandler(logging.Handler):
    """Plain log lines on stderr."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._prefix = f"{name}  " if name else ""
        self._lines = LineWriter(STDERR)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            moment = time.strftime("%H:%M:%S", time.gmtime(record.created))
            text = record.getMessage().replace("\n", " ")
            if record.exc_info:
                text += "\n" + (self.formatter or logging.Formatter()).formatException(record.exc_info)
            line = f"{moment}.{int(record.msecs):03d}Z {record.levelname.lower():7} {self._prefix}{text}"
            self._lines.write(line.encode(errors="backslashreplace"))
        except Exception:  # A log call must never be the end of a request.
            self.handleError(record)


def set_up_logging(name: str) -> None:
    """Send everything from INFO up to stderr, with the node's name unless that is empty."""
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.INFO, handlers=[LogHandler(name)], force=True)
    sys.stderr.flush()


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False
