"""The observer: sees every record that reaches a disk, and so knows which dots each write got.

A client learns from an acknowledgement only a context. To judge histories exactly, the checkers need the dots
themselves. The observer reads them from the records as they are stored, as replicas or in hints, and checks on the way
what must hold of every record at every moment: its invariants, and that one dot of one key stands for one event for
ever, on all replicas, in all hints and over all lives of all disks (hard cases 1 and 2).
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.core.causality.actor import member_of
from quorate.core.causality.version_vectors import join
from quorate.core.envelope import unpack
from quorate.core.errors import DamagedRecord
from quorate.core.hints import Hint, split_hint_key, unpack_hint
from quorate.core.ports import Space
from quorate.core.record import TOMBSTONE, Clock, Dot, Record, Sibling, check, decode_record
from quorate.sim.graves import Graves
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
        self.other_hints: Callable[[int, int, bytes], Clock] = lambda member, home, key: {}
        """(member, home, storage key) → what this member's hints for homes other than `home` know of the key."""
        self.on_hint_removed: Callable[[int, int, bytes, Clock, int], None] = lambda *hint: None
        """Called with (member, home, storage key, the clock that the hint held, when it was first written: Unix ms)."""
        self.graves: Graves | None = None
        self.on_write: Callable[[int, Space, bytes, bytes | None], None] | None = None
        """Called with (member, space, key, value; None: it is removed) before anything is judged."""

    def of_member(self, member: int) -> Callable[[Space, bytes, bytes | None, bytes | None], None]:
        """The observer of one member's disk."""

        def observe(space: Space, key: bytes, old: bytes | None, new: bytes | None) -> None:
            if self.on_write is not None:
                self.on_write(member, space, key, new)
            if space == Space.DATA:
                self._changed(member, key, old, new)
            elif space == Space.HINTS:
                self._hinted(member, key, old, new)

        return observe

    def _changed(self, member: int, key: bytes, old: bytes | None, new: bytes | None) -> None:
        """A record was written, or removed (`new` None)."""
        graves = self.graves
        if new is None:
            before = readable_record(key, old)
            if graves is not None and before is not None:
                graves.shrunk(member, key, before, None)
            return
        body = unpack(key, new)[2]
        if graves is not None:
            if key in graves.clocks:
                graves.stored(member, key, decode_record(body))
            if old is not None and len(new) < len(old):
                self._shrunk(graves, member, key, old, body)
        self._stored(member, key, body, lambda: known_clock(key, old))

    def _shrunk(self, graves: Graves, member: int, key: bytes, old: bytes, body: bytes) -> None:
        before, after = readable_record(key, old), decode_record(body)
        if before is not None and before.clock == after.clock and len(after.siblings) < len(before.siblings):
            graves.shrunk(member, key, before, after)

    def _hinted(self, member: int, stored_key: bytes, old: bytes | None, new: bytes | None) -> None:
        """A hint was written, or removed (`new` None)."""
        home, key = split_hint_key(stored_key)
        hint = readable_hint(stored_key, old)
        before = hinted_clock(hint)
        if new is None and hint is not None:
            self.on_hint_removed(member, home, key, before, hint.created_ms)
        elif new is not None:
            body = unpack_hint(stored_key, new).body
            self._stored(member, key, body, lambda: join(before, self.other_hints(member, home, key)))

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

    def collected(self, key: bytes, clock: Clock) -> None:
        """All that `clock` covers was removed with proof: no disk need hold it from now on."""
        acked = self._acked_clocks.get(key)
        if acked is not None:
            self._acked_clocks[key] = {actor: last for actor, last in acked.items() if not covers(clock, (actor, last))}

    def acked_clocks(self) -> dict[bytes, Clock]:
        """Storage key → a clock that covers every acknowledged event."""
        return self._acked_clocks

    def _stored(self, member: int, key: bytes, body: bytes, before: Callable[[], Clock]) -> None:
        """`member` holds `body`, a record of `key`; `before` tells what it knew of the key until now."""
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
                self._new_dot(member, key, sibling, record, before)
            elif known != sibling:
                self.violations.append(
                    Violation("dot", f"{key!r}: the dot {sibling.dot} stands for {known} and for {sibling}")
                )

    def _new_dot(self, member: int, key: bytes, sibling: Sibling, record: Record, before: Callable[[], Clock]) -> None:
        """`sibling`, of `record`, is on a disk for the first time."""
        dot = sibling.dot
        self.dots[key][dot] = sibling
        if sibling.operation:
            self._dots_of_operation.setdefault((key, sibling.operation), []).append(dot)
        elif sibling.kind != TOMBSTONE:
            self._dots_of_value.setdefault((key, sibling.value), []).append(dot)
        if member_of(sibling.actor) == member:
            self._seen_clocks[key, dot] = join(before(), surely_seen(record, dot))


def surely_seen(record: Record, dot: Dot) -> Clock:
    """What the coordinator of `dot` knew, by the first record with it: all that the record knows and does not show.

    The disk before tells too little: what arrived in the same turn as the put was seen and is in the same batch. What
    stands beside `dot` may have arrived after it.
    """
    seen = dict(record.clock)
    seen[dot[0]] = dot[1] - 1
    for sibling in record.siblings:
        seen[sibling.actor] = min(seen[sibling.actor], sibling.counter - 1)
    return seen


def stored_record(key: bytes, stored: bytes) -> Record:
    """The record in an envelope from a disk."""
    return decode_record(unpack(key, stored)[2])


def readable_record(key: bytes, stored: bytes | None) -> Record | None:
    """The record in an envelope, None if there is none or it is damaged."""
    try:
        return None if stored is None else stored_record(key, stored)
    except DamagedRecord:
        return None


def known_clock(key: bytes, stored: bytes | None) -> Clock:
    """What an envelope from a disk knows: nothing if it is damaged."""
    record = readable_record(key, stored)
    return {} if record is None else record.clock


def readable_hint(stored_key: bytes, stored: bytes | None) -> Hint | None:
    """A hint from a disk, None if there is none or it is damaged."""
    try:
        return None if stored is None else unpack_hint(stored_key, stored)
    except DamagedRecord:
        return None


def hinted_clock(hint: Hint | None) -> Clock:
    """What a hint knows: nothing if it is damaged."""
    return {} if hint is None else decode_record(hint.body).clock
