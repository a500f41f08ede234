"""Hard case 28: anti-entropy stopped, died on one bad object, or took the cluster down for hours (riak_kv#1659, #1824,
#1039).

The sweep passes over whatever it cannot read and goes on. A node that is killed in the midst of a sweep, of a proof or
of a removal has exact trees again after its restart, and the next sweep does what the last one left.
"""

from __future__ import annotations

import pytest

from quorate.core.limits import SCAN_CHUNK_RECORDS
from quorate.core.ports import Space
from quorate.node.steps import run
from tests.unit.collecting import GRACE_HOURS, OPTIONS, QUIET_MS, collect, deleted, gone
from tests.unit.exchange_cluster import exchange
from tests.unit.small_cluster import SmallCluster

KEYS = [b"k%d" % index for index in range(12)]


def trees_are_exact(cluster: SmallCluster) -> bool:
    """Do all trees equal those that are made anew from what is stored?"""
    for node in cluster.nodes.values():
        trees = node._shared.trees
        partitions = range(cluster.ring.partitions)
        before = [trees.root(partition, 3) for partition in partitions]
        trees.rebuild_all()
        cluster.world.run(5_000)
        if before != [trees.root(partition, 3) for partition in partitions]:
            return False
    return True


@pytest.mark.parametrize("bad", [b"", b"\x01", bytes(40), b"\xff" * 200])
def test_a_bad_object_among_many_is_passed_over_and_repaired(bad: bytes) -> None:
    cluster = SmallCluster(options=OPTIONS)
    for key in KEYS:
        deleted(cluster, key)
    cluster.put(1, b"victim", b"v")
    cluster.world.run(100)
    data = cluster.engines[1].data
    place = next(place for place in data if place[0] == Space.DATA and place[1].endswith(b"victim"))
    data[place] = bad
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert all(gone(cluster, key) for key in KEYS)
    assert cluster.nodes[1]._sweep.passes == 1
    cluster.world.run(5_000)
    exchange(cluster, 1, 2)
    assert cluster.values(1, b"victim", r=3) == [b"v"]
    assert trees_are_exact(cluster)


@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize(
    "after_ms", [0, 1, 2, 3, 100, QUIET_MS - 1, QUIET_MS, QUIET_MS + 1, QUIET_MS + 2, QUIET_MS + 3]
)
def test_a_node_killed_in_the_midst_of_a_collection_is_exact_again_and_it_is_finished(
    victim: int, after_ms: float
) -> None:
    cluster = SmallCluster(options=OPTIONS)
    for key in KEYS:
        deleted(cluster, key)
    cluster.put(1, b"kept", b"v")
    cluster.world.run(61_000)
    cluster.wait(hours=GRACE_HOURS + 1)
    cluster.world.run(61_000)  # A sign of life, so that this is no long absence.
    homes = cluster.preference_list(KEYS[0])[0]
    for number in homes:
        run(cluster.nodes[number]._sweep.sweep_once(), lambda _: None)
    cluster.world.run(after_ms)
    cluster.kill(homes[victim])
    cluster.world.run(QUIET_MS + 60_000)
    cluster.join(homes[victim])
    cluster.world.run(10_000)
    for one in homes:
        for other in homes:
            if one != other:
                exchange(cluster, one, other)
    assert trees_are_exact(cluster)
    collect(cluster)
    assert all(gone(cluster, key) for key in KEYS)
    assert cluster.values(homes[victim], b"kept", r=3) == [b"v"]
    assert all(cluster.values(homes[victim], key, r=3) == [] for key in KEYS)


def test_a_sweep_leaves_the_loop_to_others() -> None:
    """Between any two of its steps everything else has its turn, however much there is to look through."""
    cluster = SmallCluster(size=1, options=OPTIONS)
    for index in range(2 * SCAN_CHUNK_RECORDS + 7):
        cluster.put(1, b"%d" % index, b"v")
    node = cluster.nodes[1]
    run(node._sweep.sweep_once(), lambda _: None)
    answered = 0
    while not node._sweep.passes:
        cluster.values(1, b"5", r=1)
        answered += 1
        cluster.world.run(1)
    assert answered > 20
