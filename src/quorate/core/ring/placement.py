"""What a valid ring is, and the reasons for which a plan is refused.

A ring is checked where it is made and may be checked again wherever it arrives from: nothing here depends on how the
owners were chosen. Reasons are written for the operator who asked for the change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from quorate.core.errors import CallerError
from quorate.core.limits import MEMBER_WEIGHT_MAX, MEMBERS_MAX, REPLICAS_MAX, SLOTS
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member, Ring

BALANCE_TOLERANCE = 0.05
"""How far a member may be from its fair share of the tokens, unless one token is more than that."""
MEMBER_NUMBER_MAX = (1 << 16) - 1
"""The number is half of an actor's name in every clock (`core/record.py`): 16 bits."""


def check_partitions(partitions: int, members: int) -> None:
    """Raise `CallerError` unless `partitions` is a power of two, at most 16384 and at least `members`."""
    if not 1 <= partitions <= SLOTS or partitions & (partitions - 1):
        raise CallerError(f"the number of partitions must be a power of two from 1 to {SLOTS}; got {partitions}")
    if partitions < members:
        raise CallerError(f"{members} members need at least as many partitions; got {partitions}")


def check_replicas(n: int) -> None:
    """Raise `CallerError` unless `n` is a possible number of replicas."""
    if not 1 <= n <= REPLICAS_MAX:
        raise CallerError(f"n must be from 1 to {REPLICAS_MAX}; got {n}")


def check_members(members: Sequence[Member]) -> None:
    """Raise `CallerError` unless numbers, ids and names are unique and every member can carry load."""
    if not 1 <= len(members) <= MEMBERS_MAX:
        raise CallerError(f"a cluster has from 1 to {MEMBERS_MAX} members; got {len(members)}")
    numbers: set[int] = set()
    ids: set[str] = set()
    names: set[str] = set()
    for member in members:
        if not 1 <= member.number <= MEMBER_NUMBER_MAX:
            raise CallerError(
                f"a member's number is from 1 to {MEMBER_NUMBER_MAX}; '{member.name}' has {member.number}"
            )
        if member.number in numbers:
            raise CallerError(f"two members have the number {member.number}; numbers are never used twice")
        if member.id in ids:
            raise CallerError(f"two members have the id {member.id}: was a data directory copied?")
        if member.name in names:
            raise CallerError(f"two members are called '{member.name}'; give one of them another name")
        if not 1 <= member.weight <= MEMBER_WEIGHT_MAX:
            raise CallerError(
                f"a member's weight is from 1 to {MEMBER_WEIGHT_MAX}; '{member.name}' has {member.weight}"
            )
        numbers.add(member.number)
        ids.add(member.id)
        names.add(member.name)


def check_ring(ring: Ring, n: int) -> None:
    """Raise `CallerError` with the reason unless `ring` is balanced and places `n` replicas as it must.

    Costs one preference list for each partition.
    """
    check_replicas(n)
    check_members(ring.members)
    check_partitions(ring.partitions, len(ring.members))
    _check_balance(ring)
    host_of = {member.number: member.host for member in ring.members}
    reachable_hosts = min(n, len(set(host_of.values())))
    lists = PreferenceLists(ring)
    for partition in range(ring.partitions):
        replicas = lists.replicas(partition, n)
        if len({host_of[number] for number in replicas}) < reachable_hosts:
            raise CallerError(f"partition {partition} would have two of its {n} replicas on one host: {replicas}")


def _check_balance(ring: Ring) -> None:
    held = Counter(ring.owners)
    weight = sum(member.weight for member in ring.members)
    for member in ring.members:
        fair_share = ring.partitions * member.weight / weight
        if abs(held.pop(member.number, 0) - fair_share) > max(1.0, BALANCE_TOLERANCE * fair_share):
            raise CallerError(
                f"'{member.name}' would own {ring.owners.count(member.number)} of {ring.partitions} partitions;"
                f" its fair share is {fair_share:.1f}"
            )
    if held:
        raise CallerError(f"partitions are owned by numbers that no member has: {sorted(held)}")
