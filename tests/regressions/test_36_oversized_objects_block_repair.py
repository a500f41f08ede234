"""Hard case 36: values above a lowered limit could be neither repaired nor moved (riak_kv#1156).

The limit guards the client path; repair and transfer carry whatever was once accepted.
"""

from __future__ import annotations

from quorate.core.store import Failure
from quorate.node.options import NodeOptions
from tests.unit.small_cluster import SmallCluster


def test_a_value_above_a_lowered_limit_is_still_read_and_repaired() -> None:
    cluster = SmallCluster()
    cluster.kill(3)
    cluster.put(1, b"k", b"v" * 1_000)
    cluster.options = NodeOptions(value_bytes_max=10)
    for number in (1, 2):
        cluster.kill(number)
        cluster.boot(number)
    cluster.boot(3)
    refused = cluster.put(1, b"other", b"v" * 11)
    assert isinstance(refused, Failure)
    assert "limit is 10" in refused.message
    assert cluster.values(3, b"k", r=3) == [b"v" * 1_000]
    cluster.world.run(20)
    assert len(set(cluster.bodies(b"k"))) == 1
