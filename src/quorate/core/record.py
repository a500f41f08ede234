"""The record: what a replica stores and sends for one key.

A record is a dotted version vector set (design §3): the siblings, each with its dot, and one version vector (`clock`)
that covers every event this record has ever heard of. An event that the clock covers and that is not among the
siblings has been overwritten. Records are immutable values; `quorate.core.causality` has the operations.

Invariants (`check` asserts them):
- every sibling's dot is covered by the clock; no two siblings have one dot; siblings are in the order of their dots;
- an event's HLC time is greater than that of every event in its causal past, so last-write-wins never contradicts
  causality, and its merge is associative;
- the encoding is canonical: equal records have equal bytes, so a hash of the bytes is the record's digest.
"""

from __future__ import annotations

from typing import Final

import msgspec

from quorate.core.record_types import EMPTY_CONTEXT, TOMBSTONE, VALUE, Actor, Clock, Context, Dot, Record, Sibling

__all__ = [
    "EMPTY_CONTEXT",
    "TOMBSTONE",
    "VALUE",
    "Actor",
    "Clock",
    "Context",
    "Dot",
    "Record",
    "Sibling",
    "check",
    "decode_record",
    "encode_record",
    "in_order",
]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Record).decode


def encode_record(record: Record) -> bytes:
    """The canonical bytes of a record: its clock goes in the order of the actors."""
    clock = record.clock
    if not in_order(clock):
        record = Record(dict(sorted(clock.items())), record.siblings)
    return _encode(record)


def in_order(clock: Clock) -> bool:
    """Do the entries go in the order of the actors? Nearly always: most come from a record that was decoded."""
    last = 0
    for actor in clock:
        if actor < last:
            return False
        last = actor
    return True


def decode_record(body: bytes) -> Record:
    """The record in `body`; raises `msgspec.DecodeError` if it is none."""
    try:
        return _decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"no record: {error}") from error


def check(record: Record) -> None:
    """Assert the invariants of one record (for tests and the simulator)."""
    dots = [sibling.dot for sibling in record.siblings]
    assert dots == sorted(set(dots)), "siblings are ordered by dot, each dot once"
    for actor, counter in dots:
        assert 1 <= counter <= record.clock.get(actor, 0), "the clock covers every sibling"
    assert all(counter >= 1 for counter in record.clock.values())
