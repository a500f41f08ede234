"""The ring, as a Redis Cluster client is to see it: ranges of slots, each with one coordinator and no replicas.

The coordinator of a partition is the first member of its preference list that this node can reach, so clients that
refresh their slots route around a dead node. Replicas are never listed: some clients fix a node's role the first time
they see it, and would send it no writes once it has become a coordinator.

While a change of membership is under way, the ring here is the side that is read: who joins is not in it before it
serves reads, and who leaves is not in it any more once others do.

The view is made again only when the ring, the default bucket's n or the reachability of a member has changed. Buckets
with another n begin their preference lists with the same members, so they share these coordinators.

Rejected: answering MOVED for a key of another coordinator. Any node answers for any key; a redirect would cost a round
trip and could loop while nodes disagree about who is reachable.
"""

from __future__ import annotations

import msgspec

from quorate.core.keyspace import DEFAULT_BUCKET
from quorate.core.limits import SLOTS
from quorate.core.ring.metadata import read_ring
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member, Ring
from quorate.core.ring.transition import Departed
from quorate.core.store import Store

_NODE_ID_DIGITS = 40


class SlotRange(msgspec.Struct, frozen=True):
    first: int
    last: int
    """Inclusive."""
    coordinator: Member


class View(msgspec.Struct, frozen=True):
    ring: Ring
    """The side that is read."""
    ranges: list[SlotRange]
    """In order, covering all slots, neighbours with different coordinators."""
    reachable: frozenset[int]

    def ranges_of(self, member: int) -> list[SlotRange]:
        return [found for found in self.ranges if found.coordinator.number == member]


class Topology:
    """The slot map of `store`'s ring."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key: tuple[int, int, tuple[bool, ...]] | None = None
        self._view: View | None = None
        self._lists: tuple[int, PreferenceLists] | None = None

    def view(self) -> View:
        """The current view; the very same object as long as nothing has changed."""
        store = self._store
        ring = read_ring(store.ring())
        n = store.bucket_properties(DEFAULT_BUCKET).n
        up = tuple([store.reachable(member.number) for member in ring.members])
        if self._view is None or self._key != (ring.version, n, up):
            reachable = frozenset(member.number for member, is_up in zip(ring.members, up, strict=True) if is_up)
            self._view = View(ring, self._ranges(ring, n, reachable), reachable)
            self._key = (ring.version, n, up)
        return self._view

    def _ranges(self, ring: Ring, n: int, reachable: frozenset[int]) -> list[SlotRange]:
        if self._lists is None or self._lists[0] != ring.version:
            self._lists = (ring.version, PreferenceLists(ring))
        lists = self._lists[1]
        members = {member.number: member for member in ring.members}
        slots_each = SLOTS // ring.partitions
        ranges: list[SlotRange] = []
        for partition in range(ring.partitions):
            preference = lists.of(partition, n)
            candidates = preference.replicas + preference.fallbacks
            number = next((member for member in candidates if member in reachable), candidates[0])
            first = partition * slots_each
            if ranges and ranges[-1].coordinator.number == number:
                first = ranges.pop().first
            ranges.append(SlotRange(first, (partition + 1) * slots_each - 1, members[number]))
        return ranges


def node_id(member: Member | Departed) -> str:
    """A Redis node id, 40 hexadecimal digits, that is the member's own id in front."""
    return member.id.ljust(_NODE_ID_DIGITS, "0")[:_NODE_ID_DIGITS]


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of "host:port" or "[IPv6]:port"."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)
