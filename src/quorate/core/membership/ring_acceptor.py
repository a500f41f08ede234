"""The acceptor: a voter's side of Paxos, for the ring that follows the newest one it knows.

Invariants: it never votes below a promise; it never gives two values its vote in one attempt; it votes on one base at
a time, the newest, because whoever proposes upon an older ring is told the newer one and nothing else. So one promise
and one vote are all that a node has to keep, however long the chain becomes.

Every answer comes as a `Held`, from which it is got only past the disk.

Rejected: keeping the votes on older bases (their rings are decided: nothing can come of them); a separate answer for
"equal ballot, again" (a repeated question gets the same answer, and so a duplicate is harmless).
"""

from __future__ import annotations

from msgspec.structs import replace

from quorate.core.errors import PeerError
from quorate.core.membership.ring_consensus import (
    ROUND_MAX,
    Accept,
    Accepted,
    Assent,
    Prepare,
    Promise,
    Reason,
    Refusal,
    Reply,
    succession_fault,
)
from quorate.core.membership.ring_ledger import Held, Ledger, Memory


class Acceptor:
    """Votes for one node, `number`."""

    __slots__ = ("_ledger", "number")

    def __init__(self, number: int, ledger: Ledger) -> None:
        self.number = number
        self._ledger = ledger

    @property
    def may_vote(self) -> bool:
        """Has this node a vote on what follows its ring, and does it remember how it used it?"""
        state = self._ledger.now
        return self.number in state.ring.voters and state.memory not in (Memory.LOST, Memory.ABSTAINING)

    def on_prepare(self, sender: int, message: Prepare) -> Held[Reply]:
        """Promise, or say why not. Raises `PeerError` for a question that no proposer asks."""
        refused = self._refused(sender, message)
        if refused is not None:
            return refused
        state = self._ledger.now
        self._ledger.change(replace(state, promised=message.ballot))
        return self._ledger.hold(Promise(message.base, message.ballot, state.accepted))

    def on_accept(self, sender: int, message: Accept) -> Held[Reply]:
        """Vote, or say why not. Raises `PeerError` for a value that cannot follow the base, or a second one."""
        refused = self._refused(sender, message)
        if refused is not None:
            return refused
        state, value = self._ledger.now, message.value
        fault = succession_fault(state.ring, value)
        if fault:
            raise PeerError(f"member {sender} proposes a ring that cannot be decided: {fault}")
        if state.accepted is not None and state.accepted.ballot == message.ballot and state.accepted.value != value:
            raise PeerError(f"member {sender} proposes two rings in one attempt, {message.ballot}")
        self._ledger.change(replace(state, promised=message.ballot, accepted=Accepted(message.ballot, value)))
        return self._ledger.hold(Assent(message.base, message.ballot))

    def _refused(self, sender: int, message: Prepare | Accept) -> Held[Reply] | None:
        state, base, ballot = self._ledger.now, message.base, message.ballot
        if ballot.member != sender or not 1 <= ballot.round <= ROUND_MAX:
            raise PeerError(f"member {sender} asks for votes under {ballot}, which is not its own or out of bounds")
        known = state.ring.id
        if base.position < known.position:
            # Held: the newer ring may be a forced one, which nobody else knows before this node's disk does.
            return self._ledger.hold(Refusal(base, ballot, Reason.OUTDATED, ring=state.ring))
        if base.position > known.position:
            return self._ledger.free(Refusal(base, ballot, Reason.BEHIND))
        if base != known:
            return self._ledger.free(Refusal(base, ballot, Reason.FORKED))
        if not self.may_vote:
            return self._ledger.free(Refusal(base, ballot, Reason.ABSTAINS))
        if sender not in state.ring.voters:
            raise PeerError(f"member {sender} proposes a ring and has no vote on the one at {base.position}")
        if ballot < state.promised:
            return self._ledger.free(Refusal(base, ballot, Reason.OUTBID, promised=state.promised))
        return None
