"""Recollection: how a voter that lost its disk comes to vote again.

A wiped voter may have voted on any ring and does not know it; if it voted once more as if it never had, two
majorities could share nobody who remembers, and a version could be decided twice. It must abstain on every ring that
it may have voted on, and the newest of those is not simply the first one it hears of: that may come from a peer which
lags behind by versions.

So it asks the other voters of the ring it knows, B. Had the ring after B been decided before the loss, more than half
of B's voters would have accepted it; without the asker that is ⌊n/2⌋ at least, so among ⌈n/2⌉ others that stand at B,
remember, and accepted nothing, there is nobody left to have made it decided. Then the asker cannot have voted on
anything after B: it abstains on B, and votes from the next ring on.

Whoever is ahead answers with its ring, and the question is put again there. Whoever accepted something keeps the
asker waiting until the ring after B is decided. A voter that abstains on B counts for nothing here.

Where too few others are left to tell (a lone voter; two, of which the other has accepted), the votes are lost like
any lost majority's, and only an operator's force helps.

Rejected: to abstain until the next ring that one hears of, without asking (the peer that told may have lagged). A
guess from what others promised (proposers' ballots are lost with their disks as well).
"""

from __future__ import annotations

from typing import Final

from quorate.core.membership.ring_consensus import RecallAnswer, RecallQuestion, RingValue, value_fault

NONCE_BYTES: Final = 8


class Recollection:
    """One round of asking, upon the ring `base`. Put the questions again, with a new nonce, until it is `done`."""

    __slots__ = ("_blank", "_question", "base", "newer", "number")

    def __init__(self, number: int, base: RingValue, nonce: int) -> None:
        """`nonce`: `NONCE_BYTES` random bytes as an integer, never used before."""
        self.number = number
        self.base = base
        self.newer: RingValue | None = None
        """The newest ring that an answer told of: learn it, and begin again upon it."""
        self._question = RecallQuestion(base.id, nonce)
        self._blank: list[int] = []

    def questions(self) -> list[tuple[int, RecallQuestion]]:
        return [(voter, self._question) for voter in self.base.voters if voter != self.number]

    def on_answer(self, sender: int, answer: RecallAnswer) -> None:
        if answer.base != self._question.base or answer.nonce != self._question.nonce:
            return
        if sender == self.number or sender not in self.base.voters:
            return
        ring = answer.ring
        if ring is not None:
            floor = self.base if self.newer is None else self.newer
            same_cluster = ring.cluster_id == floor.cluster_id
            if same_cluster and ring.position > floor.position and not value_fault(ring):
                self.newer = ring
        elif answer.blank and sender not in self._blank:
            self._blank.append(sender)

    @property
    def done(self) -> bool:
        """It is certain that this node voted on nothing after `base`."""
        count = len(self.base.voters)
        return len(self._blank) >= count - count // 2
