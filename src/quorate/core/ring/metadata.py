"""Cluster metadata: the ring and what buckets declare, as the one value that consensus decides and gossip spreads.

They change seldom and are looked up together for every request, so they have one version: that of the ring. Two
changes made at once through two nodes are one after the other, whatever they are about, and a request that carries a
ring version thereby says which properties it goes by.

`to_value` and `of_value` lead to and from what Paxos sees (`core.membership.ring_consensus.RingValue`). Who may vote on
the next version: the members of the side that is read, those that have stopped for good left out. A newcomer that is
not filled has no vote, so that its death cannot hold up the plan that it is in (hard case 13).

Rejected: the properties as a chain of their own (a plan relies on the n, r and w of all buckets, which would have to be
frozen across two chains); properties merged by version and author, as they were before (of two changes one was lost).
"""

from __future__ import annotations

import msgspec

from quorate.core.buckets import BucketProperties, BucketTable
from quorate.core.errors import CallerError, PeerError
from quorate.core.membership.ring_consensus import RING_BYTES_MAX, RingValue
from quorate.core.ring.advance import Quorum
from quorate.core.ring.ring import Ring
from quorate.core.ring.transition import Side, Stage, StagedRing

BUCKETS_MAX = 10_000
"""Buckets that have properties of their own."""


class ClusterMetadata(msgspec.Struct, frozen=True):
    """All that every node must know alike."""

    ring: StagedRing
    defaults: BucketProperties
    """Of buckets whose properties were not set."""
    buckets: BucketTable = {}

    def properties(self, bucket: bytes) -> BucketProperties:
        return self.buckets.get(bucket, self.defaults)


def read_ring(ring: Ring) -> Ring:
    """The ring as readers see it: the members and owners of the side that is read, and nobody who only joins it.

    The preference lists of this ring are those by which requests are coordinated.
    """
    transition = ring.transition if isinstance(ring, StagedRing) else None
    if transition is None:
        return ring
    side = transition.before if transition.stage == Stage.READ_OLD else transition.after
    return Ring(ring.cluster_id, ring.version, side.members, side.owners)


def quorums(metadata: ClusterMetadata) -> list[Quorum]:
    """Every combination of n, r and w that buckets declare, the defaults included."""
    declared = [metadata.defaults, *metadata.buckets.values()]
    return list(dict.fromkeys(Quorum(found.n, found.r, found.w) for found in declared))


def check_succession(before: ClusterMetadata, after: ClusterMetadata) -> None:
    """Raise `CallerError` if n, r or w of a bucket change while a plan is under way: its proof rests on them."""
    if before.ring.transition is None:
        return
    for bucket in {**before.buckets, **after.buckets, b"": before.defaults}:
        old = before.properties(bucket) if bucket else before.defaults
        new = after.properties(bucket) if bucket else after.defaults
        if (old.n, old.r, old.w) != (new.n, new.r, new.w):
            raise CallerError(
                f"n, r and w cannot be changed while plan {before.ring.transition.plan} is under way; "
                "wait until `quorate transfers` shows none"
            )


def voters(ring: StagedRing) -> tuple[int, ...]:
    """Who decides on what follows `ring` (see the module's text)."""
    members = read_ring(ring).members
    living = sorted(member.number for member in members if member.number not in ring.stopped)
    return tuple(living or sorted(member.number for member in members))


def to_value(metadata: ClusterMetadata, forced: int) -> RingValue:
    """`metadata` for consensus. Raises `CallerError` if it is too large."""
    if len(metadata.buckets) > BUCKETS_MAX:
        raise CallerError(f"{BUCKETS_MAX} buckets have properties of their own, and there may be no more")
    body = msgspec.msgpack.encode(metadata)
    if len(body) > RING_BYTES_MAX:
        raise CallerError(f"ring and bucket properties would take {len(body)} bytes; the limit is {RING_BYTES_MAX}")
    ring = metadata.ring
    return RingValue(ring.cluster_id, forced, ring.version, voters(ring), body)


def of_value(value: RingValue) -> ClusterMetadata:
    """What was decided. Raises `PeerError` if `value` holds no metadata, or says another thing than they do."""
    try:
        metadata = _decode(value.body)
    except (ValueError, RecursionError) as error:
        raise PeerError(f"the ring that was told of cannot be read: {error}") from error
    ring = metadata.ring
    if (ring.cluster_id, ring.version, voters(ring)) != (value.cluster_id, value.version, value.voters):
        raise PeerError("a ring that was told of is not the one that its envelope says")
    sides = [Side(ring.members, ring.owners)]
    if ring.transition is not None:
        sides += [ring.transition.before, ring.transition.after]
    for side in sides:
        members = {member.number: True for member in side.members}
        if not members or not side.owners or len(side.owners) != len(ring.owners):
            raise PeerError("a ring that was told of has no members, or not the same partitions on both sides")
        if any(owner not in members for owner in side.owners):
            raise PeerError("in a ring that was told of, partitions are owned by numbers that no member has")
    return metadata


_decode = msgspec.msgpack.Decoder(ClusterMetadata).decode
