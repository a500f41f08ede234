"""Recollection: how a voter that lost its disk comes to vote again.

A wiped voter may have voted on any ring and does not know it; if it voted once more as if it never had, two
majorities could share nobody who remembers, and a version could be decided twice. It must abstain on every ring that
it may have voted on, and the newest of those is not simply the first one it hears of: that may come from a peer which
lags behind by versions.

So it asks the other voters of the ring it knows, B, and asks again until it knows enough. Four things can come of it.

*Somebody is ahead*: it answers with its ring, and the question is put again there.

*ABSTAINING*, when ⌈n/2⌉ others are blank: they stand at B, remember, and accepted nothing. Had the ring after B been
decided before the loss, more than half of B's voters would have accepted it; without the asker that is ⌊n/2⌋ at least,
and one of the blank ones would be among them. So the asker cannot have voted on anything after B: it abstains on B,
and votes from the next ring on.

*RECALLED*, when, besides, *all* others are quiet: they stand at B, know of nothing accepted, and count no votes. Then
it may vote on B itself, above all ballots that they tell of. What it may have forgotten is harmless: a vote counts only
with the proposer whose attempt it was, and nobody is counting (who begins to count later, counts votes that are given
later); a promise matters to an attempt that was begun, and whoever began one has told of a ballot that is as high. Nor
is a ballot used for the second time: to get to counting, the former life was promised it by one of the blank ones.
Without this a node that lost its disk would have no vote until the ring changes next, which may be in a year, and a
second loss would be a lost majority.

*FOUNDING*, when all others are quiet and none remembers a life before: they are LOST like the asker, or have become
FOUNDING in this way. That is how a new cluster begins, of which no member can know that it has never voted. A lone
voter has nobody to ask. It may have been one of many once, and be told so later: a ring that is not the next one takes
a FOUNDING member's memory away again. (FOUNDING is not blank: half of a new cluster would make the other half abstain.)

Where *all* others stood at B, that is worth something even to one who stays LOST: a ring that is forced upon B is
younger than its loss (`ring_memory.py`).

Whoever accepted something keeps the asker waiting until the ring after B is decided. Where too few others are left to
tell (two, of which the other has accepted; three, of which two were wiped and one remembers), the votes are lost like
any lost majority's, and only an operator's force helps.

Rejected: to abstain until the next ring that one hears of, without asking (the peer that told may have lagged). A
guess from what others promised (proposers' ballots are lost with their disks as well).
"""

from __future__ import annotations

from typing import Final

from quorate.core.membership.ring_consensus import (
    NO_BALLOT,
    ROUND_MAX,
    RecallAnswer,
    RecallQuestion,
    RingValue,
    value_fault,
)
from quorate.core.membership.ring_ledger import Memory

NONCE_BYTES: Final = 8


class Recollection:
    """One round of asking, upon the ring `base`. Put the questions again until there is a `memory`, or a newer ring."""

    __slots__ = ("_blank", "_lost", "_others", "_question", "_quiet", "base", "newer", "number", "promised")

    def __init__(self, number: int, base: RingValue, nonce: int) -> None:
        """`nonce`: `NONCE_BYTES` random bytes as an integer, never used before."""
        self.number = number
        self.base = base
        self.newer: RingValue | None = None
        """The newest ring that an answer told of: learn it, and begin again upon it."""
        self._others = [voter for voter in base.voters if voter != number]
        self._question = RecallQuestion(base.id, nonce)
        self._blank: list[int] = []
        self._quiet: list[int] = []
        self._lost: list[int] = []
        self.promised = NO_BALLOT
        """The highest ballot that anybody took part in upon `base`."""

    def questions(self) -> list[tuple[int, RecallQuestion]]:
        return [(voter, self._question) for voter in self._others]

    def on_answer(self, sender: int, answer: RecallAnswer) -> None:
        if answer.base != self._question.base or answer.nonce != self._question.nonce:
            return
        if sender not in self._others or answer.promised.round >= ROUND_MAX:
            return
        ring = answer.ring
        if ring is not None:
            floor = self.base if self.newer is None else self.newer
            same_cluster = ring.cluster_id == floor.cluster_id
            if same_cluster and ring.position > floor.position and not value_fault(ring):
                self.newer = ring
            return
        self.promised = max(self.promised, answer.promised)
        for said, those in ((answer.blank, self._blank), (answer.quiet, self._quiet), (answer.lost, self._lost)):
            if said and sender not in those:
                those.append(sender)

    @property
    def done(self) -> bool:
        """It is certain that this node voted on nothing after `base`."""
        count = len(self.base.voters)
        return len(self._blank) >= count - count // 2

    @property
    def memory(self) -> Memory | None:
        """What this node may go by (see the module's text); None: it has to go on asking."""
        if self.done:
            return Memory.RECALLED if self.all_stand else Memory.ABSTAINING
        nothing_to_remember = self.all_stand and len(self._lost) == len(self._others)
        return Memory.FOUNDING if nothing_to_remember else None

    @property
    def brings_something(self) -> bool:
        """A memory, or that of a forced ring it will be known to be younger than the loss."""
        return self.memory is not None or self.all_stand

    @property
    def heard(self) -> int:
        """How many other voters stand where this node stands, and know of nothing that was accepted."""
        return len({*self._blank, *self._quiet})

    @property
    def all_stand(self) -> bool:
        """All other voters stood at `base` after the loss, and knew of nothing that was accepted."""
        return len(self._quiet) == len(self._others)
