"""The observer: sees every record that reaches a disk, and so knows which dots each write got.

A client learns from an acknowledgement only a context. To judge histories exactly, the checkers need the dots
themselves. The observer reads them from the records as they are stored, and checks on the way what must hold of every
record at every moment: its invariants, and that one dot of one key stands for one event for ever, on all replicas and
over all lives of all disks (hard cases 1 and 2).
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.causality.actor import member_of
from quorate.core.envelope import unpack
from quorate.core.ports import Space
from quorate.core.record import TOMBSTONE, Clock, Dot, Record, Sibling, check, decode_record
from quorate.sim.history import Violation, WriteEntry, covers


class Observer:
    """Dots by key, and their writes. `violations` collects what must not be."""

    def __init__(self) -> None:
        self.dots: dict[bytes, dict[Dot, Sibling]] = {}
        self.violations: list[Violation] = []
        self._seen_clocks: dict[tuple[bytes, Dot], Clock] = {}
        self._dots_of_value: dict[tuple[bytes, bytes], list[Dot]] = {}
        self._dots_of_operation: dict[tuple[bytes, int], list[Dot]] = {}
        self._bodies_seen: dict[bytes, dict[bytes, None]] = {}
        self._acked_clocks: dict[bytes, Clock] = {}

    def of_member(self, member: int) -> Callable[[Space, bytes, bytes | None, bytes | None], None]:
        """The observer of one member's disk."""

        def observe(space: Space, key: bytes, old: bytes | None, new: bytes | None) -> None:
            if space == Space.DATA and new is not None:
                self._stored(member, key, old, new)

        return observe

    def dots_of(self, write: WriteEntry) -> list[Dot]:
        """Every dot that `write` has got so far; retries through several coordinators give several."""
        if write.operation:
            return self._dots_of_operation.get((write.storage_key, write.operation), [])
        return self._dots_of_value.get((write.storage_key, write.value), [])

    def acked_dots(self, write: WriteEntry, clock: Clock) -> list[Dot]:
        """The dots that an acknowledgement with this clock vouches for: one of them is the acknowledged event."""
        return [dot for dot in self.dots_of(write) if covers(clock, dot)]

    def seen_clock(self, storage_key: bytes, dot: Dot) -> Clock:
        """What the coordinator held just before it made `dot`: the context of a write that overwrites what it sees."""
        return self._seen_clocks.get((storage_key, dot), {})

    def acknowledged(self, write: WriteEntry, clock: Clock) -> None:
        """Note that the client was told so: from now on no fault may take the last copy of it."""
        acked = self._acked_clocks.setdefault(write.storage_key, {})
        dots = self.acked_dots(write, clock) or list(clock.items())
        for actor, counter in dots:
            acked[actor] = max(acked.get(actor, 0), counter)

    def acked_clocks(self) -> dict[bytes, Clock]:
        """Storage key → a clock that covers every acknowledged event."""
        return self._acked_clocks

    def _stored(self, member: int, key: bytes, old: bytes | None, new: bytes) -> None:
        body = unpack(key, new)[2]
        seen = self._bodies_seen.setdefault(key, {})
        if body in seen:
            return
        seen[body] = None
        record = decode_record(body)
        try:
            check(record)
        except AssertionError as error:
            self.violations.append(Violation("record", f"n{member} stored a bad record of {key!r}: {error}"))
        dots = self.dots.setdefault(key, {})
        for sibling in record.siblings:
            known = dots.get(sibling.dot)
            if known is None:
                self._new_dot(member, key, sibling, old)
            elif known != sibling:
                self.violations.append(
                    Violation("dot", f"{key!r}: the dot {sibling.dot} stands for {known} and for {sibling}")
                )

    def _new_dot(self, member: int, key: bytes, sibling: Sibling, old: bytes | None) -> None:
        dot = sibling.dot
        self.dots[key][dot] = sibling
        if sibling.operation:
            self._dots_of_operation.setdefault((key, sibling.operation), []).append(dot)
        elif sibling.kind != TOMBSTONE:
            self._dots_of_value.setdefault((key, sibling.value), []).append(dot)
        if old is not None and member_of(sibling.actor) == member:
            self._seen_clocks[key, dot] = stored_record(key, old).clock


def stored_record(key: bytes, stored: bytes) -> Record:
    """The record in an envelope from a disk."""
    return decode_record(unpack(key, stored)[2])
