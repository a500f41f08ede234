"""What was collected, and whether it might be: tombstones and expired values that left a disk for good (check G).

A record may shrink only by siblings that have been dead for longer than `grace`. It may go as a whole only while all
replicas of its key know what it knew, or have removed it for the same reason: that is the proof (SOSP 2007 has none;
hard cases 22 and 23 are what others found without it). The other reason to remove a record is that the ring does not
place it there any more; then all who keep it must know what it knew (check "stray", hard case 14). After a collection
nothing that it had replaced may be on the disk of any replica again (check Z), whether by a late hint, a late message,
repair, or a node that was away.

The graves also complete the other checks: what was collected was not lost (D), and need not be known to a read (R).
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.causality.dotted_version_vectors import winner
from quorate.core.causality.version_vectors import descends, join
from quorate.core.record import TOMBSTONE, Clock, Dot, Record, Sibling
from quorate.sim.history import Violation, covers


def dead_since_ms(sibling: Sibling) -> int:
    """Since when (Unix milliseconds) nobody is to see it: a tombstone's HLC time, or the expiry; 0: it lives."""
    return sibling.time >> 16 if sibling.kind == TOMBSTONE else sibling.expiry_ms


class Graves:
    """Collected siblings and the clocks of removed records, by storage key."""

    def __init__(
        self,
        *,
        horizon_ms: Callable[[], int],
        now_us: Callable[[], int],
        replicas: Callable[[bytes], tuple[int, ...]],
        known: Callable[[int, bytes], Clock | None],
    ) -> None:
        """`horizon_ms`: what has been dead since later must still be there. `known`: what a member's disk knows of a
        key, None if nobody can say (it was wiped or damaged a moment ago)."""
        self._horizon_ms = horizon_ms
        self._now_us = now_us
        self._known = known
        self.homes_of: Callable[[int, bytes], tuple[int, ...]] = lambda member, key: replicas(key)
        """(member, storage key) → who keeps the key by the ring that this member goes by."""
        self.homes_of_late: Callable[[int, bytes], list[tuple[int, ...]]] = lambda member, key: [replicas(key)]
        """The same by each ring of late that does not name this member."""
        self.too_old: Callable[[Record], bool] = lambda record: False
        """Would a node not take it in any more, since it may have been deleted and collected?"""
        self.violations: list[Violation] = []
        self.siblings: dict[bytes, dict[Dot, Sibling]] = {}
        self.removals: dict[bytes, list[tuple[int, Clock]]] = {}
        """Storage key → (true time, clock of a record that went as a whole), in the order of time."""
        self.clocks: dict[bytes, Clock] = {}
        """Storage key → the join of those clocks."""
        self._removed_by: dict[tuple[int, bytes], Clock] = {}
        self.collected = 0
        """Siblings, on all disks."""
        self.last_write_wins: Callable[[bytes], bool] = lambda key: False
        """Is the key in a bucket that keeps only the latest of concurrent values?"""
        self.on_removed: Callable[[bytes, Clock], None] = lambda key, clock: None
        """Called with the key and the clock of each record that went as a whole."""

    def shrunk(self, member: int, key: bytes, old: Record, new: Record | None) -> None:
        """`member` held `old` and now holds `new`, with the same clock; None: nothing."""
        if new is None and member not in self.homes_of(member, key):
            self._handed_over(member, key, old)
            return
        kept = {sibling.dot for sibling in new.siblings} if new is not None else set()
        gone = [sibling for sibling in old.siblings if sibling.dot not in kept]
        if gone and kept == {winner(old.siblings).dot} and self.last_write_wins(key):
            return  # Resolved: a fallback that holds no more of a bucket than hints had merged them.
        horizon_ms = self._horizon_ms()
        for sibling in gone:
            since_ms = dead_since_ms(sibling)
            if since_ms == 0 or since_ms > horizon_ms:
                early = f"dead since {since_ms}, the horizon is {horizon_ms}" if since_ms else "which lives"
                self.violations.append(Violation("G", f"n{member} dropped {sibling} of {key!r}, {early}"))
        self.collected += len(gone)
        self.siblings.setdefault(key, {}).update({sibling.dot: sibling for sibling in gone})
        if new is None:
            self._removed(member, key, old.clock)

    def _removed(self, member: int, key: bytes, clock: Clock) -> None:
        for other, known in self._ignorant(member, key, clock, self.homes_of(member, key)):
            message = f"n{member} removed {key!r} with the clock {clock}, and n{other} knows only {known}"
            self.violations.append(Violation("G", message))
        self._removed_by[member, key] = join(self._removed_by.get((member, key), {}), clock)
        self.removals.setdefault(key, []).append((self._now_us(), clock))
        self.clocks[key] = join(self.clocks.get(key, {}), clock)
        self.on_removed(key, clock)

    def _handed_over(self, member: int, key: bytes, old: Record) -> None:
        """`member` has removed what it does not keep any more."""
        if self.too_old(old):
            return
        # It may have asked under one ring, and go by the next: whoever is new there gets it from the others.
        lacking = [self._ignorant(member, key, old.clock, homes) for homes in self.homes_of_late(member, key)]
        if all(lacking):
            message = f"n{member}, which keeps it no more, removed {key!r} with {old.clock}; others know {lacking}"
            self.violations.append(Violation("stray", message))

    def _ignorant(self, member: int, key: bytes, clock: Clock, homes: tuple[int, ...]) -> list[tuple[int, Clock]]:
        """Those of `homes` that neither know `clock` nor have removed what they knew, with what they know."""
        found = []
        for other in homes:
            known = self._known(other, key) if other != member else None
            if known is not None and not descends(join(known, self._removed_by.get((other, key), {})), clock):
                found.append((other, known))
        return found

    def stored(self, member: int, key: bytes, record: Record) -> None:
        """`member` wrote `record`: does it hold anything that a removed record had replaced?"""
        clock = self.clocks.get(key)
        if clock is None:
            return
        buried = self.siblings[key]
        for sibling in record.siblings:
            if covers(clock, sibling.dot) and sibling.dot not in buried:
                message = f"n{member} stored {sibling} of {key!r}: replaced before, by what has been collected"
                self.violations.append(Violation("Z", message))

    def with_collected(self, key: bytes, final: Record) -> Record:
        """`final` as if nothing of it had been collected, for the checks of what was lost."""
        buried = self.siblings.get(key)
        if not buried:
            return final
        standing = {**buried, **{sibling.dot: sibling for sibling in final.siblings}}
        return Record(join(final.clock, self.clocks.get(key, {})), [standing[dot] for dot in sorted(standing)])

    def excuses(self, key: bytes, dot: Dot, until_us: int) -> bool:
        """Had a record that knew `dot` been removed by then, so that a read need not know it?"""
        return any(time_us <= until_us and covers(clock, dot) for time_us, clock in self.removals.get(key, ()))
