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

Actor = int
"""member number (16 bits) ‖ epoch (48 bits): one life of one store, as far as it can vouch for its own memory."""

Dot = tuple[Actor, int]
"""One event: the counter-th put that `actor` coordinated for this key. Counters start at 1."""

Clock = dict[Actor, int]
"""A version vector: how many events of each actor are known. One entry per actor, never per client."""

VALUE: Final = 0
TOMBSTONE: Final = 1


class Sibling(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One version of a value, or a tombstone."""

    actor: Actor
    counter: int
    time: int
    """HLC time: Unix milliseconds << 16 | logical."""
    value: bytes
    content_type: str = ""
    """Empty means application/octet-stream."""
    kind: int = VALUE
    expiry_ms: int = 0
    """Unix milliseconds after which the value counts as deleted; 0: never."""
    operation: int = 0
    """The client's operation id (0: none): siblings of one operation are one write that was retried."""

    @property
    def dot(self) -> Dot:
        return (self.actor, self.counter)


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    clock: Clock
    siblings: list[Sibling]


class Context(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a reader has seen: the clock of what it read, and the latest HLC time there."""

    clock: Clock
    time: int = 0


EMPTY_CONTEXT: Final = Context({}, 0)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode_record(record: Record) -> bytes:
    """The canonical bytes of a record: its clock goes in the order of the actors."""
    clock = record.clock
    if len(clock) > 1:
        record = Record(dict(sorted(clock.items())), record.siblings)
    return _encoder.encode(record)


def decode_record(body: bytes) -> Record:
    """The record in `body`; raises `msgspec.DecodeError` if it is none."""
    try:
        return _decoder.decode(body)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"no record: {error}") from error


def check(record: Record) -> None:
    """Assert the invariants of one record (for tests and the simulator)."""
    dots = [sibling.dot for sibling in record.siblings]
    assert dots == sorted(set(dots)), "siblings are ordered by dot, each dot once"
    for actor, counter in dots:
        assert 1 <= counter <= record.clock.get(actor, 0), "the clock covers every sibling"
    assert all(counter >= 1 for counter in record.clock.values())
