"""What lies on which disk: the copies of an event, as replicas and as hints.

A hint is a copy like any other (SOSP 2007, §4.6) with one difference: it is on its way to its home and is removed as
soon as that has it. So for the question whether a home may lose its disk, the hints kept for it count for nothing: its
acknowledgement may be on its way, and the hint gone a moment later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping

from quorate.core.causality.version_vectors import descends, join
from quorate.core.hints import hint_key
from quorate.core.ports import Space
from quorate.core.record import Clock, Dot
from quorate.sim.disk import Disk
from quorate.sim.history import covers
from quorate.sim.observer import hinted_clock, known_clock, readable_hint

CLOCKS_REMEMBERED_MAX = 20_000

Before = dict[bytes, bytes | None]
"""Key → what it would hold if the unsynced batches of a disk were lost; only keys that these touched."""


class Copies:
    """A view of all disks, by member number."""

    def __init__(
        self,
        disks: Mapping[int, Disk],
        read: Callable[[bytes], Container[int]],
        keepers: Callable[[bytes], Container[int]],
        synced: bool,
        staying: Callable[[bytes], Container[int]],
    ) -> None:
        """`synced`: only what has been synced is durable. `read`: who is read by the newest ring; `keepers`: who keeps
        a key by any ring by which a write may have been acknowledged; `staying`: whose records can be relied on."""
        self._disks = disks
        self._read = read
        self._keepers = keepers
        self._staying = staying
        self._synced = synced
        self._clocks: dict[tuple[bytes, bytes], Clock] = {}
        self.lasting: Callable[[int, int], bool] = lambda member, created_ms: True
        """(member, when its hint was first written: Unix ms) → will that not expire soon?"""
        self.doubtful: dict[int, bool] = {}
        """Members that may empty themselves when they come back, since they were away for so long."""
        self.leaving: dict[int, bool] = {}
        """Members that are about to be removed from the cluster: nothing that they hold can be relied on."""
        self.gone: dict[int, bool] = {}
        """Members that were removed."""

    def count(self, stored_key: bytes, dot: Dot, strict: bool, quorum: bool = True) -> int:
        """How many nodes hold the event `dot` durably: of the side that is read by the newest ring, if only replicas
        count (`strict`; `quorums.py` says why that is enough to ask if W was that of the bucket at least, `quorum`), or
        of all, as replicas or in hints."""
        holders = [member for member in self._disks if covers(self._durable_clock(member, stored_key), dot)]
        if strict:
            wanted = (self._read if quorum else self._keepers)(stored_key)
            return sum(member in wanted for member in holders)
        hinting = [
            member
            for member in self._disks
            if any(covers(clock, dot) for clock in self._durable_hints(member, stored_key))
        ]
        keepers = self._keepers(stored_key)
        return len({*hinting, *(member for member in holders if member in keepers)})

    def home_knows(self, home: int, stored_key: bytes, clock: Clock) -> bool:
        """Does the replica `home` durably hold all of `clock`?"""
        return descends(self._durable_clock(home, stored_key), clock)

    def knows(self, member: int, stored_key: bytes) -> Clock:
        """What the disk of `member` knows of a key; nothing if the record there is damaged."""
        return self._clock(stored_key, self._disks[member].values[Space.DATA].get(stored_key))

    def safe_without_hints(self, acked_clocks: Mapping[bytes, Clock], absent: Collection[int]) -> bool:
        """Is every acknowledged event on a replica that is not among `absent`, were there no hints at all?"""
        for stored_key, acked in acked_clocks.items():
            known: Clock = {}
            staying = self._staying(stored_key)
            for member in self._disks:
                if member in staying and not self._unreliable(member, absent):
                    known = join(known, self.knows(member, stored_key))
            if not descends(known, acked):
                return False
        return True

    def _unreliable(self, member: int, absent: Container[int]) -> bool:
        return member in absent or member in self.leaving or member in self.gone

    def trust(self, member: int) -> None:
        """It is back, and has not emptied itself."""
        self.doubtful.pop(member, None)

    def hints_left(self) -> dict[int, int]:
        """Member → how many hints it holds; members without any are left out."""
        return {
            member: len(disk.keys[Space.HINTS])
            for member, disk in self._disks.items()
            if disk.keys[Space.HINTS] and member not in self.gone
        }

    def hinted_clock(self, member: int, stored_key: bytes, except_home: int) -> Clock:
        """What the hints of `member` know of a key, those for `except_home` left out."""
        known: Clock = {}
        for home in self._disks:
            stored = self._disks[member].values[Space.HINTS].get(hint_key(home, stored_key))
            if stored is not None and home != except_home:
                known = join(known, hinted_clock(readable_hint(hint_key(home, stored_key), stored)))
        return known

    def can_lose(
        self, acked_clocks: Mapping[bytes, Clock], victim: int, wiped: bool, others_may_lose_unsynced: bool
    ) -> bool:
        """Would every acknowledged event still be on another disk if `victim` lost its disk, or its unsynced data?

        What a store acknowledges with W=2 it promises to keep through one loss, not through any number of them. So a
        fault asks here first. `others_may_lose_unsynced`: count only what the other disks have synced.
        """
        unsynced = {
            member: (disk.without_unsynced(), disk.without_unsynced(Space.HINTS))
            if others_may_lose_unsynced or member == victim
            else ({}, {})
            for member, disk in self._disks.items()
        }
        data, hints = unsynced[victim]
        hinted = {key[2:] for key in hints}
        for stored_key, acked in acked_clocks.items():
            if not wiped and stored_key not in data and stored_key not in hinted:
                continue
            kept: list[Clock] = []
            for member in self._disks:
                if (member != victim or not wiped) and not self._unreliable(member, self.doubtful):
                    kept += self._clocks_without(member, stored_key, *unsynced[member], victim)
            if not all(any(covers(clock, dot) for clock in kept) for dot in acked.items()):
                return False
        return True

    def _clocks_without(self, member: int, stored_key: bytes, data: Before, hints: Before, victim: int) -> list[Clock]:
        """What `member` surely keeps of a key: `data` and `hints` tell what the loss of unsynced batches leaves."""
        values = self._disks[member].values
        clocks: list[Clock] = []
        if member in self._staying(stored_key):
            stored = data.get(stored_key, values[Space.DATA].get(stored_key))
            clocks.append(self._clock(stored_key, stored))
        for home in self._disks if values[Space.HINTS] else ():
            key = hint_key(home, stored_key)
            hint = readable_hint(key, values[Space.HINTS].get(key))
            if hint is None or home == victim or key in hints:
                continue
            if self.lasting(member, hint.created_ms):
                clocks.append(hinted_clock(hint))
        return clocks

    def _durable_clock(self, member: int, stored_key: bytes) -> Clock:
        disk = self._disks[member]
        return self._clock(
            stored_key, disk.synced_value(stored_key) if self._synced else disk.values[Space.DATA].get(stored_key)
        )

    def _durable_hints(self, member: int, stored_key: bytes) -> list[Clock]:
        disk = self._disks[member]
        clocks: list[Clock] = []
        if not disk.values[Space.HINTS]:
            return clocks  # Nearly always, and this is asked at every acknowledgement.
        for home in self._disks:
            key = hint_key(home, stored_key)
            if key in disk.values[Space.HINTS]:
                stored = disk.synced_value(key, Space.HINTS) if self._synced else disk.values[Space.HINTS][key]
                if stored is not None:
                    clocks.append(hinted_clock(readable_hint(key, stored)))
        return clocks

    def _clock(self, stored_key: bytes, stored: bytes | None) -> Clock:
        """Remembered by the bytes, since faults ask for all keys again and again."""
        if stored is None:
            return {}
        clock = self._clocks.get((stored_key, stored))
        if clock is None:
            if len(self._clocks) >= CLOCKS_REMEMBERED_MAX:
                self._clocks.clear()
            clock = self._clocks[stored_key, stored] = known_clock(stored_key, stored)
        return clock
