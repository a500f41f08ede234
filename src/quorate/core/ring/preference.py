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

Rejected: a table for all partitions made at once. A ring of 16384 partitions and 1024 members would cost seconds and
over 100 MB; lists are made when first asked for, and a lookup after that is an index into a list.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from quorate.core.limits import REPLICAS_MAX
from quorate.core.ring.ring import Member, Ring


class PreferenceList(msgspec.Struct, frozen=True, gc=False):
    """Who serves one partition. Members are named by their numbers."""

    replicas: tuple[int, ...]
    """The home replicas, the partition's owner first; fewer than n only if the cluster has fewer members."""
    fallbacks: tuple[int, ...]
    """Every other member, in the order in which they stand in for an unreachable replica."""


class PreferenceLists:
    """The preference lists of one ring, each made once and kept for the life of this object."""

    def __init__(self, ring: Ring) -> None:
        self._partitions = ring.partitions
        self._owners_twice = ring.owners + ring.owners
        self._members = {member.number: member for member in ring.members}
        self._tokenless = sorted(self._members.keys() - set(ring.owners))
        self._lists: dict[int, list[PreferenceList | None]] = {}

    def of(self, partition: int, n: int) -> PreferenceList:
        """The list of `partition` (0…Q−1) for `n` replicas (1…16)."""
        lists = self._lists.get(n)
        if lists is None:
            assert 1 <= n <= REPLICAS_MAX, f"n must be from 1 to {REPLICAS_MAX}, not {n}"
            lists = self._lists[n] = [None] * self._partitions
        return lists[partition] or self._make(lists, partition, n)

    def _make(self, lists: list[PreferenceList | None], partition: int, n: int) -> PreferenceList:
        assert 0 <= partition < self._partitions, f"the ring has no partition {partition}"
        walk = dict.fromkeys(self._owners_twice[partition : partition + self._partitions])
        order = spread(self._members[number] for number in [*walk, *self._tokenless])
        made = lists[partition] = PreferenceList(tuple(order[:n]), tuple(order[n:]))
        return made


def spread(walk: Iterable[Member]) -> list[int]:
    """The numbers of the members of `walk`, those first that bring new hosts and zones (see the module's text)."""
    hosts: set[str] = set()
    zones: set[str] = set()
    new_zone: list[int] = []
    rest: list[Member] = []
    for member in walk:
        if member.host in hosts or member.zone in zones:
            rest.append(member)
        else:
            hosts.add(member.host)
            zones.add(member.zone)
            new_zone.append(member.number)
    new_host: list[int] = []
    shared_host: list[int] = []
    for member in rest:
        if member.host in hosts:
            shared_host.append(member.number)
        else:
            hosts.add(member.host)
            new_host.append(member.number)
    return new_zone + new_host + shared_host
