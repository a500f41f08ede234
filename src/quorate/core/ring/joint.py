"""Joint placement: who is read, who is written and whose acknowledgements count while a ring is between two others.

A partition whose set of replicas is the same before and after a plan has one side, and is served as in a steady ring.
Any other has two (see `transition.py`):

- *reads* go to the replicas of one side: before in READ_OLD, after in READ_NEW. R of them make a read.
- *writes* go to the `homes`, the replicas of both sides, and W of *each* side make a write. A member of both sides
  counts for both. So with N = 3, W = 2 and one new replica, the two that stay are enough, or one of them, the one that
  goes and the one that comes.
- *stand-ins*: a fallback that takes a hint for a home counts for the sides of that home, except for a strict write, of
  which only homes count (as in a steady ring; `quorum/joint_put_tally.py` does the counting). The joiner is thereby a
  home like any other: if it dies, what it should have got goes to a fallback as a hint.

Availability (hard case 13). In a sloppy bucket a plan takes nothing away: every dead home, the joiner too, has a
stand-in for both its sides. In a strict one with W < N, writes survive the death of the joiner in each partition where
it is the only newcomer, which is nearly all of them. What they do not survive there is the joiner *and* one of the two
that stay, although before the plan that one failure was no matter. To let the side before decide alone instead would
lose data: the write may be on {2, 3} of before = {1, 2, 3}, and after = {4, 1, 2} may then be read at {4, 1} by someone
to whom READ_NEW has come, unless 4 is filled once more *after* the last such write, which takes a stage of its own that
forbids them. The way out is another: as long as READ_OLD lasts, which is as long as data moves, the plan can be
aborted, which takes a majority and no transfer, and the partition has one side again.

Who may coordinate: the replicas of the side that is read (`coordinates`). A newcomer that is not filled would write
over a value without having seen it. Who keeps records: all homes (`stores`).

Invariants: `replicas` is never empty (hard case 18), has no member twice, and no two on one host if hosts are enough
(hard case 17); fallbacks and homes are disjoint and together are all members.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Ring
from quorate.core.ring.transition import Side, Stage, StagedRing, Transition

Change = tuple[tuple[int, ...], tuple[int, ...]]
"""The replicas before and after, each ascending: all that the rules of `advance.py` need to know of a partition."""


class JointPlacement(msgspec.Struct, frozen=True, gc=False):
    """Who serves one partition, for one n, at one version of the ring. Members are named by their numbers."""

    replicas: tuple[int, ...]
    """Those that are read, in the order of preference: R of them make a read."""
    sides: tuple[tuple[int, ...], ...]
    """(before, after), or one: W of each make a write."""
    homes: tuple[int, ...]
    """Those that are written: `replicas`, and then those of the other side."""
    fallbacks: tuple[int, ...]
    """Everybody else, in the order in which they stand in: those that stay, those that come, those that go."""

    @property
    def changing(self) -> bool:
        return len(self.sides) > 1

    def coordinates(self, number: int) -> bool:
        """Is this member a replica to be asked, so that it may coordinate requests? Others forward them."""
        return number in self.replicas

    def stores(self, number: int) -> bool:
        """Does this member keep the partition's records? If not, it hands over what it has and forgets it."""
        return number in self.homes


class JointPlacements:
    """The placements of one version of the ring, each made when it is first asked for."""

    def __init__(self, ring: Ring) -> None:
        transition = ring.transition if isinstance(ring, StagedRing) else None
        self.ring = ring
        self.transition: Transition | None = transition
        self._made: dict[int, list[JointPlacement | None]] = {}
        self._changes: dict[int, dict[Change, int]] = {}
        if transition is None:
            self._before = self._after = self._read = PreferenceLists(ring)
            self._last_resort: tuple[int, ...] = ()
        else:
            self._before = _lists(ring, transition.before)
            self._after = _lists(ring, transition.after)
            self._read = self._before if transition.stage == Stage.READ_OLD else self._after
            self._last_resort = (*transition.joining, *transition.leaving)

    def of(self, partition: int, n: int) -> JointPlacement:
        """The placement of `partition` (0…Q−1) for buckets with `n` replicas (1…16)."""
        made = self._made.get(n)
        if made is None:
            made = self._made[n] = [None] * self.ring.partitions
        found = made[partition]
        if found is None:
            found = made[partition] = self._make(partition, n)
        return found

    def changes(self, n: int) -> dict[Change, int]:
        """Every pair of replicas before and after that differ → the number of partitions with it, for one n."""
        found = self._changes.get(n)
        if found is None:
            found = self._changes[n] = {}
            for partition in range(self.ring.partitions if self.transition else 0):
                before = self._before.replicas(partition, n)
                after = self._after.replicas(partition, n)
                if before != after:
                    change = tuple(sorted(before)), tuple(sorted(after))
                    if change[0] != change[1]:
                        found[change] = found.get(change, 0) + 1
        return found

    def copies(self, n: int) -> tuple[Counter[int], Counter[int]]:
        """How many partitions each member replicates (before, after), for one n."""
        held: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
        for partition in range(self.ring.partitions):
            held[0].update(self._before.replicas(partition, n))
            held[1].update(self._after.replicas(partition, n))
        return held

    def _make(self, partition: int, n: int) -> JointPlacement:
        read = self._read.of(partition, n)
        if self.transition is None:
            return JointPlacement(read.replicas, (read.replicas,), read.replicas, read.fallbacks)
        before = self._before.replicas(partition, n)
        after = self._after.replicas(partition, n)
        homes = read.replicas
        sides: tuple[tuple[int, ...], ...] = (read.replicas,)
        if sorted(before) != sorted(after):
            sides = (before, after)
            homes = tuple(dict.fromkeys((*homes, *before, *after)))
        last = self._last_resort
        fallbacks = [number for number in read.fallbacks if number not in homes and number not in last]
        fallbacks += [number for number in last if number not in homes]
        return JointPlacement(read.replicas, sides, homes, tuple(fallbacks))


def _lists(ring: Ring, side: Side) -> PreferenceLists:
    """The preference lists of one side: by its own members only, or a joiner might fill up a list that is short."""
    return PreferenceLists(Ring(ring.cluster_id, ring.version, side.members, side.owners))
