"""Hard case 16: a node that had been removed came back and took its tokens again (scylladb#14991, #11217, #5164).

Its old store said that it was a member, gossip believed the newer generation, and what had been deleted since was back.
Here whoever was removed is refused by the handshake, by that name and with a proof, whatever store it comes with; the
ring stays as it is, and the node serves nobody. With real processes: `tests/integration/test_join.py`.
"""

from __future__ import annotations

import pytest

from quorate.core.ports import Space
from quorate.core.record import Context
from quorate.core.store import Failure, GetResult, PutResult, Wish
from quorate.core.wire.handshake import (
    NONCE_BYTES,
    Handshake,
    HandshakeRefused,
    Identity,
    RefusalCode,
    Role,
)
from tests.unit.membership_cluster import KEYS, MembershipCluster

SECRET = b"a secret that all of them share, the removed one too"
REMOVED = 2
DELETED, REWRITTEN = KEYS[:10], KEYS[10:]
WAYS = {
    "left": Wish("leave", "n2"),
    "stopped": Wish("leave", "n2", stopped=True),
    "replaced": Wish("replace", "n2", by="n6", stopped=True),
}
Store = dict[tuple[Space, bytes], bytes]


def copy_of_store(cluster: MembershipCluster) -> Store:
    cluster.nodes[REMOVED]._shared.commits.flush()
    return dict(cluster.engines[REMOVED].data)


def removed(way: str) -> tuple[MembershipCluster, dict[str, Store]]:
    """A cluster that n2 was removed from, all keys deleted or written since, and stores that n2 may come back with."""
    cluster = MembershipCluster(5)
    cluster.stock()
    stores = {"a snapshot": copy_of_store(cluster)}
    cluster.wait_to_join(6)
    if WAYS[way].stopped:
        stores["its last store"] = copy_of_store(cluster)
        cluster.kill(REMOVED)
    cluster.begin(1, WAYS[way])
    if not WAYS[way].stopped:
        cluster.run_until(lambda: cluster.ended == [REMOVED], "it ends")
        stores["its last store"] = dict(cluster.engines[REMOVED].data)
    cluster.until_steady()
    for key in KEYS:
        read = cluster.get(1, key, 2)
        assert isinstance(read, GetResult)
        if key in DELETED:
            assert isinstance(cluster.delete(3, key, read.context), PutResult)
        else:
            assert isinstance(cluster.put(3, key, b"since-" + key, read.context), PutResult)
    cluster.check_agreement()
    return cluster, stores


def shake_hands(cluster: MembershipCluster, host: int) -> HandshakeRefused:
    """The removed node dials a member, as the ring of its store says; what it is told."""
    sides = {}
    for number, role in ((REMOVED, Role.DIALER), (host, Role.ACCEPTOR)):
        ring = cluster.nodes[number].ring()
        own = cluster.own[number]
        identity = Identity(ring.cluster_id, number, own.id, own.name)
        members = {member.number: member for member in ring.members}
        expected = host if role is Role.DIALER else None
        nonce = bytes([number]) * NONCE_BYTES
        sides[number] = Handshake(role, identity, SECRET, members, nonce, expected, ring.departed)
    proof = sides[REMOVED].receive(sides[host].receive(sides[REMOVED].start() or b"") or b"")
    with pytest.raises(HandshakeRefused) as refused:
        sides[host].receive(proof or b"")
    with pytest.raises(HandshakeRefused) as told:
        sides[REMOVED].receive(refused.value.answer or b"")
    return told.value


def values(cluster: MembershipCluster) -> list[list[bytes]]:
    return [cluster.values(number, key, r=2) for number in cluster.running() for key in KEYS]


@pytest.mark.parametrize("store", ["a snapshot", "its last store"])
@pytest.mark.parametrize("way", list(WAYS))
def test_it_is_refused_and_serves_nobody_and_the_ring_stays(way: str, store: str) -> None:
    cluster, stores = removed(way)
    members = cluster.running()
    rings = {number: cluster.nodes[number].ring() for number in members}
    before = values(cluster)
    for number in members if way == "left" else ():
        # As half an hour does: whoever left may come back for so long, to hand over what it has.
        cluster.kill(number)
        cluster.join(number)
        cluster.world.run(100)
    cluster.engines[REMOVED].data = dict(stores[store])
    cluster.sent.clear()
    cluster.join(REMOVED)
    for number in members:
        told = shake_hands(cluster, number)
        assert told.code == RefusalCode.REMOVED and told.proven, "it can be sure of it, and stops"
        assert "n2 (member 2, " in told.reason and "empty data directory" in told.reason
        assert not cluster.linked(REMOVED, number), "nobody keeps a connection with it"
        assert REMOVED not in (cluster.wires[number].members or [])
    cluster.world.run(30_000)
    assert [message for sender, _, message in cluster.sent if sender == REMOVED] == [], "nobody hears it"
    assert "was removed from the cluster" in cluster.nodes[REMOVED]._shared.fenced_because
    for key in KEYS[::7]:
        for answer in (cluster.get(REMOVED, key, 1), cluster.put(REMOVED, key, b"late", Context({}), w=1)):
            assert isinstance(answer, Failure) and answer.kind == "unavailable", answer
    assert {number: cluster.nodes[number].ring() for number in members} == rings
    cluster.kill(REMOVED)
    assert values(cluster) == before
    assert before[: len(KEYS)] == [[]] * len(DELETED) + [[b"since-" + key] for key in REWRITTEN], (
        "nothing of old is back"
    )
    cluster.check_places()


@pytest.mark.parametrize("store", ["a snapshot", "its last store"])
def test_whoever_left_and_is_back_soon_hands_over_and_ends(store: str) -> None:
    """It may have been killed with hints in its store. What it brings of old is known to be old."""
    cluster, stores = removed("left")
    members = cluster.running()
    ring, before = cluster.ring_now(), values(cluster)
    cluster.ended.clear()
    cluster.engines[REMOVED].data = dict(stores[store])
    cluster.join(REMOVED)
    cluster.run_until(lambda: cluster.ended == [REMOVED], "it has nothing to do here")
    assert all(cluster.nodes[number].ring() == ring for number in (*members, REMOVED))
    assert values(cluster) == before
    cluster.check_places()


def test_it_cannot_ask_to_join_under_the_id_that_it_had_and_can_as_a_new_node() -> None:
    cluster, _ = removed("left")
    version = cluster.ring_now().version
    old = cluster.wait_to_join(REMOVED)
    assert "was removed from this cluster" in cluster.refused[old.id]
    refused: object = cluster.call(lambda reply: cluster.nodes[1].plan(Wish("join", "n2"), reply))
    assert isinstance(refused, Failure) and "no node called 'n2' waits to join" in refused.message
    assert cluster.ring_now().version == version
    del cluster.waiting[old.id]
    new = cluster.wait_to_join(REMOVED, id="ef" * 16)
    cluster.begin(1, Wish("join", "n2"))
    cluster.until_steady()
    (joined,) = (member for member in cluster.ring_now().members if member.name == "n2")
    assert (joined.id, joined.number) == (new.id, 6), "with a number that nobody had before"
