"""Hard case 20: separate clusters merged silently, since a node of one was pointed at the other (scylladb#14448).

Gossip took the strangers in, and the ring was that of whoever had the newer version. Here every way by which a node or
a ring of another cluster might get in is closed by the cluster's id, even if both have one secret: the handshake, of
members and of those that wait to join, and the ring itself, whoever brings it and however high its version is. Clients
are in `test_20_client_writes_into_another_cluster.py`.
"""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.errors import PeerError
from quorate.core.membership.ring_consensus import Accept, Announcement, Ballot, Prepare, RingValue
from quorate.core.messages import Message
from quorate.core.ring.metadata import of_value, to_value
from quorate.core.store import Wish
from quorate.core.wire.handshake import (
    CANDIDATE,
    NONCE_BYTES,
    Handshake,
    HandshakeRefused,
    Identity,
    RefusalCode,
    Role,
)
from tests.unit.membership_cluster import MembershipCluster

SECRET = b"one secret for both clusters, by mistake"
OTHERS_ID = "d" * 32


def another_ring(cluster: MembershipCluster) -> RingValue:
    """The ring of a cluster whose members have the numbers that ours have, and which is much further on."""
    ours = of_value(cluster.nodes[1]._shared.rings.chain.confirmed)
    ring = msgspec.structs.replace(ours.ring, cluster_id=OTHERS_ID, version=500)
    return to_value(msgspec.structs.replace(ours, ring=ring), 0)


def messages_with(ring: RingValue, cluster: MembershipCluster) -> list[Message]:
    ours, ballot = cluster.nodes[1]._shared.rings.chain.confirmed, Ballot(7, 2)
    next_of_ours = msgspec.structs.replace(ring, version=ours.version + 1)
    return [
        Announcement(ring),
        Prepare(ring.id, ballot, ring),
        Accept(ring.id, ballot, msgspec.structs.replace(ring, version=ring.version + 1), ring),
        Accept(ours.id, ballot, next_of_ours),
    ]


@pytest.mark.parametrize("way", range(4), ids=["told", "to catch up", "to vote upon", "to vote for"])
def test_no_ring_of_another_cluster_is_taken_over_whoever_brings_it(way: int) -> None:
    cluster = MembershipCluster(3)
    cluster.stock()
    before = cluster.nodes[1].ring()
    with pytest.raises(PeerError):
        cluster.nodes[1].on_message(2, messages_with(another_ring(cluster), cluster)[way], 0.0)
    cluster.world.run(5_000)
    assert cluster.nodes[1].ring() == before
    cluster.check_all()
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.until_steady()
    assert cluster.ring_now().version == before.version + 3, "its own decisions go on"


def shake_hands(cluster: MembershipCluster, stranger: Identity) -> HandshakeRefused:
    """The stranger dials n1; what it is told."""
    ring = cluster.nodes[1].ring()
    members = {member.number: member for member in ring.members}
    own = Identity(ring.cluster_id, 1, cluster.own[1].id, cluster.own[1].name)
    expected = None if stranger.number == CANDIDATE else 1
    theirs = Handshake(Role.DIALER, stranger, SECRET, members, bytes(NONCE_BYTES), expected)
    ours = Handshake(Role.ACCEPTOR, own, SECRET, members, b"1" * NONCE_BYTES, None, ring.departed)
    with pytest.raises(HandshakeRefused) as refused:
        theirs.receive(ours.receive(theirs.start() or b"") or b"")
    assert ours.peer is None
    return refused.value


@pytest.mark.parametrize("number", [2, CANDIDATE], ids=["a member", "a candidate that was with the other one before"])
def test_a_node_that_is_pointed_at_the_wrong_cluster_is_refused_by_its_id(number: int) -> None:
    cluster = MembershipCluster(3)
    refused = shake_hands(cluster, Identity(OTHERS_ID, number, f"{2:032x}", "n2"))
    assert refused.code == RefusalCode.WRONG_CLUSTER
    assert OTHERS_ID in refused.reason and cluster.ring.cluster_id in refused.reason
