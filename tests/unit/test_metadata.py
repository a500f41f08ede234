"""Cluster metadata: what is decided travels unharmed, and what cannot be is refused with the reason."""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.buckets import BucketProperties
from quorate.core.errors import CallerError, PeerError
from quorate.core.membership.ring_consensus import RingValue
from quorate.core.ring import metadata as module
from quorate.core.ring.advance import Quorum
from quorate.core.ring.create import create_ring
from quorate.core.ring.metadata import (
    ClusterMetadata,
    check_succession,
    of_value,
    quorums,
    read_ring,
    to_value,
    voters,
)
from quorate.core.ring.plan import plan_join, plan_leave, plan_replace, start
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.transition import Side, StagedRing, next_stage, staged
from tests.property.transition_model import member

DEFAULTS = BucketProperties(n=3, r=2, w=2)
QUORUMS = [Quorum(3, 2, 2)]


def ring_of(count: int, partitions: int = 16) -> StagedRing:
    return staged(create_ring("c" * 32, [member(number) for number in range(1, count + 1)], partitions))


def steady(count: int = 4) -> ClusterMetadata:
    return ClusterMetadata(ring_of(count), DEFAULTS, {b"a": BucketProperties(n=1, r=1, w=1)})


def joining(count: int = 3) -> StagedRing:
    return start(ring_of(count), plan_join(ring_of(count), [member(count + 1)], QUORUMS))


def with_ring(ring: StagedRing) -> ClusterMetadata:
    return ClusterMetadata(ring, DEFAULTS)


@pytest.mark.parametrize(
    "found", [steady(), steady(1), with_ring(joining()), with_ring(next_stage(joining()))], ids=["4", "1", "old", "new"]
)
def test_what_is_decided_is_what_was_wanted(found: ClusterMetadata) -> None:
    value = to_value(found, forced=2)
    assert of_value(value) == found
    assert (value.cluster_id, value.position, value.voters) == ("c" * 32, (2, found.ring.version), voters(found.ring))
    assert to_value(of_value(value), 2) == value, "whoever hands it on hands on the same"


def changed(value: RingValue, **changes: object) -> RingValue:
    return msgspec.structs.replace(value, **changes)


def test_a_value_that_is_not_what_its_envelope_says_is_refused() -> None:
    value = to_value(steady(), 0)
    for wrong in (
        changed(value, version=9),
        changed(value, voters=(1, 2, 3)),
        changed(value, cluster_id="d" * 32),
    ):
        with pytest.raises(PeerError, match="not the one that its envelope says"):
            of_value(wrong)


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", msgspec.msgpack.encode([1, 2]), b"\x91" * 100_000])
def test_a_value_that_holds_no_metadata_is_refused(body: bytes) -> None:
    with pytest.raises(PeerError, match="cannot be read"):
        of_value(changed(to_value(steady(), 0), body=body))


def test_a_ring_that_no_node_could_go_by_is_refused() -> None:
    good = ring_of(4)
    joint = joining()
    assert joint.transition is not None
    short = msgspec.structs.replace(joint.transition, after=Side(joint.members, [1]))
    strange = msgspec.structs.replace(joint.transition, after=Side(joint.members, [7] * 16))
    for ring, text in (
        (msgspec.structs.replace(good, owners=[]), "no members, or not the same partitions"),
        (msgspec.structs.replace(good, owners=[9] * 16), "owned by numbers that no member has"),
        (msgspec.structs.replace(joint, transition=short), "not the same partitions"),
        (msgspec.structs.replace(joint, transition=strange), "owned by numbers that no member has"),
    ):
        with pytest.raises(PeerError, match=text):
            of_value(to_value(with_ring(ring), 0))


def test_what_is_too_large_is_refused_before_anybody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    found = steady()
    monkeypatch.setattr(module, "BUCKETS_MAX", 0)
    with pytest.raises(CallerError, match="0 buckets have properties of their own"):
        to_value(found, 0)
    monkeypatch.undo()
    monkeypatch.setattr(module, "RING_BYTES_MAX", 100)
    with pytest.raises(CallerError, match="the limit is 100"):
        to_value(found, 0)


def test_the_largest_cluster_fits() -> None:
    """1,024 members and 16,384 partitions on both sides, and as many buckets as there may be."""
    members = [
        msgspec.structs.replace(member(number), name=f"node-{number}", peer_address=f"10.0.{number >> 8}.1:7600")
        for number in range(1, 1_025)
    ]
    owners = [number % 1_024 + 1 for number in range(16_384)]
    ring = StagedRing("c" * 32, 1, members, owners, last_number=1_024)
    joint = msgspec.structs.replace(joining(), members=members, owners=owners)
    assert joint.transition is not None
    sides = msgspec.structs.replace(joint.transition, before=Side(members, owners), after=Side(members, owners[::-1]))
    buckets = {b"bucket-%d" % number: DEFAULTS for number in range(module.BUCKETS_MAX)}
    value = to_value(ClusterMetadata(msgspec.structs.replace(ring, transition=sides), DEFAULTS, buckets), 0)
    assert of_value(value).buckets == buckets


def test_readers_see_the_side_that_is_read() -> None:
    ring = ring_of(3)
    first = joining()
    second = next_stage(first)
    assert read_ring(ring) is ring
    assert (read_ring(first).members, read_ring(first).owners) == (ring.members, ring.owners)
    assert read_ring(first).version == 2
    assert [one.number for one in read_ring(second).members] == [1, 2, 3, 4]
    assert read_ring(second).owners == second.owners
    for joint in (first, second):
        lists = PreferenceLists(read_ring(joint))
        assert all(lists.of(partition, 3).replicas[0] == joint.owners[partition] for partition in range(16))


def test_who_votes_is_who_is_read_and_lives() -> None:
    """Hard case 13: a joiner that dies holds up nobody's vote on aborting its plan."""
    ring = ring_of(4)
    first = start(ring, plan_replace(ring, [2], [member(5)], QUORUMS))
    assert voters(ring) == voters(first) == (1, 2, 3, 4)
    assert voters(next_stage(first)) == (1, 3, 4, 5)
    assert voters(next_stage(next_stage(first))) == (1, 3, 4, 5)
    assert voters(start(ring, plan_leave(ring, [2], QUORUMS, stopped=True))) == (1, 3, 4)
    nobody = msgspec.structs.replace(joining(), members=[member(1)])
    assert nobody.transition is not None
    alone = msgspec.structs.replace(nobody.transition, before=Side([member(1)], [1] * 16), stopped=[1])
    assert voters(msgspec.structs.replace(nobody, transition=alone)) == (1,), "a ring always has voters"


def test_quorums_are_those_of_all_buckets_each_once() -> None:
    found = ClusterMetadata(
        ring_of(3),
        DEFAULTS,
        {b"same": DEFAULTS, b"one": BucketProperties(n=1, r=1, w=1), b"ttl": BucketProperties(n=3, r=2, w=2, ttl=9)},
    )
    assert quorums(found) == [Quorum(3, 2, 2), Quorum(1, 1, 1)]
    assert found.properties(b"one").n == 1
    assert found.properties(b"any other") == DEFAULTS


def test_while_a_plan_is_under_way_no_bucket_gets_other_replicas_or_quorums() -> None:
    before = ClusterMetadata(joining(), DEFAULTS, {b"a": BucketProperties(n=1, r=1, w=1)})
    other = BucketProperties(n=3, r=1, w=3)
    refused = [
        msgspec.structs.replace(before, defaults=other),
        msgspec.structs.replace(before, buckets={**before.buckets, b"new": other}),
        msgspec.structs.replace(before, buckets={b"a": other}),
        msgspec.structs.replace(before, buckets={}),
    ]
    for after in refused:
        with pytest.raises(CallerError, match="n, r and w cannot be changed while plan"):
            check_succession(before, after)
    allowed = [
        before,
        msgspec.structs.replace(before, ring=next_stage(before.ring)),
        msgspec.structs.replace(before, buckets={**before.buckets, b"new": DEFAULTS}),
        msgspec.structs.replace(before, buckets={b"a": BucketProperties(n=1, r=1, w=1, ttl=60)}),
    ]
    for after in allowed:
        check_succession(before, after)
    for after in refused:
        check_succession(msgspec.structs.replace(before, ring=ring_of(3)), after)
