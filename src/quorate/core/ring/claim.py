"""Claim: who owns which token. A deterministic function of the previous owners and the new member set.

Tokens are dealt, not hashed (the paper's strategy 3, SOSP 2007 §6.2, with weights): a member's quota is its share of
the tokens by weight, rounded up or down, so that every member is within one token of its fair share.
"""

from __future__ import annotations

from collections.abc import Sequence

from quorate.core.ring.ring import Member


def quotas(members: Sequence[Member], partitions: int, held: dict[int, int]) -> dict[int, int]:
    """How many tokens each member shall own: its fair share by weight, rounded; the sum is `partitions`.

    `held` (member → tokens now) decides who is rounded up: first those that would otherwise have to give a token.
    """
    weight = sum(member.weight for member in members)
    quota = {member.number: partitions * member.weight // weight for member in members}
    short = partitions - sum(quota.values())
    remainder = {member.number: partitions * member.weight % weight for member in members}
    fractional = [number for number in quota if remainder[number]]
    fractional.sort(key=lambda number: (held.get(number, 0) <= quota[number], -remainder[number], number))
    for number in fractional[:short]:
        quota[number] += 1
    return quota


def claim(previous: Sequence[int] | None, members: Sequence[Member], partitions: int, n: int) -> list[int]:
    """The owner of each partition."""
    assert previous is None
    quota = quotas(members, partitions, {})
    hosts = {member.number: member.host for member in members}
    zones = {member.number: member.zone for member in members}
    dealt = dict.fromkeys(quota, 0)
    owners: list[int] = []
    for _ in range(partitions):
        recent = owners[-(n - 1) :] if n > 1 else []
        recent_hosts = [hosts[number] for number in recent]
        recent_zones = [zones[number] for number in recent]
        best = min(
            (number for number in quota if dealt[number] < quota[number]),
            key=lambda number: (
                recent_hosts.count(hosts[number]),
                recent_zones.count(zones[number]),
                (2 * dealt[number] + 1) / (2 * quota[number]),
                number,
            ),
        )
        dealt[best] += 1
        owners.append(best)
    return owners
