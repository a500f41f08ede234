"""Hard case 16: a node comes back from a snapshot of its disk (scylladb#14991, #11217, #5164).

All its files are whole and their markers agree; only they are of last week. Such a store issued the dots of its later
life once more: a write, acknowledged by two nodes, had the dot of another one, and one of the two was gone everywhere.
"""

from __future__ import annotations

import pytest

from quorate.core.ports import Space
from quorate.core.store import PutResult
from quorate.node.lives import LIVES_KEY
from tests.unit.exchange_cluster import stored_key
from tests.unit.small_cluster import SmallCluster

KEY = b"k"
Snapshot = dict[tuple[Space, bytes], bytes]


def restarted(cluster: SmallCluster, number: int, disk: Snapshot | None = None) -> None:
    cluster.kill(number)
    if disk is not None:
        cluster.engines[number].data = dict(disk)
    cluster.join(number)
    cluster.world.run(100)


def copied(cluster: SmallCluster, number: int) -> Snapshot:
    """A copy of a node's disk, made while the node is stopped."""
    cluster.nodes[number].stop()
    cluster.kill(number)
    disk = dict(cluster.engines[number].data)
    cluster.join(number)
    cluster.world.run(100)
    return disk


def put(cluster: SmallCluster, number: int, value: bytes) -> None:
    assert isinstance(cluster.put(number, KEY, value), PutResult)
    cluster.world.run(100)


def set_up() -> tuple[SmallCluster, Snapshot]:
    cluster = SmallCluster()
    put(cluster, 2, b"1")
    return cluster, copied(cluster, 2)


def test_its_next_write_is_a_new_event() -> None:
    cluster, disk = set_up()
    put(cluster, 2, b"2")
    restarted(cluster, 2, disk)
    put(cluster, 2, b"3")
    for number in (1, 2, 3):
        assert cluster.values(number, KEY, r=3) == [b"1", b"2", b"3"]
    assert cluster.nodes[2]._shared.counters["former_lives_found"] >= 1


@pytest.mark.parametrize("restarts", [1, 3])
def test_restarts_of_the_node_itself_change_nothing(restarts: int) -> None:
    """Each life reserves more epochs than the one before: that is no sign of a copy, and the actors stay."""
    cluster, _ = set_up()
    for _ in range(restarts):
        restarted(cluster, 2)
        put(cluster, 2, b"x")
    record = cluster.nodes[2]._shared.records.base(stored_key(cluster, KEY))[0]
    assert record is not None
    assert len(record.clock) == 1
    assert "former_lives_found" not in cluster.nodes[2]._shared.counters


def test_a_connection_that_is_lost_and_made_again_says_nothing() -> None:
    cluster, _ = set_up()
    for _ in range(3):
        cluster.cut(1, 2)
        cluster.heal()
        cluster.world.run(100)
    assert "former_lives_found" not in cluster.nodes[2]._shared.counters


def test_peers_remember_over_their_own_restarts() -> None:
    cluster, disk = set_up()
    put(cluster, 2, b"2")
    for peer in (1, 3):
        assert (Space.META, LIVES_KEY) in cluster.engines[peer].data
        restarted(cluster, peer)
    restarted(cluster, 2, disk)
    put(cluster, 2, b"3")
    assert cluster.values(1, KEY, r=3) == [b"1", b"2", b"3"]


def test_epochs_that_nobody_heard_of_are_not_issued_again() -> None:
    """The later life had reserved more than it could tell before it died; its clock tells how much that may be."""
    cluster, disk = set_up()
    epochs = cluster.nodes[2]._shared.epochs
    cluster.muted |= {1, 3}
    used = {epochs.mint() for _ in range(40_000)}
    cluster.world.run(10)
    cluster.muted.clear()
    cluster.world.run(1_000)
    restarted(cluster, 2, disk)
    fresh = cluster.nodes[2]._shared.epochs
    assert min(fresh.mint() for _ in range(100)) > max(used)


def test_a_copy_is_told_once() -> None:
    """After it has changed its ways, the same memory of its peers means nothing."""
    cluster, disk = set_up()
    restarted(cluster, 2, disk)
    found = cluster.nodes[2]._shared.counters["former_lives_found"]
    cluster.cut(1, 2)
    cluster.heal()
    cluster.world.run(100)
    assert cluster.nodes[2]._shared.counters["former_lives_found"] == found
