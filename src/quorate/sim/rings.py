"""The rings of a simulated cluster, as its nodes come to go by them: which is the newest, and who counts by which.

What is judged while memberships change is judged by more than one ring, since a coordinator may go by an older one
than the newest: a copy that was counted under any ring of late counts (`keepers`), but only copies on members that stay
are relied on when a fault asks whether it may take a disk (`staying`).

It checks on the way what nodes must never do: go by two rings of one version (hard case 11), or by an older one again.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from quorate.core.membership.ring_consensus import RingValue
from quorate.core.ring.joint import JointPlacements
from quorate.core.ring.metadata import ClusterMetadata, of_value
from quorate.core.ring.transition import StagedRing, Transition
from quorate.sim.history import Violation

RECENT_US = 30_000_000
"""A request under a ring that was superseded longer ago than this has ended, one way or the other."""


class KnownRing(msgspec.Struct):
    """A ring that some node went by."""

    value: RingValue
    metadata: ClusterMetadata
    joint: JointPlacements
    superseded_us: int = -1
    """When a node first went by a newer one; -1: none does."""


class Rings:
    """All that were seen of late, the newest last."""

    def __init__(self, founding: RingValue, n: int, now_us: Callable[[], int]) -> None:
        """`n`: replicas of the buckets that are judged."""
        self._n = n
        self._now_us = now_us
        self._ids: dict[tuple[int, int], RingValue] = {}
        self._gone_by: dict[int, tuple[int, int]] = {}
        self._recent: list[KnownRing] = []
        self.violations: list[Violation] = []
        self.on_newest: list[Callable[[Transition | None, StagedRing], None]] = []
        """Each is called with the plan that was under way, and the ring that is the newest from now on."""
        self.gone_by_now: Callable[[], list[int]] = list
        """The ring versions that members which run go by."""
        self._learn(founding)

    @property
    def newest(self) -> KnownRing:
        return self._recent[-1]

    @property
    def ring(self) -> StagedRing:
        return self._recent[-1].metadata.ring

    def adopted(self, number: int, value: RingValue) -> None:
        """The member goes by `value` from now on."""
        last = self._gone_by.get(number, (0, 0))
        if value.position < last:
            message = f"n{number} goes by the ring {value.position}, and went by {last} before"
            self.violations.append(Violation("ring", message))
        self._gone_by[number] = value.position
        known = self._ids.setdefault(value.position, value)
        if known != value:
            self.violations.append(Violation("ring", f"there are two rings of version {value.position}"))
        if value.position > self.newest.value.position:
            self._learn(value)

    def forget(self, number: int) -> None:
        """The member lost its disk: it may begin with any ring."""
        self._gone_by.pop(number, None)

    def homes_without(self, number: int, stored_key: bytes) -> list[tuple[int, ...]]:
        """Who keeps a key by each ring of late by which this member does not."""
        partition = _partition(stored_key)
        found = [known.joint.of(partition, self._n).homes for known in self.recent()]
        return [homes for homes in found if number not in homes]

    def _learn(self, value: RingValue) -> None:
        metadata = of_value(value)
        before = None
        if self._recent:
            before = self.ring.transition
            self.newest.superseded_us = self._now_us()
        self._ids[value.position] = value
        self._recent.append(KnownRing(value, metadata, JointPlacements(metadata.ring)))
        for tell in self.on_newest:
            tell(before, metadata.ring)

    def recent(self) -> list[KnownRing]:
        """Those by which a request may have been carried out that is answered now."""
        now_us = self._now_us()
        oldest = min(self.gone_by_now(), default=0)
        self._recent = [
            known
            for known in self._recent
            if known.superseded_us < 0
            or now_us - known.superseded_us < RECENT_US
            or known.metadata.ring.version >= oldest
        ]
        return self._recent

    def replicas(self, stored_key: bytes) -> tuple[int, ...]:
        """Who is read, by the newest ring."""
        return self.newest.joint.of(_partition(stored_key), self._n).replicas

    def homes(self, stored_key: bytes) -> tuple[int, ...]:
        """Who keeps a key, by the newest ring."""
        return self.newest.joint.of(_partition(stored_key), self._n).homes

    def keepers(self, stored_key: bytes) -> dict[int, bool]:
        """Who keeps a key by any ring of late."""
        partition = _partition(stored_key)
        found: dict[int, bool] = {}
        for known in self.recent():
            found.update(dict.fromkeys(known.joint.of(partition, self._n).homes, True))
        return found

    def staying(self, stored_key: bytes) -> list[int]:
        """Who keeps a key by the newest ring, on both its sides."""
        sides = self.newest.joint.of(_partition(stored_key), self._n).sides
        return [number for number in sides[0] if all(number in side for side in sides)]

    def targets(self, home: int, stored_key: bytes) -> list[list[int]]:
        """Whom a hint for `home` has to reach, by each ring of late."""
        partition = _partition(stored_key)
        found = []
        for known in self.recent():
            homes = known.joint.of(partition, self._n).homes
            found.append([home] if home in homes else list(homes))
        return found


def _partition(stored_key: bytes) -> int:
    return int.from_bytes(stored_key[:2], "big")
