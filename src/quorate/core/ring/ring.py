"""The ring: an immutable, versioned value that says which member owns which partition.

The key space of 16384 slots is cut into Q equal partitions, each of them one token that one member owns (the paper's
strategy 3, §6.2). The preference list of a partition starts at its token and walks clockwise (`preference.py`).
"""

from __future__ import annotations

import msgspec

from quorate.core.limits import SLOTS


class Member(msgspec.Struct, frozen=True):
    """A member of the cluster. Its identity is `id`; names, labels and addresses may change (hard case 21)."""

    number: int
    """Small integer, from 1, never used twice in the life of the cluster: it names the member on the wire."""
    id: str
    """UUID, 32 hexadecimal digits."""
    name: str
    host: str
    """Replicas of a key never share a host while enough hosts exist."""
    zone: str
    weight: int
    peer_address: str
    """host:port"""
    client_address: str
    http_address: str


class Ring(msgspec.Struct, frozen=True):
    """Who owns what, at one version. `owners[p]` is the number of the member that owns partition p."""

    cluster_id: str
    version: int
    members: list[Member]
    owners: list[int]

    @property
    def partitions(self) -> int:
        """Q, a power of two up to 16384."""
        return len(self.owners)

    def member(self, number: int) -> Member:
        """The member with this number; raises `KeyError`."""
        for member in self.members:
            if member.number == number:
                return member
        raise KeyError(number)

    def partition_of_slot(self, slot: int) -> int:
        return slot * len(self.owners) // SLOTS
