"""Who has acknowledged a put to a partition that has two sides, and is it decided? (`ring/joint.py`)

W of each side are needed. Each node that is asked has a *home*: itself, or the one that it stands in for; what it
acknowledges counts for every side of that home, so for both if the home is a replica before and after. As in a steady
ring, it is copies on distinct nodes that count: a slow home and its stand-in are two.

Where a home of one side is gone and every member that could stand in is a home of the other side (three nodes, a fourth
that joins, and one of the two is down), that side *borrows*: a copy that counts only for the other side counts for it,
one for each home that is gone and has its hint somewhere. These are still copies on W distinct nodes, with hints on
their way to those that lack it, which is what a sloppy quorum is; a strict put borrows nothing.

Verdicts and methods are those of `PutTally`, whose promise holds for each side: a verdict other than WAIT is given
once, and the put fails as soon as one side can no longer make up W, whatever the other has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from quorate.core.quorum.put_tally import FAIL, SUCCEED, WAIT


class JointPutTally:
    """Acks of one put. `awaited` (node → home) are the nodes that have not answered yet, this one included."""

    __slots__ = ("acknowledged", "awaited", "borrowed", "decided", "elsewhere", "failed", "needed", "sides")

    def __init__(
        self, needed: int, sides: Sequence[Sequence[int]], asked: Mapping[int, int], gone: Sequence[int] = ()
    ) -> None:
        """`gone`: homes that nobody can stand in for, whose hints are kept."""
        assert needed >= 1
        self.needed = needed
        self.sides = sides
        self.awaited = dict(asked)
        self.acknowledged = [0] * len(sides)
        self.elsewhere = [0] * len(sides)
        """For each side: copies that are for homes of the other side alone."""
        self.borrowed = [sum(home in side for home in gone) for side in sides]
        """For each side: how many of those it may count."""
        self.failed: list[int] = []
        self.decided = False

    def on_acknowledged(self, member: int) -> int:
        """`member` holds the value durably. SUCCEED when that makes W of every side."""
        home = self.awaited.pop(member, None)
        if home is None:
            return WAIT
        for index, side in enumerate(self.sides):
            counts = home in side
            self.acknowledged[index] += counts
            self.elsewhere[index] += not counts and home != 0
        return self._judged()

    def lend(self, home: int) -> int:
        """`home` is gone, and nobody is left to stand in for it. SUCCEED if what there is makes W of every side now."""
        for index, side in enumerate(self.sides):
            self.borrowed[index] += home in side
        return self._judged()

    def _judged(self) -> int:
        if self.decided or not all(self._makes(index, ()) for index in range(len(self.sides))):
            return WAIT
        self.decided = True
        return SUCCEED

    def _makes(self, index: int, homes: Iterable[int]) -> bool:
        """Would this side have W if nodes acknowledged for `homes` as well?"""
        side = self.sides[index]
        counting, other = self.acknowledged[index], self.elsewhere[index]
        for home in homes:
            counting += home in side
            other += home not in side and home != 0
        return counting + min(self.borrowed[index], other) >= self.needed

    def on_failed(self, member: int) -> int:
        """`member` refused or cannot be reached. FAIL when some side can no longer make up W."""
        if self.awaited.pop(member, None) is None:
            return WAIT
        self.failed.append(member)
        if self.decided or self.possible():
            return WAIT
        self.decided = True
        return FAIL

    def await_also(self, member: int, home: int) -> None:
        """`member` was asked to stand in for `home`, which is slow or gone (sloppy quorum, SOSP 2007, §4.6)."""
        assert member not in self.awaited
        self.awaited[member] = home

    def on_deadline(self) -> int:
        """Time is up: whoever has not answered counts as failed."""
        if self.decided:
            return WAIT
        self.decided = True
        return FAIL

    def missing(self) -> list[int]:
        """Nodes that did not acknowledge, for the error message."""
        return self.failed + list(self.awaited)

    def possible(self) -> bool:
        """May every side still get its W? If not at the start, nothing need be sent."""
        return all(self._makes(index, self.awaited.values()) for index in range(len(self.sides)))
