"""The request parser: bytes from a client in, commands out; no IO, no clock.

A command is an array of bulk strings (`*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\nk\\r\\n`) or, for people at a terminal, a line
of words. Nothing a client *declares* makes this parser take memory: it checks each declared size against its bounds
and then holds only bytes that have arrived (hard case 35).

Invariants:
- The commands that come out do not depend on how the bytes were cut into pieces.
- Cost is linear in the bytes received: arguments already read are kept, never read again, and while a large argument
  is on its way its pieces are only appended until all of it is there.
- After a `ProtocolError` the stream has no meaning any more; the connection must be closed.

Rejected: a reply reader such as hiredis's. It is made for what a trusted server sends: it allocates an array of the
declared length before any element arrives.
"""

from __future__ import annotations

from typing import Final

from quorate.core.errors import CallerError
from quorate.core.limits import COMMAND_ARGUMENTS_MAX, COMMAND_BYTES_MAX, INLINE_COMMAND_BYTES_MAX

_HEADER_BYTES_MAX: Final = 16
"""A `*` or `$`, as many digits as any size we accept could have, and the line end; with room to spare."""
_BULK_BYTES_MIN: Final = len(b"$0\r\n\r\n")
_ARRAY: Final = ord("*")
_BULK: Final = ord("$")
_CR: Final = ord("\r")
_LF: Final = ord("\n")
_ZERO: Final = ord("0")
_ONE: Final = ord("1")
_NINE: Final = ord("9")
_HEADER_NOT_READ: Final = -1
_SHORT_HEADER_BYTES: Final = len(b"*1\r\n")


class ProtocolError(CallerError):
    """The bytes are no RESP request, or one beyond the bounds."""


class RequestParser:
    """Incremental parser of one connection's requests.

    `bytes_max` and `arguments_max` bound one command; they may be changed between commands (authentication raises
    them).
    """

    __slots__ = (
        "_arguments",
        "_at",
        "_bulk_bytes",
        "_command_bytes",
        "_data",
        "_missing",
        "_needed_bytes",
        "_partial",
        "arguments_max",
        "bytes_max",
    )

    def __init__(self, bytes_max: int = COMMAND_BYTES_MAX, arguments_max: int = COMMAND_ARGUMENTS_MAX) -> None:
        self.bytes_max = bytes_max
        self.arguments_max = arguments_max
        self._data = b""
        self._at = 0
        """`_data[_at:]` waits to be parsed."""
        self._partial = bytearray()
        """Bytes that are not enough to go on with; `_data` has nothing left then."""
        self._needed_bytes = 0
        """How long `_partial` must be before it is worth looking at."""
        self._arguments: list[bytes] = []
        self._missing = 0
        """Arguments of the current command that are still to come; 0 between commands."""
        self._bulk_bytes = _HEADER_NOT_READ
        self._command_bytes = 0

    @property
    def in_command(self) -> bool:
        """Has a command begun to arrive that is not there as a whole?"""
        return self._missing > 0 or len(self._partial) > 0

    def feed(self, data: bytes) -> None:
        """Take bytes from the client; `next` then gives the commands in them."""
        if self._partial:
            self._partial += data
            if len(self._partial) >= self._needed_bytes:
                self._data = bytes(self._partial)
                self._at = 0
                self._partial = bytearray()
        elif self._at < len(self._data):
            self._data = self._data[self._at :] + data
            self._at = 0
        else:
            self._data = data
            self._at = 0

    def next(self) -> list[bytes] | None:
        """The next whole command, never empty, its name first; None if more bytes are needed.

        Raises `ProtocolError`.
        """
        data = self._data
        while (at := self._at) < len(data):
            if self._missing:
                return self._next_arguments()
            if data[at] != _ARRAY:
                line = self._next_inline()
                if line or line is None:
                    return line
                continue
            if (
                at + _SHORT_HEADER_BYTES <= len(data)
                and _ONE <= data[at + 1] <= _NINE
                and data[at + 2] == _CR
                and data[at + 3] == _LF
            ):
                self._missing = data[at + 1] - _ZERO
                self._at = at + _SHORT_HEADER_BYTES
                return self._next_arguments()
            stop = data.find(b"\r\n", at, at + _HEADER_BYTES_MAX)
            if stop < 0:
                self._wait_for_header("multibulk")
                return None
            count = self._count(data[at + 1 : stop])
            self._at = stop + 2
            if count:
                self._missing = count
                return self._next_arguments()
        return None

    def _next_arguments(self) -> list[bytes] | None:
        """Read the arguments of a command that has begun."""
        data, at = self._data, self._at
        available = len(data)
        arguments = self._arguments
        size, total = self._bulk_bytes, self._command_bytes
        bytes_max = self.bytes_max
        for missing in range(self._missing, 0, -1):
            if size < 0:
                # Digit by digit: compiled, that is several times faster than to search, slice and look up.
                stop = at + 1
                last = min(available, at + _HEADER_BYTES_MAX)
                size = 0
                while stop < last and _ZERO <= data[stop] <= _NINE:
                    size = size * 10 + data[stop] - _ZERO
                    stop += 1
                if stop + 1 >= available or data[stop] != _CR or data[stop + 1] != _LF or data[at] != _BULK:
                    stop = data.find(b"\r\n", at, at + _HEADER_BYTES_MAX)
                    if stop < 0:
                        self._keep(at, missing, _HEADER_NOT_READ, total)
                        self._wait_for_header("bulk")
                        return None
                    size = self._size(data[at:stop])
                elif stop == at + 1:
                    size = self._size(data[at:stop])
                at = stop + 2
                total += size
                if total > bytes_max:
                    raise ProtocolError(
                        f"Protocol error: invalid bulk length: a command has at most {bytes_max} bytes here"
                    )
            end = at + size
            if end + 2 > available:
                self._keep(at, missing, size, total)
                self._wait(size + 2)
                return None
            if data[end] != _CR or data[end + 1] != _LF:
                raise ProtocolError("Protocol error: an argument is longer than it says")
            arguments.append(data[at:end])
            at = end + 2
            size = _HEADER_NOT_READ
        self._at = at
        self._missing = 0
        self._bulk_bytes = _HEADER_NOT_READ
        self._command_bytes = 0
        self._arguments = []
        return arguments

    def _keep(self, at: int, missing: int, bulk_bytes: int, command_bytes: int) -> None:
        """Remember how far the current command has been read."""
        self._at = at
        self._missing = missing
        self._bulk_bytes = bulk_bytes
        self._command_bytes = command_bytes

    def _count(self, digits: bytes) -> int:
        """How many arguments `digits` announce; 0 for none and less, which is no command, as in Redis."""
        if not digits.isdigit():
            if digits[:1] == b"-" and digits[1:].isdigit():
                return 0
            raise ProtocolError("Protocol error: invalid multibulk length")
        count = int(digits)
        if count > self.arguments_max or count * _BULK_BYTES_MIN > self.bytes_max:
            raise ProtocolError(f"Protocol error: invalid multibulk length: {count} arguments are too many")
        return count

    def _size(self, header: bytes) -> int:
        """The size that the header of a bulk string declares."""
        digits = header[1:]
        if not header or header[0] != _BULK:
            raise ProtocolError(f"Protocol error: expected '$', got {header[:1].decode('latin-1')!a}")
        if not digits.isdigit():
            raise ProtocolError("Protocol error: invalid bulk length")
        return int(digits)

    def _next_inline(self) -> list[bytes] | None:
        """A command typed as a line of words; an empty list for an empty line."""
        data, at = self._data, self._at
        stop = data.find(b"\n", at, at + INLINE_COMMAND_BYTES_MAX)
        if stop < 0:
            if len(data) - at >= INLINE_COMMAND_BYTES_MAX:
                raise ProtocolError("Protocol error: too big inline request")
            self._wait(len(data) - at + 1)
            return None
        self._at = stop + 1
        return data[at:stop].split()

    def _wait_for_header(self, what: str) -> None:
        waiting = len(self._data) - self._at
        if waiting >= _HEADER_BYTES_MAX:
            raise ProtocolError(f"Protocol error: invalid {what} length")
        self._wait(waiting + 1)

    def _wait(self, needed_bytes: int) -> None:
        """Keep what is left until it has grown to `needed_bytes`."""
        assert needed_bytes > len(self._data) - self._at, "there is enough to go on with"
        self._partial = bytearray(memoryview(self._data)[self._at :])
        self._needed_bytes = needed_bytes
        self._data = b""
        self._at = 0
