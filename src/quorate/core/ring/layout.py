"""Layout: the order of the owners around the ring, chosen so that replicas come out as even as tokens.

If any n consecutive tokens lie on distinct hosts, each partition's replicas are simply the next n tokens, so a member
holds exactly n replicas for each token that it owns, and even tokens mean even load. Where two of them share a host
the walk skips one, and its load falls on whoever comes next. So *crowding* is counted: pairs of tokens less than n
apart that share a host (or, much lighter, a zone).

Tokens are dealt in ring order: each goes to the member that is most behind its quota, where a member that would
crowd counts as less behind. That is even for any weights, and it finds the rotation when nothing else fits (three
hosts, n = 3). The order is varied from round to round: in a plain rotation each member has the same neighbours
everywhere, so when it leaves, all its tokens must go to the few members that are not among them, and in uneven zones
the same members are always skipped. What is left, most often at the seam where the ring closes, is mended by swapping
pairs of owners.

Correctness never rests on this: the walk over the preference list skips repeated hosts whatever the layout is.

Rejected: random tokens (the paper's strategies 1 and 2 show the imbalance); an exact solver (claim must give the same
answer on every member, quickly, and a seam with two crowded tokens costs a fraction of a per cent).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorate.core.ring.ring import Member

HOST_CROWDING = 100
ZONE_CROWDING = 1
HOST_PENALTY_TOKENS = 4.0
"""A member must be this many tokens behind its quota before it is dealt one that crowds a host."""
ZONE_PENALTY_TOKENS = 1.0
VARIATION_TOKENS = 1.0
"""How far chance moves a member in the order of dealing (see the module's text)."""
SWAPS_TRIED_MAX = 8_000
"""Bounds the time of the mending to a fraction of a second, also when hosts are so uneven that crowding must remain."""
SWAP_DISTANCE_MAX = 256

UNOWNED = 0


class Layout:
    """A ring whose owners are being chosen. `owners` is read when it is done."""

    def __init__(self, owners: Sequence[int], members: Sequence[Member], n: int) -> None:
        self.owners = list(owners)
        self._reach = n - 1
        self._host = {member.number: member.host for member in members}
        zones = {member.zone for member in members}
        self._zone = {member.number: member.zone if len(zones) > 1 else str(member.number) for member in members}

    def deal(self, places: Sequence[int], tokens: Mapping[int, int]) -> None:
        """Give each member of `tokens` as many of `places` (unowned, ascending) as it says; the numbers add up."""
        assert len(places) == sum(tokens.values()), "as many places as tokens"
        dealt = {number: 0 for number in sorted(tokens) if tokens[number]}
        pace = {number: tokens[number] / len(places) for number in dealt}
        for turn, place in enumerate(places):
            hosts, zones = self._neighbours(place)
            best, best_lag = UNOWNED, 0.0
            for number, count in dealt.items():
                lag = pace[number] * (turn + 1) - count + VARIATION_TOKENS * _varied(turn, number)
                if self._host[number] in hosts:
                    lag -= HOST_PENALTY_TOKENS * hosts.count(self._host[number])
                if self._zone[number] in zones:
                    lag -= ZONE_PENALTY_TOKENS * zones.count(self._zone[number])
                if best == UNOWNED or lag > best_lag + 1e-9:
                    best, best_lag = number, lag
            self.owners[place] = best
            dealt[best] += 1
            if dealt[best] == tokens[best]:
                del dealt[best]

    def mend(self, before: Sequence[int] | None, extra_moves: int) -> None:
        """Swap owners where tokens crowd, as long as at most `extra_moves` more tokens leave their owner of `before`.

        Without `before`, every swap is free. Bounded by `SWAPS_TRIED_MAX`.
        """
        tries_left = SWAPS_TRIED_MAX
        size = len(self.owners)
        for place in range(size):
            crowding = self._crowding(place)
            for distance in range(1, min(size, SWAP_DISTANCE_MAX)):
                if not crowding or not tries_left:
                    break
                other = (place - distance) % size
                moves = 0 if before is None else self._moves_of_swap(place, other, before)
                if moves > extra_moves or self.owners[place] == self.owners[other]:
                    continue
                tries_left -= 1
                if self._swap_if_better(place, other, crowding):
                    extra_moves -= moves
                    crowding = self._crowding(place)

    def _neighbours(self, place: int) -> tuple[list[str], list[str]]:
        """Hosts and zones of the owned tokens that are less than n away from `place`."""
        size = len(self.owners)
        around = [self.owners[(place + offset) % size] for offset in range(-self._reach, self._reach + 1)]
        owned = [number for number in around if number != UNOWNED]
        return [self._host[number] for number in owned], [self._zone[number] for number in owned]

    def _crowding(self, place: int) -> int:
        owner = self.owners[place]
        host, zone = self._host[owner], self._zone[owner]
        hosts, zones = self._neighbours(place)
        return HOST_CROWDING * (hosts.count(host) - 1) + ZONE_CROWDING * (zones.count(zone) - 1)

    def _moves_of_swap(self, a: int, b: int, before: Sequence[int]) -> int:
        """How many more tokens are away from their owner of `before` once the owners at `a` and `b` are swapped."""
        owners = self.owners
        now = (owners[a] != before[a]) + (owners[b] != before[b])
        return (owners[b] != before[a]) + (owners[a] != before[b]) - now

    def _swap_if_better(self, a: int, b: int, crowding_at_a: int) -> bool:
        owners = self.owners
        crowding = crowding_at_a + self._crowding(b)
        owners[a], owners[b] = owners[b], owners[a]
        if self._crowding(a) + self._crowding(b) < crowding:
            return True
        owners[a], owners[b] = owners[b], owners[a]
        return False


def _varied(turn: int, number: int) -> float:
    """A number in [0, 1) that looks random and is the same on every machine."""
    mixed = (turn * 0x9E3779B1 ^ number * 0x85EBCA77) & 0xFFFFFFFF
    mixed = (mixed ^ mixed >> 15) * 0x2C1B3C6D & 0xFFFFFFFF
    return (mixed ^ mixed >> 13) / 0x1_0000_0000
