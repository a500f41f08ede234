"""The envelope: how one record lies on a node's disk.

format (1 byte) ‖ check (8) ‖ marker (8) ‖ body. The body is the record's canonical encoding, the same bytes on every
replica; the marker is the actor under which this store itself last coordinated the key, 0 if it never did
(`causality/actor.py`), and so differs between replicas.

Invariants:
- The *digest* depends on key and body only, so equal records have equal digests on every replica; and a body that
  turns up under another key than its own is found out.
- check = digest XOR mix(marker), where `mix` is a bijection with mix(0) = 0: no change of the marker alone, of the
  check alone, and no change of the body that xxh3 sees, goes unnoticed (hard case 25). One hash of the body serves
  as checksum and as digest.

Rejected: a checksum beside the digest (a second pass over each value, 8 more bytes); trusting the engine's block
checksums (they do not cover the way from the block to us, nor say which record is damaged).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from xxhash import xxh3_64_intdigest

from quorate.core.errors import DamagedRecord

_hash: Final = xxh3_64_intdigest
"""A name that compiled code need not look up each time."""
_FORMAT: Final = 1
_HEADER: Final = Struct(">BQQ")
_MARKER: Final = Struct(">Q")
HEADER_BYTES: Final = _HEADER.size
_HASH_OF_ZERO: Final = _hash(_MARKER.pack(0))


def digest_of(key: bytes, body: bytes) -> int:
    """The version digest of the record `body` under the storage key `key`: 64 bits, equal on every replica."""
    return _hash(body, _hash(key))


def pack(digest: int, local_actor: int, body: bytes) -> bytes:
    """The bytes to store for a `body` of this `digest_of`; `local_actor` is the marker, 0 if there is no actor that
    this store can vouch for."""
    check = digest
    if local_actor:
        check ^= _mix(local_actor)
    return _HEADER.pack(_FORMAT, check, local_actor) + body


def unpack(key: bytes, stored: bytes) -> tuple[int, int, bytes]:
    """(digest, marker, body) of what is stored under `key`; raises `DamagedRecord` unless every bit is as written."""
    if len(stored) <= HEADER_BYTES:
        raise _damaged(key, stored, "it is too short")
    form, check, local_actor = _HEADER.unpack_from(stored)
    if form != _FORMAT:
        raise _damaged(key, stored, f"its format is {form}, and this version knows {_FORMAT}")
    if local_actor:
        check ^= _mix(local_actor)
    body = stored[HEADER_BYTES:]
    if _hash(body, _hash(key)) != check:
        raise _damaged(key, stored, "its bytes do not match its checksum")
    return check, local_actor, body


def _mix(local_actor: int) -> int:
    # xxh3 of eight bytes is a bijection that spreads every bit, unlike a bare multiplication, whose top bit goes
    # nowhere else: there, two flipped bits could cancel out.
    return _hash(_MARKER.pack(local_actor)) ^ _HASH_OF_ZERO


def _damaged(key: bytes, stored: bytes, reason: str) -> DamagedRecord:
    return DamagedRecord(
        f"the record of {len(stored)} bytes under storage key {key!r} is damaged: {reason}."
        " This replica counts as not having it, and repair brings it back from the others"
    )
