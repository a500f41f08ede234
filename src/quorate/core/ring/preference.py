"""Preference lists: which members hold a partition, and who stands in when they do not answer.

The list of a partition is found by walking the ring clockwise from its token (DeCandia et al., SOSP 2007, §4.3 and
§6.2). The walk meets every member once; three passes over it give one total order of all members:

1. members that bring a host and a zone that no earlier one brought,
2. members that bring at least a host that no earlier one brought,
3. the rest.

Each pass keeps the walk's order. The first `n` of that order are the replicas and the others are the fallbacks.

Invariants:
- the partition's owner comes first;
- replicas never share a host while there are at least `n` hosts (hard case 17), and span as many zones as they can;
- the order does not depend on `n`, so raising a bucket's `n` adds replicas and replaces none;
- every member is in the list exactly once, also one that owns no token (hard case 18: a list is never empty).

Walks are not made by going around the ring. The walk of a partition is the owners from there to some later partition
and then the walk of that one, each member where it comes first. So a few *anchors* are walked once, backwards around
the ring, and every other walk is short, however seldom some member's tokens are.

Rejected: a table for all partitions made at once. A ring of 16384 partitions and 1024 members would cost seconds and
over 100 MB; lists are made when first asked for, and a lookup after that is an index into a list.
"""

from __future__ import annotations

import msgspec

from quorate.core.limits import REPLICAS_MAX
from quorate.core.ring.ring import Ring

ANCHOR_DISTANCE = 32
"""Partitions from one anchor to the next: the anchors take as much memory as the ring's owners for 32 members, and a
walk costs about as much as its dictionary."""

Replicas = tuple[int, ...]


class PreferenceList(msgspec.Struct, frozen=True, gc=False):
    """Who serves one partition. Members are named by their numbers."""

    replicas: Replicas
    """The home replicas, the partition's owner first; fewer than n only if the cluster has fewer members."""
    fallbacks: tuple[int, ...]
    """Every other member, in the order in which they stand in for an unreachable replica."""


class PreferenceLists:
    """The preference lists of one ring, each made once and kept for the life of this object."""

    def __init__(self, ring: Ring) -> None:
        self._owners = ring.owners
        self._labels = {member.number: (member.host, member.zone) for member in ring.members}
        self._hosts = len({host for host, _ in self._labels.values()})
        self._zones = len({zone for _, zone in self._labels.values()})
        self._walks_as_they_are = self._hosts == len(self._labels) and self._zones in (1, len(self._labels))
        self._anchors = _anchors(ring.owners, sorted(self._labels))
        self._lists: dict[int, list[PreferenceList | None]] = {}
        self._replicas: dict[int, list[Replicas | None]] = {}

    def of(self, partition: int, n: int) -> PreferenceList:
        """The list of `partition` (0…Q−1) for `n` replicas (1…16)."""
        lists = self._lists.get(n)
        if lists is None:
            _check_count(n)
            lists = self._lists[n] = [None] * len(self._owners)
        found = lists[partition]
        if found is None:
            order = self._order(partition, len(self._labels))
            found = lists[partition] = PreferenceList(tuple(order[:n]), tuple(order[n:]))
        return found

    def replicas(self, partition: int, n: int) -> Replicas:
        """`of(partition, n).replicas`, for a fraction of the price where nobody wants to know the fallbacks."""
        known = self._replicas.get(n)
        if known is None:
            _check_count(n)
            known = self._replicas[n] = [None] * len(self._owners)
        found = known[partition]
        if found is None:
            found = known[partition] = tuple(self._order(partition, n)[:n])
        return found

    def _walk(self, partition: int) -> list[int]:
        """All members in the order in which the walk from `partition` meets them."""
        assert 0 <= partition < len(self._owners), f"the ring has no partition {partition}"
        block = partition // ANCHOR_DISTANCE + 1
        return list(dict.fromkeys(self._owners[partition : block * ANCHOR_DISTANCE] + self._anchors[block]))

    def _order(self, partition: int, count: int) -> list[int]:
        """The order of the members (see the module's text), right in its first `count` places.

        A pass ends as soon as it can find nobody else: in most clusters there are few zones, or as many hosts as
        members.
        """
        walk = self._walk(partition)
        if self._walks_as_they_are:
            return walk
        hosts: dict[str, bool] = {}
        zones: dict[str, bool] = {}
        order: list[int] = []
        rest: list[int] = []
        for place, number in enumerate(walk):
            if len(zones) == self._zones or len(hosts) == self._hosts or len(order) == count:
                rest += walk[place:]
                break
            host, zone = self._labels[number]
            if host in hosts or zone in zones:
                rest.append(number)
            else:
                hosts[host] = zones[zone] = True
                order.append(number)
        shared_host: list[int] = []
        for place, number in enumerate(rest):
            if len(hosts) == self._hosts or len(order) == count:
                shared_host += rest[place:]
                break
            host = self._labels[number][0]
            if host in hosts:
                shared_host.append(number)
            else:
                hosts[host] = True
                order.append(number)
        return order + shared_host


def _check_count(n: int) -> None:
    assert 1 <= n <= REPLICAS_MAX, f"n must be from 1 to {REPLICAS_MAX}, not {n}"


def _anchors(owners: list[int], members: list[int]) -> list[list[int]]:
    """The walk from every partition p that is a multiple of `ANCHOR_DISTANCE`, by p / `ANCHOR_DISTANCE`; the last one
    is of the first partition after the ring has closed.

    Members that own no token follow all others, ascending.
    """
    blocks = -(-len(owners) // ANCHOR_DISTANCE)
    walk = list(dict.fromkeys(owners + members))
    anchors = [walk]
    for block in reversed(range(blocks)):
        walk = list(dict.fromkeys(owners[block * ANCHOR_DISTANCE : (block + 1) * ANCHOR_DISTANCE] + walk))
        anchors.append(walk)
    return anchors[::-1]
