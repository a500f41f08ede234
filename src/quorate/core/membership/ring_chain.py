"""The chain of rings as one node knows it: its newest link, and the rules by which another is put to it.

A ring that was decided is adopted if it is of this cluster and ranks higher by (forced, version); how many versions
were missed in between does not matter, since a ring is whole. A ring of another cluster is refused (hard case 20).
Two unequal rings of one position exist only if two operators forced at once; each node keeps what it has and says so,
until one of them forces again, which outranks both.

A node counts as having *confirmed* a ring when that is durable, never before: stages are built upon it.

Rejected: keeping earlier rings (nobody may act on them, and who lags wants the newest); settling a fork by digest (it
would silently undo an operator's decision on which writes have been acknowledged since).
"""

from __future__ import annotations

from enum import IntEnum

from msgspec.structs import replace

from quorate.core.errors import CallerError, PeerError, Unavailable
from quorate.core.membership import ring_memory
from quorate.core.membership.ring_acceptor import Acceptor
from quorate.core.membership.ring_consensus import (
    NO_BALLOT,
    ROUND_MAX,
    Accept,
    Announcement,
    Ballot,
    Prepare,
    RecallAnswer,
    RecallQuestion,
    Reply,
    RingId,
    RingValue,
    succession_fault,
    value_fault,
)
from quorate.core.membership.ring_ledger import Held, Ledger, LedgerState, Memory
from quorate.core.membership.ring_proposer import Proposer
from quorate.core.membership.ring_recollection import Recollection


class Verdict(IntEnum):
    """What `learn` made of a ring."""

    ADOPTED = 0
    KNOWN = 1
    OLDER = 2
    FORKED = 3
    """Another ring of the same position. Nothing was changed; an operator has to force one of the two, or a third."""


class RingChain:
    """One node's knowledge of the ring, its vote, and its right to propose. One for each member of a process."""

    __slots__ = ("_acceptor", "_attempt", "_ledger", "number")

    def __init__(self, number: int, saved: LedgerState) -> None:
        """`saved` is what the disk holds. A state that was made just now is made durable first."""
        self.number = number
        self._ledger = Ledger(saved)
        self._acceptor = Acceptor(number, self._ledger)
        self._attempt: Proposer | None = None
        """The latest, which ends when another begins."""

    @property
    def ring(self) -> RingValue:
        """The newest decided ring that this node knows."""
        return self._ledger.now.ring

    @property
    def confirmed(self) -> RingValue:
        """The newest decided ring that this node would still know after a crash."""
        return self._ledger.durable.ring

    @property
    def memory(self) -> Memory:
        """LOST: go through a `Recollection`."""
        return Memory(self._ledger.now.memory)

    @property
    def recollects(self) -> bool:
        """May a `Recollection` still bring something? A node that abstains may come to vote on this very ring."""
        return self.memory in (Memory.LOST, Memory.ABSTAINING)

    @property
    def unfinished(self) -> RingValue | None:
        """What this node voted for and has not seen decided. If that lasts, its proposer is gone: `begin` with it."""
        accepted = self._ledger.now.accepted
        return None if accepted is None else accepted.value

    def learn(self, ring: RingValue) -> Held[Verdict]:
        """`ring` was decided, says a peer or our own attempt. Raises `PeerError` if it cannot have been, here.

        A ring that is known may not be durable yet, so that verdict is held too: past it the ring is confirmed.
        """
        verdict = self._adopt(ring)
        rests_on_disk = verdict in (Verdict.ADOPTED, Verdict.KNOWN)
        return self._ledger.hold(verdict) if rests_on_disk else self._ledger.free(verdict)

    def news_for(self, known: RingId) -> RingValue | None:
        """What a peer that knows `known` lacks; None if it lacks nothing."""
        ring = self.confirmed
        return ring if ring.position > known.position else None

    def behind(self, known: RingId) -> bool:
        """Does the peer that told of `known` know what this node lacks?"""
        return known.position > self.ring.position

    def on_prepare(self, sender: int, message: Prepare) -> Held[Reply]:
        """See `Acceptor`; raises `PeerError`."""
        self._catch_up(sender, message)
        return self._acceptor.on_prepare(sender, message)

    def on_accept(self, sender: int, message: Accept) -> Held[Reply]:
        """See `Acceptor`; raises `PeerError`."""
        self._catch_up(sender, message)
        return self._acceptor.on_accept(sender, message)

    def begin(self, value: RingValue, above: Ballot = NO_BALLOT) -> Held[Proposer]:
        """An attempt to have `value` follow this node's ring; `above` is the highest ballot an earlier one heard of.

        Raises `CallerError` if `value` cannot follow the ring (plan it again), `Unavailable` if this node has no vote
        or may have forgotten one: it could use a ballot for the second time.
        """
        state = self._ledger.now
        fault = succession_fault(state.ring, value)
        if fault:
            raise CallerError(f"this ring cannot be proposed: {fault}; plan the change anew on the present ring")
        if not self._acceptor.may_vote:
            raise Unavailable(f"member {self.number} has no vote at present; give the command to another member")
        ballot = Ballot(max(state.promised.round, above.round) + 1, self.number)
        assert ballot.round <= ROUND_MAX
        self._ledger.change(replace(state, promised=ballot))
        if self._attempt is not None:
            self._attempt.on_timeout()
        self._attempt = Proposer(state.ring, ballot, value, state.accepted)
        return self._ledger.hold(self._attempt)

    def force(self, value: RingValue) -> Held[Announcement]:
        """Put `value` above this node's ring without a vote: an operator says that a majority is lost for good.

        The operator answers for it that nobody else decides or forces; raises `CallerError` if it does not outrank.
        """
        ring = self.ring
        fault = value_fault(value)
        if value.cluster_id != ring.cluster_id:
            fault = f"it is of the cluster {value.cluster_id}, and this one is {ring.cluster_id}"
        if value.forced != ring.forced + 1 or value.version <= ring.version:
            fault = f"it is at {value.position} (forced, version), and must be one and more above {ring.position}"
        if fault:
            raise CallerError(f"this ring cannot be forced: {fault}")
        self._ledger.change(ring_memory.forced(self._ledger.now, value))
        return self._ledger.hold(Announcement(value))

    def on_recall(self, question: RecallQuestion) -> RecallAnswer:
        """Tell a voter that lost its memory how things stand."""
        state = self._ledger.now
        if question.base != state.ring.id:
            return RecallAnswer(question.base, question.nonce, False, self.news_for(question.base))
        counting = self._attempt is not None and self._attempt.counting
        lost = self.memory in (Memory.LOST, Memory.FOUNDING)
        blank = self._acceptor.may_vote and not lost and state.accepted is None
        quiet = state.accepted is None and not counting
        return RecallAnswer(question.base, question.nonce, blank, None, quiet, lost, state.promised)

    def recollect(self, recollection: Recollection) -> Held[None]:
        """Go on with what the recollection brings; it must bring something.

        Does nothing if this node has learned a newer ring since, or has as much already.
        """
        assert recollection.brings_something and recollection.number == self.number
        if self.recollects and recollection.base.id == self.ring.id:
            self._ledger.change(ring_memory.recollected(self._ledger.now, recollection))
        return self._ledger.hold(None)

    def _adopt(self, ring: RingValue) -> Verdict:
        known = self.ring
        fault = value_fault(ring)
        if ring.cluster_id != known.cluster_id:
            fault = f"it is of the cluster {ring.cluster_id}, and this one is {known.cluster_id}"
        if fault:
            raise PeerError(f"the ring that was told of is refused: {fault}")
        if ring.position == known.position:
            return Verdict.KNOWN if ring == known else Verdict.FORKED
        if ring.position < known.position:
            return Verdict.OLDER
        self._ledger.change(ring_memory.adopted(self._ledger.now, ring))
        return Verdict.ADOPTED

    def _catch_up(self, sender: int, message: Prepare | Accept) -> None:
        ring = message.catch_up
        if ring is None:
            return
        if ring.id != message.base:
            raise PeerError(f"member {sender} sent another ring than the one that it proposes upon")
        self._adopt(ring)
