"""Is a register with unique writes linearizable? By zones, in O(n log n) (Gibbons and Korach, SIAM J. Comput. 1997).

If no value is written twice, a read tells which write it has seen, so the operations fall into *clusters*: a write and
all reads of its value. In a linear order each cluster is one unbroken run, the write first. All that matters of a
cluster is its *zone*, between the earliest completion and the latest invocation among its operations:

- The zone is *forward* if some operation has completed (at f) before another was invoked (at s): f < s. The register
  surely holds the value from f to s, so no other cluster has any operation there.
- Otherwise it is *backward*: all operations overlap in s ≤ t ≤ f, and the whole cluster can happen at one moment, which
  can be chosen anywhere from s to f.

        forward  w(1) ├───┤                                backward  w(2) ├─────────┤
                             r(1) ├────┤                                     r(2) ├──────┤
                          f══════s                                                s═══f

So a history is linearizable if and only if
1. every value that was read had been written, by a write that was invoked before the read completed;
2. no two forward zones overlap;
3. no backward zone lies within a forward one.
That this is enough: order the forward zones by time, and give each backward cluster a moment of its zone that lies in
no forward zone. It has one: zones that do not overlap leave their ends free, and 3 leaves it an end at least. All
comparisons are strict, since operations that meet in one moment may happen in either order there.

The value None in the beginning is a cluster whose write completed before everything.

What is unknown: a write whose outcome nobody knows, and whose value was read, has happened; its end is open, which
leaves the zone to what its reads say. One that nobody has read is left out: if an order exists with it, the order
without it is as good, since nothing depends on it. (A compare-and-set would, and is not for this judge.)

Rejected: the search (`search.py`) for all histories. It is exponential, and a hot key of a run has thousands of
operations; here it is the twin that the tests compare with.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from quorate.sim.history import UNKNOWN
from quorate.sim.registers.history import (
    CAS,
    LINEARIZABLE,
    NOT_LINEARIZABLE,
    READ,
    UNDECIDED,
    WRITE,
    Judgement,
    Operation,
    Value,
    checked,
)

LONG_AGO_US = -(1 << 62)
BEGINNING = Operation(WRITE, "nothing yet", LONG_AGO_US, LONG_AGO_US, name="the beginning")


class Zone(msgspec.Struct, frozen=True):
    """One cluster's zone, with the two operations that make it."""

    value: Value
    earliest: Operation
    """The first to complete."""
    latest: Operation
    """The last to be invoked."""

    @property
    def completed_us(self) -> int:
        """The earliest completion: f."""
        return self.earliest.ends_us

    @property
    def invoked_us(self) -> int:
        """The latest invocation: s."""
        return self.latest.invoked_us

    @property
    def forward(self) -> bool:
        return self.completed_us < self.invoked_us

    def text(self) -> str:
        """Why the value must have been there, as one line for people."""
        if self.earliest is self.latest:
            return f"{self.value!r} is in {self.earliest.text()}"
        return f"{self.value!r} is in [{self.earliest.text()}] and in [{self.latest.text()}]"


def judge_zones(operations: Sequence[Operation]) -> Judgement:
    """Whether reads and writes of unique values are linearizable. Undecided if a value was written twice, or if there
    is a compare-and-set. Raises `ValueError` as `checked` does."""
    said = checked(operations)
    writes: dict[Value, Operation] = {None: BEGINNING}
    reads: dict[Value, list[Operation]] = {}
    for operation in said:
        if operation.kind == CAS:
            return Judgement(UNDECIDED, f"zones cannot judge a compare-and-set: {operation.text()}", (operation,))
        if operation.kind == READ:
            reads.setdefault(operation.value, []).append(operation)
        elif operation.value in writes:
            twice = (writes[operation.value], operation)
            return Judgement(UNDECIDED, f"zones cannot judge a value that is written twice: {_show(twice)}", twice)
        else:
            writes[operation.value] = operation
    for value, found in reads.items():
        write = writes.get(value)
        first = min(found, key=lambda read: read.ends_us)
        if write is None:
            return _bad(f"nobody wrote what was read: {first.text()}", first)
        if first.ends_us < write.invoked_us:
            return _bad(f"what was read had not been written yet: {_show((first, write))}", first, write)
    return _judge(
        [_zone(value, write, reads.get(value, [])) for value, write in writes.items() if _counts(write, reads)]
    )


def _counts(write: Operation, reads: dict[Value, list[Operation]]) -> bool:
    """Did `write` surely happen?"""
    return write.outcome != UNKNOWN or write.value in reads


def _zone(value: Value, write: Operation, reads: list[Operation]) -> Zone:
    cluster = [write, *reads]
    return Zone(
        value,
        min(cluster, key=lambda operation: operation.ends_us),
        max(cluster, key=lambda operation: operation.invoked_us),
    )


def _judge(zones: list[Zone]) -> Judgement:
    """Conditions 2 and 3."""
    forward = sorted((zone for zone in zones if zone.forward), key=lambda zone: (zone.completed_us, zone.invoked_us))
    for before, after in pairwise(forward):
        # If no neighbours overlap, each zone ends before the next begins, so no others overlap either.
        if after.completed_us < before.invoked_us:
            return _clash(before, after, "must be there at one time")
    begins = [zone.completed_us for zone in forward]
    for zone in zones:
        if zone.forward:
            continue
        index = bisect_left(begins, zone.invoked_us) - 1
        if index >= 0 and zone.completed_us < forward[index].invoked_us:
            return _clash(zone, forward[index], "must come and go while the other is there")
    return Judgement(LINEARIZABLE)


def _clash(one: Zone, other: Zone, text: str) -> Judgement:
    offenders = dict.fromkeys((one.earliest, one.latest, other.earliest, other.latest))
    return _bad(f"{one.value!r} {text}: {one.text()}; {other.text()}", *offenders)


def _bad(explanation: str, *offenders: Operation) -> Judgement:
    return Judgement(NOT_LINEARIZABLE, explanation, offenders)


def _show(operations: Sequence[Operation]) -> str:
    return "; ".join(operation.text() for operation in operations)
