"""What the replicas of a key answered to a get, and what follows (SOSP 2007, §4.5).

One replica, usually the coordinator itself, gives its full record, the others a digest. When R have answered, every
digest that no full record explains must be fetched in full; then the records are merged by `sync`, and each replica
whose digest is not the merged record's is behind and wants repair.

Pure: replies in, a verdict out. "Absent" is an answer (digest 0) and counts towards R; a failure does not.
Rejected: comparing only the clocks of R full records. It moves R values for each read where one is enough.
"""

from __future__ import annotations

from typing import Final

ABSENT_DIGEST: Final = 0

WAIT: Final = 0
DONE: Final = 1
FETCH: Final = 2
"""R have answered, but some answered with a digest that no full record explains: fetch `unexplained()`."""
FAIL: Final = 3
ASK_ANOTHER: Final = 4
"""A replica failed, and one that was not asked yet can take its place."""


class GetTally:
    """Answers to one get. `unasked` are replicas held in reserve, nearest first."""

    __slots__ = ("answers", "awaited", "bodies", "decided", "failed", "needed", "unasked")

    def __init__(self, needed: int, asked: list[int], unasked: list[int]) -> None:
        assert needed >= 1
        self.needed = needed
        self.awaited = asked
        self.unasked = unasked
        self.answers: dict[int, int] = {}
        self.bodies: dict[int, bytes] = {ABSENT_DIGEST: b""}
        self.failed: list[int] = []
        self.decided = False

    def on_answer(self, member: int, digest: int, body: bytes) -> int:
        """`member` answered with `digest`; `body` is empty if it was not asked in full (or is absent)."""
        if member in self.awaited:
            self.awaited.remove(member)
        elif member not in self.answers:
            return WAIT
        self.answers[member] = digest
        if body:
            self.bodies[digest] = body
        return self._verdict()

    def on_failed(self, member: int) -> int:
        """`member` cannot answer (damaged, fenced, unreachable)."""
        if member in self.awaited:
            self.awaited.remove(member)
            self.failed.append(member)
        elif member in self.answers and self.answers[member] not in self.bodies:
            # It gave a digest and went away before it gave the record: as if it had never answered.
            del self.answers[member]
            self.failed.append(member)
        else:
            return WAIT
        if self.decided:
            return WAIT
        if len(self.answers) + len(self.awaited) >= self.needed:
            return self._verdict()
        if self.unasked:
            return ASK_ANOTHER
        self.decided = True
        return FAIL

    def on_deadline(self) -> int:
        if self.decided:
            return WAIT
        self.decided = True
        return FAIL

    def take_unasked(self) -> int:
        """The next replica in reserve; it is awaited from now on."""
        member = self.unasked.pop(0)
        self.awaited.append(member)
        return member

    def unexplained(self) -> list[int]:
        """One replica for each digest that no full record explains yet."""
        first: dict[int, int] = {}
        for member, digest in self.answers.items():
            if digest not in self.bodies:
                first.setdefault(digest, member)
        return list(first.values())

    def behind(self, digest: int) -> list[int]:
        """The replicas that answered with something else than the merged record's `digest`."""
        return [member for member, answered in self.answers.items() if answered != digest]

    def missing(self) -> list[int]:
        return self.failed + self.awaited

    def _verdict(self) -> int:
        if self.decided or len(self.answers) < self.needed:
            return WAIT
        for digest in self.answers.values():
            if digest not in self.bodies:
                return FETCH
        self.decided = True
        return DONE
