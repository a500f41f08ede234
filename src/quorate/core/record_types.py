"""The types that records are made of; `quorate.core.record` says what they mean, and has what is done with them.

They stand apart because they are msgspec structs, whose options (arrays on the wire, no garbage collection) an
extension module cannot carry, while the rest of `record` is compiled (`quorate._compiled`).
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
