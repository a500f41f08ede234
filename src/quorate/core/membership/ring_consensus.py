"""The ring by consensus: what its parts say to each other, and why there is at most one ring of each version.

The ring is a chain of versions. Each version is one decision of single-decree Paxos among the *voters* of the version
before it; gossip and the announcement only spread what was decided. Dynamo let an administrator's change spread by
gossip alone (DeCandia et al., SOSP 2007, §4.8.1), so two changes at once could meet as two histories; here the second
one finds the first decided, is planned again upon it, and both happen.

The parts, each pure, all of one node's on one `Ledger` (`ring_ledger.py`):

- `Acceptor` (`ring_acceptor.py`) votes on what follows the newest ring it knows, and on nothing else.
- `Proposer` (`ring_proposer.py`) is one attempt to have a ring decided; it ends decided, outbid, outdated or late.
- `RingChain` (`ring_chain.py`) knows the newest decided ring, adopts newer ones, hands them to who lacks them.
- `Recollection` (`ring_recollection.py`) lets a node that lost its votes vote again, and not too early; what
  it has got back is worth at the next ring what `ring_memory.py` says.

To Paxos a ring is opaque: `RingValue` carries who may vote on the next one beside the bytes of the ring itself, and
those bytes are passed on as they came. So the ring may grow fields, and a node of an older version that votes on a
ring, or hands it on, does not make another ring of it by decoding and encoding it.

Invariants, for each base ring (named by position *and* digest, so that forced rings of equal position cannot mix):
- A ballot belongs to one attempt of one member: the attempt begins with that member's own durable promise.
- A vote leaves a node after it is durable (fsynced, not merely written), and is kept until a newer ring is.
- Only votes on the same base count, of its voters, more than half of them. Hence two majorities share a voter, and
  whoever proposes after a decision meets it and proposes it again.

Outside this: `force`, by which an operator replaces a lost majority. It counts up `forced`, which outranks versions.

Rejected: a log (Raft, Multi-Paxos): membership changes a few times a day, a leader's lease costs more than it saves,
and the newest ring says all, so nobody needs the ones before it. Two-phase commit: it waits for the dead.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import msgspec
from xxhash import xxh3_64_intdigest

from quorate.core.limits import FRAME_BYTES_MAX, MEMBERS_MAX, MIB

RING_BYTES_MAX: Final = 4 * MIB
"""Of an encoded ring. 1,024 members and 16,384 partitions, before and after, take well under one."""
ROUND_MAX: Final = 2**40
"""A round beyond this is no round that counting leads to."""

assert 3 * RING_BYTES_MAX < FRAME_BYTES_MAX


class _Value(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What messages are made of. Messages themselves have a tag (see `core.messages`, of whose union they are)."""


class RingId(_Value, frozen=True):
    """One decided ring. Two with equal position and unequal digest are a *fork*, which only `force` can make."""

    forced: int
    version: int
    digest: int

    @property
    def position(self) -> tuple[int, int]:
        """What orders rings: how often the cluster was forced, then the version."""
        return (self.forced, self.version)


class RingValue(_Value, frozen=True):
    """A ring as consensus sees it. `body` is the encoded ring; the members named in `voters` decide the next one."""

    cluster_id: str
    forced: int
    version: int
    voters: tuple[int, ...]
    """Members' numbers, ascending."""
    body: bytes

    @property
    def id(self) -> RingId:
        return RingId(self.forced, self.version, xxh3_64_intdigest(msgspec.msgpack.encode(self)))

    @property
    def position(self) -> tuple[int, int]:
        return (self.forced, self.version)


class Ballot(_Value, frozen=True, order=True):
    """Names one attempt, and orders attempts: by round, then by the number of the member that makes it."""

    round: int
    member: int


NO_BALLOT: Final = Ballot(0, 0)
"""Below every ballot."""


class Accepted(_Value, frozen=True):
    """A vote for `value`, given in the attempt `ballot`."""

    ballot: Ballot
    value: RingValue


class Prepare(_Value, frozen=True, tag=30):
    """Promise to take part in nothing below `ballot`, and tell what you accepted so far.

    `catch_up` is the ring `base` itself, for a voter that said it was behind: then one message brings both, and no
    reordering can part them.
    """

    base: RingId
    ballot: Ballot
    catch_up: RingValue | None = None


class Accept(_Value, frozen=True, tag=31):
    """Vote for `value` as what follows `base`."""

    base: RingId
    ballot: Ballot
    value: RingValue
    catch_up: RingValue | None = None


class Promise(_Value, frozen=True, tag=32):
    base: RingId
    ballot: Ballot
    accepted: Accepted | None


class Assent(_Value, frozen=True, tag=33):
    """The vote that was asked for, durable."""

    base: RingId
    ballot: Ballot


class Reason(IntEnum):
    """Why a voter does not vote."""

    OUTBID = 0
    """It promised `promised`, which is higher."""
    BEHIND = 1
    """It does not know the base ring yet."""
    OUTDATED = 2
    """It knows a ring that is newer than the base: `ring`."""
    ABSTAINS = 3
    """It has no vote on this base, or may have forgotten one."""
    FORKED = 4
    """It knows another ring of the same position; an operator has to force one again."""


class Refusal(_Value, frozen=True, tag=34):
    base: RingId
    ballot: Ballot
    reason: int
    promised: Ballot = NO_BALLOT
    ring: RingValue | None = None


class Announcement(_Value, frozen=True, tag=35):
    """`ring` was decided (or forced)."""

    ring: RingValue


class RecallQuestion(_Value, frozen=True, tag=36):
    """Asked by a voter that lost its memory: could anything that follows `base` have been decided?

    `nonce` is fresh for each recollection: an answer to an earlier life's question proves nothing about the next one.
    """

    base: RingId
    nonce: int


class RecallAnswer(_Value, frozen=True, tag=37):
    base: RingId
    nonce: int
    blank: bool
    """The answerer stands at `base`, remembers all its votes on it, also of lives before, and accepted nothing."""
    ring: RingValue | None = None
    """The newest ring the answerer knows, if it is newer than `base`."""
    quiet: bool = False
    """The answerer stands at `base`, knows of nothing that it accepted, and is not counting votes."""
    lost: bool = False
    """It remembers no life before this one: its memory is LOST, or FOUNDING."""
    promised: Ballot = NO_BALLOT
    """The highest ballot that the answerer took part in, upon `base`: not to be used again."""


class RingAsk(_Value, frozen=True, tag=38):
    """Send me your ring (an `Announcement`) if it is newer than the one at this position."""

    forced: int
    version: int


Reply = Promise | Assent | Refusal


def majority(voters: Sequence[int]) -> int:
    """How many of these are more than half."""
    return len(voters) // 2 + 1


def value_fault(value: RingValue) -> str:
    """What is wrong with a ring value that came from elsewhere; empty if nothing is."""
    if len(value.body) > RING_BYTES_MAX:
        return f"the ring has {len(value.body)} bytes, more than the {RING_BYTES_MAX} that one may have"
    if not 1 <= len(value.voters) <= MEMBERS_MAX:
        return f"the ring has {len(value.voters)} voters; it takes 1 to {MEMBERS_MAX}"
    if list(value.voters) != sorted(set(value.voters)) or value.voters[0] < 1:
        return f"the ring's voters are not distinct ascending member numbers: {value.voters}"
    if value.version < 1 or value.forced < 0:
        return f"the ring's position is {value.position}, which no ring has"
    return ""


def succession_fault(base: RingValue, value: RingValue) -> str:
    """Why `value` cannot be what the voters of `base` decide; empty if it can."""
    if value.cluster_id != base.cluster_id:
        return f"the ring is of the cluster {value.cluster_id}, and this one is {base.cluster_id}"
    if value.position != (base.forced, base.version + 1):
        return f"a ring at {value.position} (forced, version) does not follow the one at {base.position}"
    return value_fault(value)
