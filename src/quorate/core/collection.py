"""Collection: when a tombstone or an expired value may be forgotten, and what is left of its record (SOSP 2007, §4.4).

A sibling is *dead* if no reader will ever see it: a tombstone, from the event that wrote it, or a value, from its
expiry. Both are kept for `grace`, because an older copy of what they stand for may still be under way somewhere; then
they are collected, in one of two ways.
- *From a record that keeps another sibling*, the dead ones are removed and the clock stays. That is safe by itself:
  an event that the clock covers and that is not among the siblings counts as overwritten, wherever the record goes.
- *A record whose siblings are all dead* is removed whole, clock and all. From then on nothing tells that an older copy
  is old. So it needs proof that no older copy is left: the first replica of the key asks all N whether they hold the
  very same record (`CollectAsk`), and each has it synced to its disk before it says yes; then it waits for
  `COLLECT_QUIET_MS`; only then all remove it (`Collect`), each if it is still the same.

Every event that a record's clock covers is, by its HLC time, no later than the record's latest sibling (see
`causality.dotted_version_vectors`), or than one that was collected before. So if all siblings are dead since before
the horizon, *every* older version is from before the horizon, whatever any wall clock said. Where an older version, or
the record itself, may be when it is removed, and why it does not bring back what was deleted:

1. A replica. None holds an older version: all N said that they hold this one. One that was cut off, is down or lags
   says nothing or no, and then nobody removes anything, however long it takes.
2. A replica that missed `Collect` still holds the record as it was: dead. It may give it back to the others in an
   exchange, a read repair or a merge into a key that was written again since; it is no value, it covers only events
   that are dead, and it is collected by a later sweep (hard case 3: a new life of the key has new actors, because a
   store without a record mints an epoch, so the returning clock does not cover them).
3. A replica whose machine loses power after it said yes. What it falls back to was synced with the yes, so it is the
   record itself, or later.
4. A replica that lost its disk holds nothing; one that was restored from a backup was away since the backup was made:
   longer than `grace` if anything in it is older than what was collected, and such a one empties itself before it
   serves (`alive`, kept beside the data).
5. A damaged copy counts as none, is never returned, and cannot turn into an older one.
6. A hint at a fallback, the hinted write that brings it home, or a read that the fallback answers. A hint lives for
   grace / 2 after the oldest write in it, by its holder's clock, also when a put that the fallback coordinates takes
   it in and spreads it (`HintedWrite.since_ms`). And whatever that clock says (a machine that wakes up after a day), a
   replica or coordinator takes in nothing kept by a fallback that is `beyond_horizon` by its *own* clock, which for a
   replica is the one by which it collected.
7. A write, a read repair or a forwarded request under way. Their deadlines end within `REQUEST_TIMEOUT_MAX_MS`, and
   what arrives later is dropped by its age; a read repair may be decided at the end of its read's time, so two of
   them. A sender that falls silent for longer loses its connection, and everything on it. `COLLECT_QUIET_MS` is longer
   than that, and within it no older version can start out, since no replica has one any more.
8. A record that an exchange is moving. An answer counts only while the question waits; it is taken in within
   `EXCHANGE_RECORDS_HELD_MAX_MS` or not at all; and what the peer wants is read when it is sent. The same bound holds.
9. A client's put that is forwarded or retried is a request and no record: it makes a new event if it is executed, and
   its deadline is that of 7. A context that a client kept for a year covers old events and brings none.
10. The record cache and this turn's queued writes are part of the store: a removal goes through both.
11. A node that was a replica before the bucket's n was lowered. It gives what it holds to the replicas and forgets it
    (`node.sweep`), within one sweep, long before `grace` ends.
12. A `Collect` that arrives late or twice. It fits only a record with the very digest that was proven, so it removes
    what was proven to be removable.

Between replicas whose clocks differ: each replica refuses a horizon that its own clock does not allow, with room for
the trusted skew. So what is collected is beyond the horizon by the clocks of all N, and a coordinator's clock that is
behind only makes an event seem older than it is; for 6 a clock may be wrong by an eighth of `grace`.

What this does to a record's latest time: collecting the latest sibling leaves a clock that covers an event later than
any sibling. A put that follows would have to be stamped more than `grace` in the past to be earlier than that event.

Rejected: collecting after `grace` without proof (a replica that was away longer brings the value back: hard case 22);
reaping once W or a majority of the replicas have the tombstone (hard case 23); one round without the wait (a read
repair decided before the proof and delayed on its way arrives at an empty place: found on paper, tested).
"""

from __future__ import annotations

from typing import Final

from quorate.core.causality.hybrid_logical_clock import LOGICAL_BITS
from quorate.core.record import TOMBSTONE, Record, Sibling

NEVER: Final = 1 << 63
"""Later than every time."""


def dead_since_ms(sibling: Sibling) -> int:
    """Since when, in Unix milliseconds, `sibling` is or will be dead; `NEVER` for a value without an expiry.

    Never before the event itself: an expiry stamped by a clock that is behind could be earlier than what the value
    overwrote, and its HLC time is not.
    """
    written_ms = sibling.time >> LOGICAL_BITS
    if sibling.kind == TOMBSTONE:
        return written_ms
    if not sibling.expiry_ms:
        return NEVER
    return max(written_ms, sibling.expiry_ms)


def collectable(record: Record, horizon_ms: int) -> bool:
    """Is there anything in `record` that has been dead since before `horizon_ms`?

    A record without siblings, which only a bucket that changed from siblings to last-write-wins in the midst of a
    collection can get, is nothing but dead.
    """
    for sibling in record.siblings:
        if dead_since_ms(sibling) < horizon_ms:
            return True
    return not record.siblings


def beyond_horizon(record: Record, wall_ms: int, grace_ms: int) -> bool:
    """Is `record`, which a fallback kept, too old to be taken in, by the clock of the node that is to take it?

    Its latest event is, by its HLC time, from before 3/4 of `grace_ms` ago. What has overwritten that event is later,
    so where it was collected it was collected a quarter of `grace_ms` later than this at least.
    """
    latest = max((sibling.time for sibling in record.siblings), default=0)
    return latest >> LOGICAL_BITS < wall_ms - grace_ms * 3 // 4


def collected(record: Record, horizon_ms: int) -> Record | None:
    """`record` without the siblings that have been dead since before `horizon_ms`; None if none would be left.

    The same object if there is nothing to collect. To replace a stored record by another that this returns is always
    safe; to remove one because this returns None takes proof.
    """
    left = [sibling for sibling in record.siblings if dead_since_ms(sibling) >= horizon_ms]
    if not left:
        return None
    return record if len(left) == len(record.siblings) else Record(record.clock, left)
