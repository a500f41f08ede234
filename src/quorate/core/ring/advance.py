"""When the next stage of a plan may be decided, and why no acknowledged write is missed by a read of R+W>N.

What is proven: a read with R that succeeds sees every write that was acknowledged with W before the read began, if
both count only homes (strict, or all homes in reach) and R + W is above the number of replicas; whichever versions of
the ring the two coordinators go by, the newest or any older one. And, for any W: no acknowledged write is on none but
nodes that have dropped it.

What it rests on. O and A are the replicas of a partition before and after; o and a, how many they are; versions of the
ring are s (steady, O), 1 (READ_OLD), 2 (READ_NEW), 3 (steady, A).

  F  *Fencing*: a replica carries out a request of version v only while it goes by v itself. It refuses one of an older
     version (`STALE_RING`), and takes over a newer ring, durably, before it does what is asked under it. Its version
     never goes back. This holds for the coordinator's own copy as well.
  T  A write is acknowledged by the rule of its coordinator's version: W of each side (`joint.py`).
  P  a ≥ o, for every n in use: plans that leave fewer replicas are refused (`plan.py`).
  S  *Filling*: a newcomer, in A and not in O, counts a comparison with a replica of O only if both went by version 1
     (or later) when it began; after it, the newcomer has all that the other held then.
  D  A node drops what it holds of a partition only when it has taken over a steady ring that does not place it there.

The rule. Version 2 may be decided when each newcomer is filled from o − W + 1 of O. Version 3 may be decided when
o − R + 1 of O have confirmed version 2 (or later). In both, for every R and W in use, and every partition.

Why it is enough, by the version of the write and that of the read:

  same                        W and R of the same side meet.
  write older, s → 1          the sides that were written and are read are both O: they meet in a node that took the
                              write, before the read began, and still has it (D).
  1 → 2, 1 → 3, 2 → 3         both have A in common: likewise.
  s → 2, s → 3                The write has W nodes X of O, each of which took it before it went by 1 (F). The o−W+1
                              sources of a newcomer meet X in a node that went by 1 when it was compared (S): so each
                              newcomer has it. X ∩ A still has it, too. X lacks at most |O∖A| of them, so at least
                              W − |O∖A| + |A∖O| = W + a − o nodes of A have it, and at most o − W have not; a read asks
                              R > N − W ≥ o − W of A, and meets one that has. This also bars a write from being
                              acknowledged by s later: its W nodes would have to be ones that go by s still, and only
                              W − 1 are left.
  write newer, 1 → s, 2 → s,  the write has W of O at the newer version, acknowledged before the read began. R of O
  2 → 1                       that still go by the older one do not exist (F).
  3 → s, 3 → 1                The write has nobody in O∖A. But version 3 was decided, so o−R+1 of O go by 2 or later,
                              and only R − 1 are left who would answer a read of s or 1.
  3 → 2                       A in common.
  several plans               By induction. After a plan, at least W of A (a ≥ o, by P) have each write of before; so
                              A takes the place of O, and those holders the place of X. Readers of older plans stay
                              barred, since versions do not go back.
  abort, 1 → s'               every write of 1 has W of O; s' reads O. Needs nothing. A newcomer may drop what it got.

It is not more than enough: with one source or one confirmation less, a schedule exists that loses a write or misses
one. The tests find them.

A member of O that has *stopped* for good (the operator's word, not an opinion) answers no read, so it counts as one
that has confirmed. It is no source: what only stopped nodes have is lost, and the rule becomes min(o − W + 1, all that
live), which is the same unless W ≤ the number of stopped ones.

Down, which is an opinion, frees nobody. But beyond the rule a newcomer is compared with every replica of O that is not
down, which costs little, and saves what was written with a smaller W than the bucket's, or reached a node only later.

What this asks of others: confirmations are durable (a node whose disk was wiped must learn the newest ring from a
majority before it answers anything); n, r and w of a bucket do not change while a plan is under way, or the new ones
only count when it is over; what hints hold for a member that goes is handed to the replicas that come (hard case 14).

Rejected: to wait for every member (one dead node would stop every plan for ever, hard case 13); to wait for readers of
s before version 2 (1 → s and 2 → s need nothing, so it would only cost time).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from quorate.core.ring.joint import Change, JointPlacement, JointPlacements
from quorate.core.ring.transition import Stage


class Quorum(msgspec.Struct, frozen=True):
    """One combination of n, r and w that buckets, or requests, use."""

    n: int
    r: int
    w: int

    @property
    def overlaps(self) -> bool:
        """Is it promised that a read sees what was acknowledged before? If not, no reader needs to be barred."""
        return self.r + self.w > self.n


class Waiting(msgspec.Struct, frozen=True):
    """What the next stage waits for, as `transfers` shows it."""

    what: Literal["filling", "confirmation"]
    members: tuple[int, ...]
    """Filling: all of them must be filled. Confirmation: those who have not confirmed; `missing` of them would do, as
    far as the partitions have them in common."""
    missing: int
    """Members that are missing in the partition that lacks the most."""
    partitions: int
    """Partitions that are held up."""

    def text(self, names: Mapping[int, str]) -> str:
        """For a person: `names` maps numbers to names."""
        who = ", ".join(names.get(number, f"member {number}") for number in self.members)
        waiting = "1 partition waits" if self.partitions == 1 else f"{self.partitions} partitions wait"
        several = self.missing > 1
        if self.what == "filling":
            return f"{waiting} until {who} {'hold' if several else 'holds'} all that the replicas before hold"
        any_of = "" if self.missing == len(self.members) else f"{self.missing} of "
        return f"{waiting} until {any_of}{who} {'confirm' if several else 'confirms'} the ring"


def may_advance(
    placements: JointPlacements,
    confirmed: Mapping[int, int],
    filled: Mapping[int, int],
    quorums: Sequence[Quorum],
) -> Waiting | None:
    """What `next_stage` of this ring still waits for; None if it may be decided now.

    `confirmed` is the ring version that each member has taken over durably, `filled` the `began` of the plan that it
    last said it is filled for. Both only grow, so what gossip brought earlier errs to the safe side. `quorums` are all
    that are in use, every bucket's and the cluster's defaults. Down members need no mention: see the module's text.
    """
    transition = placements.transition
    assert transition is not None, "a steady ring has no next stage"
    if transition.stage == Stage.READ_NEW:
        return _unconfirmed(placements, confirmed, [quorum for quorum in quorums if quorum.overlaps])
    unfilled: dict[int, bool] = {}
    partitions = 0
    for n in _replica_counts(quorums):
        for (before, after), count in placements.changes(n).items():
            missing = [number for number in after if number not in before and filled.get(number) != transition.began]
            unfilled.update(dict.fromkeys(missing, True))
            partitions += count if missing else 0
    if unfilled:
        return Waiting("filling", tuple(sorted(unfilled)), len(unfilled), partitions)
    return _unconfirmed(placements, confirmed, quorums)


def sources_awaited(
    placement: JointPlacement,
    compared: Collection[int],
    stopped: Collection[int],
    down: Collection[int],
    quorums: Iterable[Quorum],
) -> list[int]:
    """Whom a newcomer to this placement must still be compared with until its copy counts as filled; empty: it is.

    `compared` are those that it was compared with at `began` or a later version; `down` is this node's own opinion of
    who cannot be asked now; `quorums` are those with the placement's n. The members come in the order of preference,
    those that are down last. If only such are left, filling waits for some of them to come back.
    """
    before = placement.sides[0]
    living = [number for number in before if number not in stopped]
    left = [number for number in living if number not in compared]
    in_reach = [number for number in left if number not in down]
    if len(living) - len(left) >= max((_sources(before, living, quorum) for quorum in quorums), default=1):
        return in_reach
    return in_reach + [number for number in left if number in down]


def _unconfirmed(
    placements: JointPlacements, confirmed: Mapping[int, int], quorums: Sequence[Quorum]
) -> Waiting | None:
    """The confirmations of this stage that are missing, if any."""
    waited_for: dict[int, bool] = {}
    partitions = worst = 0
    for n in _replica_counts(quorums):
        of_n = [quorum for quorum in quorums if quorum.n == n]
        for change, count in placements.changes(n).items():
            lagging, missing = _lagging(placements, change, confirmed, of_n)
            if missing > 0:
                waited_for.update(dict.fromkeys(lagging, True))
                partitions += count
                worst = max(worst, missing)
    return Waiting("confirmation", tuple(sorted(waited_for)), worst, partitions) if waited_for else None


def _lagging(
    placements: JointPlacements, change: Change, confirmed: Mapping[int, int], quorums: Sequence[Quorum]
) -> tuple[list[int], int]:
    """(replicas before that have not confirmed this stage, how many of them are missing) for one set of replicas."""
    transition = placements.transition
    assert transition is not None
    before = change[0]
    living = [number for number in before if number not in transition.stopped]
    lagging = [number for number in living if confirmed.get(number, 0) < transition.since]
    if transition.stage == Stage.READ_OLD:
        needed = max(_sources(before, living, quorum) for quorum in quorums)
        return lagging, needed - (len(living) - len(lagging))
    readers_max = min(quorum.r for quorum in quorums) - 1
    return lagging, len(lagging) - readers_max


def _sources(before: Sequence[int], living: Sequence[int], quorum: Quorum) -> int:
    """How many of the living replicas are in every W of them: o − W + 1, as far as there are so many."""
    return min(max(1, len(before) - quorum.w + 1), len(living))


def _replica_counts(quorums: Iterable[Quorum]) -> list[int]:
    return sorted({quorum.n for quorum in quorums})
