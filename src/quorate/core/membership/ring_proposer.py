"""The proposer: one attempt, under one ballot, to have a ring decided that follows `base`.

Prepare, until more than half of the base's voters have promised; then accept, with the value that was accepted under
the highest ballot among them, or with our own if there is none; decided when more than half have assented. An attempt
whose value was taken from another one decides *that* ring: the caller plans again upon it.

An attempt that ends without a decision may still come to be decided, by a later one that meets its votes. So what the
caller knows after it is: nothing, until a ring of that version is decided.

Invariants: only answers to this ballot, upon this base, from its voters, count, and each voter once. Nothing is sent
before the proposer's own promise is durable (`RingChain.begin`), so a restart cannot use the ballot again.

Rejected: giving up at the first refusal (one voter that promised a dead proposer would cost a round each time);
sending again within an attempt (the next attempt does that, and its higher ballot moves on where this one stands).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

from quorate.core.membership.ring_consensus import (
    NO_BALLOT,
    Accept,
    Accepted,
    Assent,
    Ballot,
    Prepare,
    Promise,
    Reason,
    Refusal,
    Reply,
    RingValue,
    majority,
    succession_fault,
    value_fault,
)
from quorate.core.ports import Rng

CATCH_UPS_MAX: Final = 3
"""Times that one attempt sends one voter the base ring."""
ATTEMPTS_MAX: Final = 24
"""Attempts at one operator's command before it is given up: about a minute."""
ATTEMPT_TIMEOUT_MS: Final = 1_000.0
BACKOFF_MIN_MS: Final = 20.0
BACKOFF_MAX_MS: Final = 2_000.0

Outgoing = tuple[int, Prepare | Accept]
"""(member, message). One to the proposer's own node is handed to its own acceptor."""


class End(IntEnum):
    """How an attempt ended."""

    DECIDED = 0
    """`ring` was decided, be it ours or not."""
    OUTBID = 1
    """Too many voters promised a higher ballot, or abstain. Try again after a while, above `highest`."""
    OUTDATED = 2
    """`ring` is newer than the base: learn it, and plan again upon it."""
    LATE = 3
    """Too few answered in time."""


class Outcome(msgspec.Struct, frozen=True):
    end: End
    highest: Ballot
    """The highest ballot that the attempt heard of, its own included."""
    ring: RingValue | None = None


class Proposer:
    """One attempt. `outcome` is None as long as it is under way."""

    __slots__ = ("_assents", "_catch_ups", "_highest", "_promises", "_refusals", "ballot", "base", "outcome", "value")

    def __init__(self, base: RingValue, ballot: Ballot, value: RingValue, own: Accepted | None) -> None:
        """`own` is what the proposer's own acceptor has accepted, told with its durable promise of `ballot`."""
        assert ballot.member in base.voters and not succession_fault(base, value)
        self.base = base
        self.ballot = ballot
        self.value = value
        """What is proposed; another one's value once a promise told of it."""
        self.outcome: Outcome | None = None
        self._promises: dict[int, Accepted | None] = {ballot.member: own}
        self._assents: list[int] | None = None
        """None while promises are gathered."""
        self._refusals: list[int] = []
        self._catch_ups: dict[int, int] = {}
        self._highest = ballot

    def start(self) -> list[Outgoing]:
        """The first messages."""
        messages: list[Outgoing] = [
            (voter, self._question(None)) for voter in self.base.voters if voter != self.ballot.member
        ]
        return messages + self._promised()

    def on_reply(self, sender: int, reply: Reply) -> list[Outgoing]:
        """What to send next; look at `outcome` after it. Late, foreign and repeated replies do nothing."""
        if self.outcome is not None or sender not in self.base.voters or reply.ballot != self.ballot:
            return []
        if reply.base != self.base.id:
            return []
        if isinstance(reply, Refusal):
            return self._on_refusal(sender, reply)
        if isinstance(reply, Promise):
            if self._assents is None and sender not in self._promises and self._plausible(reply.accepted):
                self._promises[sender] = reply.accepted
                return self._promised()
        elif self._assents is not None and sender not in self._assents:
            assert isinstance(reply, Assent)
            self._assents.append(sender)
            if len(self._assents) >= majority(self.base.voters):
                self.outcome = Outcome(End.DECIDED, self._highest, self.value)
        return []

    @property
    def counting(self) -> bool:
        """Could a vote that was given until now still make it decided?"""
        return self._assents is not None and self.outcome is None

    def on_timeout(self) -> None:
        """Time is up for this attempt."""
        if self.outcome is None:
            self.outcome = Outcome(End.LATE, self._highest)

    def _promised(self) -> list[Outgoing]:
        if len(self._promises) < majority(self.base.voters):
            return []
        self.value = chosen(self._promises, self.value)
        self._assents = []
        return [(voter, self._question(None)) for voter in self.base.voters]

    def _question(self, catch_up: RingValue | None) -> Prepare | Accept:
        if self._assents is None:
            return Prepare(self.base.id, self.ballot, catch_up)
        return Accept(self.base.id, self.ballot, self.value, catch_up)

    def _plausible(self, accepted: Accepted | None) -> bool:
        """A vote that no acceptor can have given is not let into a ring."""
        return accepted is None or (accepted.ballot < self.ballot and not succession_fault(self.base, accepted.value))

    def _on_refusal(self, sender: int, refusal: Refusal) -> list[Outgoing]:
        if refusal.reason == Reason.BEHIND:
            sent = self._catch_ups.get(sender, 0)
            if sent >= CATCH_UPS_MAX:
                return []
            self._catch_ups[sender] = sent + 1
            return [(sender, self._question(self.base))]
        ring = refusal.ring
        if refusal.reason == Reason.OUTDATED and ring is not None:
            same_cluster = ring.cluster_id == self.base.cluster_id
            if same_cluster and ring.position > self.base.position and not value_fault(ring):
                self.outcome = Outcome(End.OUTDATED, self._highest, ring)
                return []
        self._highest = max(self._highest, refusal.promised)
        if sender not in self._refusals:
            self._refusals.append(sender)
        if len(self.base.voters) - len(self._refusals) < majority(self.base.voters):
            self.outcome = Outcome(End.OUTBID, self._highest)
        return []


def chosen(promises: dict[int, Accepted | None], own: RingValue) -> RingValue:
    """What may be proposed after these promises: the value with the highest vote; `own` if there is no vote."""
    highest = NO_BALLOT
    value = own
    for accepted in promises.values():
        if accepted is not None and accepted.ballot > highest:
            highest, value = accepted.ballot, accepted.value
    return value


def retry_delay_ms(attempts: int, rng: Rng) -> float | None:
    """How long to wait after so many failed attempts (from 1); None: give up, whether it was done is unknown.

    Random over a span that doubles, so that of two proposers who outbid each other one soon has the time to finish.
    """
    if attempts >= ATTEMPTS_MAX:
        return None
    span_ms = min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2.0**attempts)
    return BACKOFF_MIN_MS + span_ms * rng.random()
