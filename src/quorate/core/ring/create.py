"""The first ring of a cluster: the only one that is made from nothing.

Every later version is a function of the one before it (`claim`), decided by the members. What is checked here holds
for the life of the cluster: the number of partitions never changes, and numbers and ids are never used twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.core.errors import CallerError
from quorate.core.limits import MEMBERS_MAX, REPLICAS_MAX, SLOTS
from quorate.core.ring.claim import claim
from quorate.core.ring.ring import Member, Ring


def create_ring(cluster_id: str, members: Sequence[Member], partitions: int, n: int = 3) -> Ring:
    """Version 1 of a cluster's ring. `partitions` is Q, `n` the number of replicas that the ring is laid out for.

    Raises `CallerError` with the reason if no valid ring can be made of this.
    """
    check_members(members)
    check_partitions(partitions, len(members))
    if not 1 <= n <= REPLICAS_MAX:
        raise CallerError(f"n must be from 1 to {REPLICAS_MAX}; got {n}")
    return Ring(cluster_id, 1, list(members), claim(None, members, partitions, n))


def check_partitions(partitions: int, members: int) -> None:
    """Raise `CallerError` unless `partitions` is a power of two, at most 16384 and at least `members`."""
    if not 1 <= partitions <= SLOTS or partitions & (partitions - 1):
        raise CallerError(f"the number of partitions must be a power of two from 1 to {SLOTS}; got {partitions}")
    if partitions < members:
        raise CallerError(f"{members} members need at least as many partitions; got {partitions}")


def check_members(members: Sequence[Member]) -> None:
    """Raise `CallerError` unless numbers, ids and names are unique and every member can carry load."""
    if not 1 <= len(members) <= MEMBERS_MAX:
        raise CallerError(f"a cluster has from 1 to {MEMBERS_MAX} members; got {len(members)}")
    numbers: set[int] = set()
    ids: set[str] = set()
    names: set[str] = set()
    for member in members:
        if not 1 <= member.number < 1 << 16:
            raise CallerError(f"a member's number is from 1 to 65535; '{member.name}' has {member.number}")
        if member.number in numbers:
            raise CallerError(f"two members have the number {member.number}; numbers are never used twice")
        if member.id in ids:
            raise CallerError(f"two members have the id {member.id}: is a data directory used, or copied, twice?")
        if member.name in names:
            raise CallerError(f"two members are called '{member.name}'; give one of them another name")
        if member.weight < 1:
            raise CallerError(f"a member's weight is at least 1; '{member.name}' has {member.weight}")
        numbers.add(member.number)
        ids.add(member.id)
        names.add(member.name)
