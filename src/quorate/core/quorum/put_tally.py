"""Who has acknowledged a put, and is it decided? (SOSP 2007, §4.5)

Pure: replies in, a verdict out; the coordinator does what the verdict says. A verdict other than WAIT is given once.

Invariants: `acknowledged + len(awaited) + len(failed)` is the number of replicas asked; a put fails only when the
replicas that may still answer cannot make up W.
Rejected: counting replies without names. A duplicate ack (a retried frame) must not count twice, and an error has to
say which replicas did not answer.
"""

from __future__ import annotations

from typing import Final

WAIT: Final = 0
SUCCEED: Final = 1
FAIL: Final = 2


class PutTally:
    """Acks of one put. `awaited` are the replicas that have not answered yet, this node included."""

    __slots__ = ("acknowledged", "awaited", "decided", "failed", "needed")

    def __init__(self, needed: int, coordinator: int, others: tuple[int, ...]) -> None:
        assert needed >= 1
        self.needed = needed
        self.awaited = [coordinator, *others]
        self.acknowledged = 0
        self.failed: list[int] = []
        self.decided = False

    def on_acknowledged(self, member: int) -> int:
        """`member` holds the value durably. SUCCEED when that makes W."""
        if member not in self.awaited:
            return WAIT
        self.awaited.remove(member)
        self.acknowledged += 1
        if self.acknowledged == self.needed and not self.decided:
            self.decided = True
            return SUCCEED
        return WAIT

    def on_failed(self, member: int) -> int:
        """`member` refused or cannot be reached. FAIL when W can no longer be made."""
        if member not in self.awaited:
            return WAIT
        self.awaited.remove(member)
        self.failed.append(member)
        if not self.decided and self.acknowledged + len(self.awaited) < self.needed:
            self.decided = True
            return FAIL
        return WAIT

    def await_also(self, member: int) -> None:
        """`member` was asked to stand in for a replica that is slow or gone (sloppy quorum, §4.6)."""
        assert member not in self.awaited
        self.awaited.append(member)

    def on_deadline(self) -> int:
        """Time is up: whoever has not answered counts as failed."""
        if self.decided:
            return WAIT
        self.decided = True
        return FAIL

    def missing(self) -> list[int]:
        """Replicas that did not acknowledge, for the error message."""
        return self.failed + self.awaited
