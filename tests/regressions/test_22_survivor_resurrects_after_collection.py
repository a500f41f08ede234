"""Hard case 22: a node that was away while a tombstone was collected came back, and with it the deleted value
(scylladb#15243, #3560).

Two halves. While a replica is away nothing is collected, since the proof needs all of them: however late it returns,
the tombstone is there to meet it, although the hints for it have long expired. And a replica that took part and comes
back with an *older* disk, from a snapshot, empties itself before it serves.
"""

from __future__ import annotations

import pytest

from quorate.core.ports import Space
from quorate.core.store import GetResult, PutResult
from quorate.node.options import NodeOptions
from tests.unit.collecting import GRACE_HOURS, OPTIONS, collect, deleted, gone
from tests.unit.exchange_cluster import exchange
from tests.unit.small_cluster import SmallCluster

CONTINUOUS = NodeOptions(collect_quiet_ms=OPTIONS.collect_quiet_ms)


@pytest.mark.parametrize("days", [0.6, 1.2, 30])
def test_an_item_deleted_while_a_replica_was_away_does_not_come_back_with_it(days: float) -> None:
    """The story of the cart."""
    cluster = SmallCluster(options=OPTIONS)
    homes = cluster.preference_list(b"cart")[0]
    cluster.put(homes[0], b"cart", b"milk")
    cluster.world.run(100)
    cluster.kill(homes[2])
    read = cluster.get(homes[0], b"cart", r=2)
    assert isinstance(read, GetResult)
    assert isinstance(cluster.delete(homes[0], b"cart", read.context), PutResult)
    for _ in range(5):
        cluster.wait(hours=24 * days / 5)
        collect(cluster)
    assert cluster.bodies(b"cart")[homes[0] - 1] is not None, "the tombstone waits for the third"
    cluster.join(homes[2])
    cluster.world.run(20_000)
    for other in homes[:2]:
        exchange(cluster, homes[2], other)
    for number in homes:
        assert cluster.values(number, b"cart", r=3) == []
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert gone(cluster, b"cart")
    assert cluster.values(homes[2], b"cart", r=3) == []


def test_a_replica_from_an_old_snapshot_empties_itself_and_brings_nothing_back() -> None:
    cluster = SmallCluster(options=CONTINUOUS, anti_entropy=True)
    cluster.world.run(61_000)  # Every node gives a sign of life.
    homes = cluster.preference_list(b"k")[0]
    cluster.put(homes[0], b"k", b"v")
    cluster.put(homes[0], b"other", b"kept")
    cluster.world.run(70_000)
    snapshot = dict(cluster.engines[homes[2]].data)
    deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert gone(cluster)
    cluster.kill(homes[2])
    cluster.engines[homes[2]].data = snapshot
    assert any(space == Space.DATA and key.endswith(b"bk") for space, key in snapshot)
    cluster.join(homes[2])
    cluster.world.run(60_000)
    assert gone(cluster)
    for number in homes:
        assert cluster.values(number, b"k", r=3) == []
        assert cluster.values(number, b"other", r=3) == [b"kept"], "and it is filled again with the rest"
