"""Hints: writes kept for a home replica that could not be reached (SOSP 2007, §4.6).

A hint is stored under home ‖ storage key, so that all hints of one home are one range, and a key has at most one hint
for each home: later writes are merged into it by `sync`, which keeps a long absence bounded by the data and not by the
traffic. Its body is a whole record.

Invariants: a hint is removed only after the home acknowledged durably what the hint said when it was sent, and only if
it still says that; its age counts from its first write, so that it cannot be kept alive beyond the horizon by later
ones (hard case 15).
Rejected: a hint without a body that stands for the holder's own record of the key. It saves space where a replica
keeps hints, and has to be told apart from a real one in every merge.
"""

from __future__ import annotations

import msgspec
import xxhash

from quorate.core.errors import DamagedRecord

_CHECK_BYTES = 8


class Hint(msgspec.Struct, array_like=True, frozen=True, gc=False):
    created_ms: int
    """Unix milliseconds."""
    flags: int
    """As in `messages.Write`."""
    actor: int
    """The actor under which this node coordinated it, 0 if another did: as the marker of a record."""
    body: bytes
    """A whole record."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Hint)


def hint_key(home: int, key: bytes) -> bytes:
    """home (2 bytes, big-endian) ‖ storage key."""
    return home.to_bytes(2, "big") + key


def split_hint_key(stored_key: bytes) -> tuple[int, bytes]:
    """(home, storage key)"""
    return int.from_bytes(stored_key[:2], "big"), stored_key[2:]


def pack_hint(stored_key: bytes, hint: Hint) -> bytes:
    body = _encoder.encode(hint)
    return xxhash.xxh3_64_digest(body, xxhash.xxh3_64_intdigest(stored_key)) + body


def unpack_hint(stored_key: bytes, stored: bytes) -> Hint:
    """Raises `DamagedRecord` unless every bit is as written."""
    body = stored[_CHECK_BYTES:]
    if xxhash.xxh3_64_digest(body, xxhash.xxh3_64_intdigest(stored_key)) != stored[:_CHECK_BYTES]:
        raise DamagedRecord(f"the hint under {stored_key!r} does not match its checksum; it counts as lost")
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise DamagedRecord(f"the hint under {stored_key!r} cannot be read: {error}") from error
