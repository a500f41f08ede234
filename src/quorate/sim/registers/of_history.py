"""Registers from a simulated run: how often did keys of the store behave like one?

This is measured and not demanded. Quorate promises convergence, causality and what quorums give, and no linearizable
registers, for two reasons. A strict read may see a write that is not acknowledged yet on one replica, and the next one
miss it on two others (SOSP 2007, §4.5, has no second phase of a read; ABD registers do). And last-write-wins orders
puts without a context by the clocks of their coordinators, so one that is behind loses an acknowledged put to an
earlier one (hard case 29), without any fault; on keys that are blindly overwritten all the time, sooner or later.
What the figure is good for: a change of the code that makes it fall deserves a look.

A key is taken as a register if that can be said of it at all:
- its bucket is strict and resolves by last-write-wins, so that a key holds one value and quorums meet;
- it was never collected. A key that was forgotten reads as one that was never written.
Its operations are:
- *writes*: each put or delete is a write of its own number, which is unique where deletes, of which all leave nothing,
  are not. It completes with its first acknowledgement. If nobody acknowledged it with a majority W, its end is open:
  it may come to be seen at any time, or never.
- *reads* with a majority R; others are left out, as nobody who asks one of three replicas expects the newest. What a
  read has seen is told by its dots: the standing event is the latest of all that the answer's clock covers. So a
  tombstone, and a value that had expired, are told from each other and from a key that was never written.

A write that was repeated under its operation id may have got several dots. It counts as one write; should its second
dot bring it back after another write, the history is not linearizable, which is true of it.

Zones judge a key in O(n log n), so no history is cut.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec

from quorate.core.record import Dot
from quorate.sim.graves import Graves
from quorate.sim.history import OK, UNKNOWN, History, ReadEntry, WriteEntry, covers
from quorate.sim.observer import Observer
from quorate.sim.registers.history import (
    LINEARIZABLE,
    NOT_LINEARIZABLE,
    READ,
    UNDECIDED,
    WRITE,
    Judgement,
    Operation,
    Value,
)
from quorate.sim.registers.zones import judge_zones

STRANGE: Final = "an event that no disk has shown"


class RegisterCounts(msgspec.Struct):
    """How many keys were which; `first_bad` tells of one that was not."""

    linearizable: int = 0
    not_linearizable: int = 0
    unknown: int = 0
    operations: int = 0
    first_bad: Judgement | None = None

    def add(self, operations: list[Operation], judgement: Judgement) -> None:
        self.operations += len(operations)
        if judgement.verdict == LINEARIZABLE:
            self.linearizable += 1
        elif judgement.verdict == NOT_LINEARIZABLE:
            self.not_linearizable += 1
            self.first_bad = self.first_bad or judgement
        else:
            self.unknown += 1

    @property
    def counts(self) -> dict[str, int]:
        """Verdict → keys."""
        return {
            LINEARIZABLE: self.linearizable,
            NOT_LINEARIZABLE: self.not_linearizable,
            UNDECIDED: self.unknown,
        }


def measure_registers(
    history: History, keys: Collection[bytes], observer: Observer, quorum: int, graves: Graves | None = None
) -> RegisterCounts:
    """How many of `keys` (as `registers_of`) were linearizable registers. A key with fewer than one write and one read
    says nothing, and is not counted."""
    found = RegisterCounts()
    for operations in registers_of(history, keys, observer, quorum, graves).values():
        kinds = {operation.kind for operation in operations}
        if {READ, WRITE} <= kinds:
            found.add(operations, _judge(operations))
    return found


def registers_of(
    history: History, keys: Collection[bytes], observer: Observer, quorum: int, graves: Graves | None = None
) -> dict[bytes, list[Operation]]:
    """Storage key → its operations as a register, for those of `keys` that nobody has collected.

    `keys`: storage keys in strict last-write-wins buckets; `quorum`: a majority of the replicas of each, which is the
    least r and w that count.
    """
    wanted = {key: True for key in keys if graves is None or key not in graves.clocks}
    writes: dict[bytes, list[WriteEntry]] = {key: [] for key in wanted}
    reads: dict[bytes, list[ReadEntry]] = {key: [] for key in wanted}
    for write in history.writes:
        if write.storage_key in wanted:
            writes[write.storage_key].append(write)
    for read in history.reads:
        if read.storage_key in wanted and read.strict and read.r >= quorum:
            reads[read.storage_key].append(read)
    return {key: _register(key, writes[key], reads[key], observer, quorum) for key in wanted}


def _register(
    key: bytes, writes: list[WriteEntry], reads: list[ReadEntry], observer: Observer, quorum: int
) -> list[Operation]:
    operations = [_write(write, quorum) for write in writes if write.outcome in {OK, UNKNOWN}]
    number_of = {dot: write.number for write in writes for dot in observer.dots_of(write)}
    dots = observer.dots.get(key, {})
    latest_first = sorted(dots, key=lambda dot: (dots[dot].time, *dot), reverse=True)
    for read in reads:
        seen = _standing(read, latest_first)
        value: Value = None if seen is None else number_of.get(seen, STRANGE)
        operations.append(Operation(READ, value, read.invoked_us, read.completed_us, name=f"session {read.session}"))
    return operations


def _write(write: WriteEntry, quorum: int) -> Operation:
    completed_us = min((ack.completed_us for ack in write.acks), default=None)
    sure = write.w >= quorum and write.strict and completed_us is not None
    return Operation(
        WRITE,
        write.number,
        write.invoked_us,
        completed_us if sure else None,
        OK if sure else UNKNOWN,
        name=f"session {write.session}",
    )


def _standing(read: ReadEntry, latest_first: list[Dot]) -> Dot | None:
    """The event that the record of this answer held: what it shows, or else the latest of all that it covers; None if
    it covers none."""
    if read.siblings:
        return read.siblings[0].dot
    return next((dot for dot in latest_first if covers(read.clock, dot)), None)


def _judge(operations: list[Operation]) -> Judgement:
    if any(operation.value == STRANGE for operation in operations):
        return Judgement(UNDECIDED, "a read saw an event that no disk has shown")
    return judge_zones(operations)
