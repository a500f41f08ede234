"""Dotted version vector sets: the algebra of records. `update` adds an event, `sync` merges two replicas' records.

A record says two things: which events it has heard of (its clock), and which of those still stand (its siblings, each
with its dot). An event that is covered and not among the siblings has been overwritten. So merging needs no history:
a sibling survives if the other side holds it too, or has never heard of it.

Invariants (Preguiça et al., "Dotted Version Vectors", 2010; Almeida et al., "Scalable and Accurate Causality Tracking
for Eventually Consistent Stores", DAIS 2014):
- `sync` is commutative, associative and idempotent on the records that the protocol makes, so retries, hints, repair
  and transfers may apply it in any order and any number of times (hard case 8);
- all of this holds only while no dot is ever issued twice: `actor.py` is the rule that ensures it (hard cases 1, 2);
- a record's latest sibling is at least as late as every event that its clock covers: whatever overwrote an event, or
  beat it under last-write-wins, was later. So `context_of` needs no time of its own in the record, and
  `resolve_last_write_wins` after `sync` keeps the three laws.

Rejected: a version vector a sibling, with which a coordinator cannot tell two writes of one stale context apart
without an entry for each client; a causal graph, which is exact and unbounded (the tests use one as the judge).
"""

from __future__ import annotations

from quorate.core.causality.version_vectors import descends, join
from quorate.core.record import EMPTY_CONTEXT, TOMBSTONE, Actor, Clock, Context, Dot, Record, Sibling


def sync(left: Record, right: Record) -> Record:
    """Everything that stands in `left` or `right` once each has heard of what the other knows.

    Returns the very object `left`, or else `right`, if the result equals it, so that callers can keep its bytes.
    """
    if left is right:
        return left
    if left.clock == right.clock:
        if left.siblings == right.siblings:
            return left
    elif descends(right.clock, left.clock):
        if _stand_against(right.siblings, left):
            return right
    elif descends(left.clock, right.clock) and _stand_against(left.siblings, right):
        return left
    return _merge(left, right)


def _stand_against(siblings: list[Sibling], other: Record) -> bool:
    """Would all of `siblings` survive a sync with `other`, unchanged?"""
    clock = other.clock
    for sibling in siblings:
        if clock.get(sibling.actor, 0) >= sibling.counter and sibling not in other.siblings:
            return False
    return True


def _merge(left: Record, right: Record) -> Record:
    clock = join(left.clock, right.clock)
    kept: dict[Dot, Sibling] = {}
    theirs = {sibling.dot: sibling for sibling in right.siblings}
    for sibling in left.siblings:
        twin = theirs.get(sibling.dot)
        if twin is not None:
            kept[sibling.dot] = _one_of(sibling, twin)
        elif right.clock.get(sibling.actor, 0) < sibling.counter:
            kept[sibling.dot] = sibling
    for dot, sibling in theirs.items():
        if left.clock.get(sibling.actor, 0) < sibling.counter:
            kept[dot] = sibling
    siblings = [kept[dot] for dot in sorted(kept)]
    for side in (left, right):
        if clock == side.clock and siblings == side.siblings:
            return side
    return Record(clock, siblings)


def _one_of(sibling: Sibling, twin: Sibling) -> Sibling:
    """One of two siblings with one dot. They are equal, unless a store was brought back from a copy behind our back;
    then both sides must at least choose alike, or repair would never come to an end."""
    if sibling == twin:
        return sibling
    return max(sibling, twin, key=_content)


def _content(sibling: Sibling) -> tuple[int, bytes, str, int, int, int]:
    return (
        sibling.time,
        sibling.value,
        sibling.content_type,
        sibling.kind,
        sibling.expiry_ms,
        sibling.operation,
    )


def update(
    record: Record | None,
    context: Context,
    actor: Actor,
    time: int,
    value: bytes,
    content_type: str,
    kind: int,
    expiry_ms: int,
    operation: int,
) -> Record:
    """The record after one more event by `actor`, which replaces what `context` covers and nothing else.

    `record` is what the coordinator holds (None: nothing) and `actor` one that it may use there (`actor.py`). `time`
    is an HLC time greater than the context's. Should a hand-made context cover a sibling that is later than it
    claims, the new event is moved behind that sibling, so that no record ever contradicts causality.
    """
    assert time > context.time, "an event is later than everything its writer has seen"
    seen = context.clock
    clock: Clock
    siblings: list[Sibling] = []
    if record is None:
        clock = dict(seen)
    else:
        clock = dict(record.clock)
        for other, counter in seen.items():
            if clock.get(other, 0) < counter:
                clock[other] = counter
        for sibling in record.siblings:
            if seen.get(sibling.actor, 0) < sibling.counter:
                siblings.append(sibling)
            elif sibling.time >= time:
                time = sibling.time + 1
    counter = clock.get(actor, 0) + 1
    clock[actor] = counter
    siblings.append(Sibling(actor, counter, time, value, content_type, kind, expiry_ms, operation))
    if len(siblings) > 1:
        siblings.sort(key=_dot)
    return Record(clock, siblings)


def context_of(record: Record | None) -> Context:
    """What someone who reads `record` has seen: a put with this context replaces all of its siblings."""
    if record is None:
        return EMPTY_CONTEXT
    siblings = record.siblings
    if len(siblings) == 1:
        return Context(record.clock, siblings[0].time)
    return Context(record.clock, max((sibling.time for sibling in siblings), default=0))


def live_siblings(record: Record, now_ms: int) -> list[Sibling]:
    """What a reader gets at `now_ms` (Unix milliseconds), in the order of the dots.

    Tombstones and expired values are left out. Siblings of one operation id are one write that was retried through
    another coordinator: only the one with the highest dot is shown.
    """
    live = [
        sibling
        for sibling in record.siblings
        if sibling.kind != TOMBSTONE and (sibling.expiry_ms == 0 or sibling.expiry_ms > now_ms)
    ]
    if len(live) < 2:
        return live
    last = {sibling.operation: sibling.dot for sibling in live}
    return [sibling for sibling in live if sibling.operation == 0 or last[sibling.operation] == sibling.dot]


def winner(siblings: list[Sibling]) -> Sibling:
    """The one sibling that stands for all where only one can be shown: the latest, then the highest dot."""
    assert siblings, "there is no winner among none"
    return siblings[0] if len(siblings) == 1 else max(siblings, key=_time_and_dot)


def resolve_last_write_wins(record: Record) -> Record:
    """`record` with only its winner; the clock stays, so the others count as overwritten everywhere.

    Causality comes first: `sync` has removed what was overwritten, and time decides only between concurrent siblings
    (hard case 29). Returns the same object if there is nothing to remove.
    """
    if len(record.siblings) < 2:
        return record
    return Record(record.clock, [winner(record.siblings)])


def has_operation(record: Record, operation: int) -> Sibling | None:
    """The standing sibling that the client's operation `operation` wrote, if any; never one for 0 (no id)."""
    if operation != 0:
        for sibling in reversed(record.siblings):
            if sibling.operation == operation:
                return sibling
    return None


def _dot(sibling: Sibling) -> Dot:
    return (sibling.actor, sibling.counter)


def _time_and_dot(sibling: Sibling) -> tuple[int, Actor, int]:
    return (sibling.time, sibling.actor, sibling.counter)
