"""Claim: who owns which token. A deterministic function of the previous owners and the new member set.

Tokens are dealt, not hashed (DeCandia et al., SOSP 2007, §6.2, strategy 3, with weights). Every member that knows the
previous ring and the new members computes the same owners, so only the member set must be agreed on.

1. *Quotas*: a member's share of the tokens by weight, rounded up or down; who must give is rounded up first.
2. *Giving*: members above their quota, and those that leave, give exactly what is too much, evenly around the ring.
3. *Taking*: the given tokens are dealt to those below their quota (`layout.py`).
4. *Mending*: crowded tokens are swapped, within 5% more moves than the minimum.

Invariants: every member is within one token of its fair share; at most 1.05 times the fewest possible tokens move;
equal input gives equal output, and unchanged members give unchanged owners.

Rejected: a fresh layout for each member set (moves nearly everything), and consistent hashing (moves little, but its
shares spread by tens of per cent).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from quorate.core.errors import CallerError
from quorate.core.ring.layout import UNOWNED, Layout
from quorate.core.ring.placement import check_members, check_partitions, check_replicas
from quorate.core.ring.ring import Member

EXTRA_MOVES_PER_CENT = 5


def claim(previous: Sequence[int] | None, members: Sequence[Member], partitions: int, n: int) -> list[int]:
    """The owner (a member's number) of each of the `partitions`, laid out for `n` replicas.

    `previous` holds the owners of the ring before, who need not be among `members` any more; None makes a first ring.
    Raises `CallerError` with the reason if there is no valid ring for these members.
    """
    check_replicas(n)
    check_members(members)
    check_partitions(partitions, len(members))
    if previous is not None and len(previous) != partitions:
        raise CallerError(f"the ring has {len(previous)} partitions, for ever; it cannot get {partitions}")
    if previous is None:
        layout = Layout([UNOWNED] * partitions, members, n)
        layout.deal(range(partitions), quotas(members, partitions, {}))
        layout.mend(None, 0)
        return layout.owners
    held = Counter(previous)
    quota = quotas(members, partitions, held)
    given = given_places(previous, quota, n)
    owners = list(previous)
    for place in given:
        owners[place] = UNOWNED
    layout = Layout(owners, members, n)
    layout.deal(given, {number: max(0, quota[number] - held[number]) for number in quota})
    layout.mend(previous, len(given) * EXTRA_MOVES_PER_CENT // 100)
    return layout.owners


def quotas(members: Sequence[Member], partitions: int, held: Mapping[int, int]) -> dict[int, int]:
    """Member → how many tokens it shall own: its fair share by weight, rounded up or down; they sum to `partitions`.

    `held` (member → tokens now) decides who is rounded up: first those who would otherwise have to give one more.
    """
    weight = sum(member.weight for member in members)
    quota = {member.number: partitions * member.weight // weight for member in members}
    remainder = {member.number: partitions * member.weight % weight for member in members}
    fractional = [number for number in quota if remainder[number]]
    fractional.sort(key=lambda number: (held.get(number, 0) <= quota[number], -remainder[number], number))
    for number in fractional[: partitions - sum(quota.values())]:
        quota[number] += 1
    return quota


def given_places(previous: Sequence[int], quota: Mapping[int, int], n: int) -> list[int]:
    """The tokens that leave their owner, ascending: the fewest that bring everybody down to their quota.

    Those of members that stay are chosen evenly around the ring and, where that is possible, n apart: what is given
    goes mostly to one newcomer, whose tokens must not crowd.
    """
    held = Counter(previous)
    surplus = {number: held[number] - quota.get(number, 0) for number in sorted(held)}
    given = [place for place, owner in enumerate(previous) if surplus[owner] == held[owner]]
    partly = {number: count for number, count in surplus.items() if 0 < count < held[number]}
    given += _evenly_given(previous, partly, held, n)
    return sorted(given)


def _evenly_given(previous: Sequence[int], surplus: Mapping[int, int], held: Mapping[int, int], n: int) -> list[int]:
    """`surplus[m]` tokens of each member m, one from each of as many equal arcs as there are tokens to give."""
    left = dict(surplus)
    overdue = dict.fromkeys(surplus, 0.0)
    arcs = sum(surplus.values())
    size = len(previous)
    given: list[int] = []
    for arc in range(arcs):
        places = [place for place in range(arc * size // arcs, (arc + 1) * size // arcs) if previous[place] in left]
        for place in places:
            overdue[previous[place]] += surplus[previous[place]] / held[previous[place]]
        candidates = [place for place in places if left[previous[place]]]
        if candidates:
            apart = given[-1] + n if given else 0
            best = min((place < apart, -overdue[previous[place]], place) for place in candidates)[2]
            given.append(best)
            left[previous[best]] -= 1
            overdue[previous[best]] -= 1
    chosen = set(given)
    for owner, count in left.items():
        rest = [place for place in range(size) if previous[place] == owner and place not in chosen]
        given += [rest[index * len(rest) // count] for index in range(count)]
    return given
