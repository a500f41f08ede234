"""Frames: where one begins and ends in a stream of bytes.

A frame is a 4-byte big-endian length of what follows it, 8 bytes of the sender's monotonic time (a big-endian
IEEE double, milliseconds), and a body. Handshake frames have the same shape as those that carry messages, so the
receiver's estimate of the sender's clock (`age.py`) begins with the very first one.

Invariants:
- A length is judged as soon as its four bytes are there, before anything it announces is waited for or stored, so a
  stranger can make the reader hold `limit_bytes` and one chunk, never what the stranger declares (hard case 35).
- Every byte is copied at most twice, however the stream is cut: a chunk that holds whole frames is sliced in place,
  and a frame that spans chunks grows in one bytearray, whose growth is amortised.
- A bytearray from which a body was sliced is never resized: bodies are views into it, and a logged traceback may
  keep one alive.

Rejected: a list of chunks joined at the end (a peer that trickles single bytes would be stored fortyfold), joining on
every arrival (quadratic for a value of megabytes), a length as varint (saves two bytes, costs a loop), and an integer
of whole milliseconds for the time (loopback round trips are a twentieth of one).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from quorate.core.errors import PeerError
from quorate.core.limits import FRAME_BYTES_MAX

_HEADER: Final = struct.Struct(">Id")
_LENGTH_BYTES: Final = 4
_TIME_BYTES: Final = _HEADER.size - _LENGTH_BYTES
HEADER_BYTES: Final = _HEADER.size
BODY_BYTES_MAX: Final = FRAME_BYTES_MAX - _TIME_BYTES
"""The largest body that a frame holds: the limits are on what the length field says."""
SENT_MS_MAX: Final = 1e15
"""No monotonic clock shows more (30 thousand years); also refuses infinities and NaN."""

_VIEW_BYTES_MIN: Final = 8 * 1024
"""A smaller body is copied out of its chunk, which is faster than making a view of it."""

Body = bytes | bytearray | memoryview

_unpack_header: Final = _HEADER.unpack_from


def frame_header(body_bytes: int, sent_ms: float) -> bytes:
    """The 12 bytes that go before a body of `body_bytes` bytes, sent at `sent_ms` of the sender's monotonic clock."""
    return _HEADER.pack(_TIME_BYTES + body_bytes, sent_ms)


class FrameReader:
    """Cuts a stream into frames.

    `limit_bytes` bounds the length field and may be changed at any time, also between two frames of one chunk: it is
    small until the peer is known.
    """

    __slots__ = ("_held", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        """Bytes of a frame that is not complete yet."""
        return len(self._held)

    def frames(self, chunk: bytes) -> Iterator[tuple[float, Body]]:
        """(sent_ms, body) of every frame that `chunk` completes; take them all before the next chunk.

        Raises `PeerError` if what arrived cannot be a frame; the reader must not be used afterwards.
        """
        data: bytes | bytearray = chunk
        if self._held:
            data = self._held
            data += chunk
        at, size = 0, len(data)
        while size - at >= HEADER_BYTES:
            length, sent_ms = _unpack_header(data, at)
            if not _TIME_BYTES < length <= self.limit_bytes:
                raise self._bad_length(length)
            if not 0.0 <= sent_ms <= SENT_MS_MAX:
                raise PeerError(f"a frame was sent at {sent_ms!r} ms, which no clock shows")
            end = at + _LENGTH_BYTES + length
            if end > size:
                break
            body = at + HEADER_BYTES
            yield sent_ms, data[body:end] if length < _VIEW_BYTES_MIN else memoryview(data)[body:end]
            at = end
        if at < size or self._held:
            self._hold(data, at)

    def _hold(self, data: bytes | bytearray, at: int) -> None:
        """Keep what follows `at`, the beginning of a frame; judge its length if that much of it is known."""
        if data is not self._held:
            self._held = bytearray(memoryview(data)[at:])
        elif at:
            self._held = data[at:]
        if len(self._held) >= _LENGTH_BYTES:
            length = int.from_bytes(self._held[:_LENGTH_BYTES], "big")
            if not _TIME_BYTES < length <= self.limit_bytes:
                raise self._bad_length(length)

    def _bad_length(self, length: int) -> PeerError:
        return PeerError(
            f"a frame declares {length} bytes, allowed are {_TIME_BYTES + 1} to {self.limit_bytes}: "
            "is something else than a Quorate node speaking to the peer port?"
        )
