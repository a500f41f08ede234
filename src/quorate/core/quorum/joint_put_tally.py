"""Who has acknowledged a put to a partition that has two sides, and is it decided? (`ring/joint.py`)

W of each side are needed. Each node that is asked has a *home*: itself, or the one that it stands in for; what it
acknowledges counts for every side of that home, so for both if the home is a replica before and after. As in a steady
ring, it is copies on distinct nodes that count: a slow home and its stand-in are two.

Verdicts and methods are those of `PutTally`, whose promise holds for each side: a verdict other than WAIT is given
once, and the put fails as soon as one side can no longer make up W, whatever the other has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quorate.core.quorum.put_tally import FAIL, SUCCEED, WAIT


class JointPutTally:
    """Acks of one put. `awaited` (node → home) are the nodes that have not answered yet, this one included."""

    __slots__ = ("acknowledged", "awaited", "decided", "failed", "needed", "sides")

    def __init__(self, needed: int, sides: Sequence[Sequence[int]], asked: Mapping[int, int]) -> None:
        assert needed >= 1
        self.needed = needed
        self.sides = sides
        self.awaited = dict(asked)
        self.acknowledged = [0] * len(sides)
        self.failed: list[int] = []
        self.decided = False

    def on_acknowledged(self, member: int) -> int:
        """`member` holds the value durably. SUCCEED when that makes W of every side."""
        home = self.awaited.pop(member, None)
        if home is None:
            return WAIT
        for index, side in enumerate(self.sides):
            self.acknowledged[index] += home in side
        if self.decided or min(self.acknowledged) < self.needed:
            return WAIT
        self.decided = True
        return SUCCEED

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
        homes = self.awaited.values()
        return all(
            acknowledged + sum(home in side for home in homes) >= self.needed
            for acknowledged, side in zip(self.acknowledged, self.sides, strict=True)
        )
