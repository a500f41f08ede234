"""Log lines and events of a node process, written so that whoever reads them can never stop the node.

A terminal that is paused, or a parent that does not read, fills the pipe; a node that then waits in `write` would hang
with all its requests. So a pipe is written without blocking, and what does not fit is dropped and counted.

Events are JSON, one a line, on stdout: {"event": "ready", …}. They are for programs: `quorate up` and tests wait for
them instead of sleeping. Log lines go to stderr: time, level, node, message; with `--log-format json` as JSON objects,
one a line, with the id of the request that a line is about, if it is about one.
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
REQUEST_ID = "request_id"
"""The attribute of a log record that names the request (see `extra` in `logging`)."""


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
    """Log lines on stderr, as text or (`as_json`) as JSON objects."""

    def __init__(self, name: str, as_json: bool = False) -> None:
        super().__init__()
        self._name = name
        self._line = self._json_line if as_json else self._text_line
        self._prefix = f"{name}  " if name else ""
        self._lines = LineWriter(STDERR)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.write(self._line(record).encode(errors="backslashreplace"))
        except Exception:  # A log call must never be the end of a request.
            self.handleError(record)

    def _text_line(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage().replace("\n", " ")
        request_id = getattr(record, REQUEST_ID, "")
        if request_id:
            text += f" (request {request_id})"
        if record.exc_info:
            text += "\n" + self._trace(record)
        return f"{moment}.{int(record.msecs):03d}Z {record.levelname.lower():7} {self._prefix}{text}"

    def _json_line(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "node": self._name,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := getattr(record, REQUEST_ID, ""):
            fields["request_id"] = request_id
        if record.exc_info:
            fields["exception"] = self._trace(record)
        return json.dumps(fields)

    def _trace(self, record: logging.LogRecord) -> str:
        assert record.exc_info
        return (self.formatter or logging.Formatter()).formatException(record.exc_info)


def log_name(name: str, attached: bool, log_format: str) -> str:
    """The name for `set_up_logging`: whoever starts attached nodes tells their lines of text apart."""
    return "" if attached and log_format == "text" else name


def set_up_logging(name: str, log_format: str = "text") -> None:
    """Send everything from INFO up to stderr, with the node's name unless that is empty, as `text` or `json`."""
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.INFO, handlers=[LogHandler(name, log_format == "json")], force=True)
    sys.stderr.flush()


def _is_pipe(descriptor: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False
