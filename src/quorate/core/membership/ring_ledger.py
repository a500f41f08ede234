"""The ledger: what a node must not forget about the ring, and the replies that wait until it is durable.

A vote that leaves before it is on the disk can be taken back by a crash, and then a version can be decided twice. So
nobody here gets a reply to send; they get a `Held`, which gives out the state to save, and the reply only after that.

All of it is *one* value: the newest decided ring and the votes on what follows it. Saved apart, a crash between the
two could leave the ring of an earlier version beside a vote that was already dropped for the later one.

Invariants: the saved ring never goes back; a promise never goes back while the ring stays; `take` always gives the
newest state, so that states written late cannot overwrite later ones.

Rejected: a `save` callback (the disk's answer comes on a later turn of the loop, and the caller has to hold the reply
anyway); handing out state and reply side by side with a comment.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Generic, TypeVar

import msgspec

from quorate.core.membership.ring_consensus import NO_BALLOT, Accepted, Ballot, RingValue

T = TypeVar("T")


class Memory(IntEnum):
    """What a node knows of its own votes. It loses them with its disk, and must not vote as if it had given none."""

    WHOLE = 0
    LOST = 1
    """It may have voted on any ring; it votes on none, until a `Recollection` has told where the cluster stands."""
    ABSTAINING = 2
    """It may have voted on the ring it knows, and on none after that; it votes from the next ring on."""
    RECALLED = 3
    """It votes. But a *forced* ring may be one that it knew before: unless that is ruled out, it is lost then."""
    FOUNDING = 4
    """It votes, since of all who vote on the ring it knows nobody remembers anything: their cluster was made just now.
    Unless a ring comes that is not the next one: somebody remembers more, and it has lost its memory after all."""


class LedgerState(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The durable state. A store in which there is none makes one with `Memory.LOST`, unless the identity of its
    member was made together with it: that one has never voted. So does a store that was set back to a copy of an
    earlier day, which cannot be told from within: its operator has to wipe it.

    The last field is newer than the others: ledgers without it are read. `ring_memory.py` has its rules.
    """

    ring: RingValue
    memory: int
    promised: Ballot = NO_BALLOT
    accepted: Accepted | None = None
    younger_from: int = 0
    """A version: what is forced upon that ring, or a later one, is younger than the loss of memory. 0: not known."""


class Ledger:
    """`now` is what this node goes by; `durable` is what a crash would leave of it, at first what the disk holds."""

    __slots__ = ("_durable_serial", "_serial", "durable", "now")

    def __init__(self, saved: LedgerState) -> None:
        self.now = saved
        self.durable = saved
        self._serial = 0
        self._durable_serial = 0

    def change(self, state: LedgerState) -> None:
        """Go by `state` from now on."""
        before = self.now
        assert state.ring.position >= before.ring.position, "a decided ring is never forgotten"
        assert state.ring.position > before.ring.position or state.promised >= before.promised, "nor is a promise"
        if state != before:
            self.now = state
            self._serial += 1

    def hold(self, reply: T) -> Held[T]:
        """`reply` tells of the state as it is now: it may leave when that is durable."""
        return Held(self, reply, self._serial)

    def free(self, reply: T) -> Held[T]:
        """`reply` promises nothing that a crash could take back."""
        return Held(self, reply, 0)

    def taken(self) -> tuple[LedgerState, int]:
        """The newest state and its serial number."""
        return self.now, self._serial

    def is_durable(self, serial: int) -> bool:
        return serial <= self._durable_serial

    def on_saved(self, state: LedgerState, serial: int) -> None:
        if serial > self._durable_serial:
            self._durable_serial = serial
            self.durable = state


class Held(Generic[T]):
    """A reply that must not leave yet: `take` the state, make it durable, then ask for the reply with `saved`.

    If saving fails, drop this, and the whole chain with it: the node no longer knows what it promised, and begins
    again from what its disk holds.
    """

    __slots__ = ("_ledger", "_reply", "_serial", "_state", "_taken_serial")

    def __init__(self, ledger: Ledger, reply: T, serial: int) -> None:
        self._ledger = ledger
        self._reply = reply
        self._serial = serial
        self._state: LedgerState | None = None
        self._taken_serial = 0

    def take(self) -> LedgerState | None:
        """What must be durable (fsynced) before `saved` is called; None if nothing needs to be."""
        if self._ledger.is_durable(self._serial):
            self._taken_serial = self._serial
            return None
        self._state, self._taken_serial = self._ledger.taken()
        return self._state

    def saved(self) -> T:
        """What `take` gave is durable: the reply."""
        assert self._taken_serial >= self._serial, "the state was not even taken, so it cannot have been saved"
        if self._state is not None:
            self._ledger.on_saved(self._state, self._taken_serial)
        return self._reply
