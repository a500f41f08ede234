"""Hard case 9: after a restart, what a fallback kept was never handed off (riak_core#154, riak_kv#847).

The holder restarts while the home is up, and nobody sends any request: the hints go home all the same.
"""

from __future__ import annotations

import pytest

from quorate.core.store import PutResult
from tests.unit.small_cluster import SmallCluster


@pytest.mark.parametrize("while_the_holder_is_down", [True, False])
def test_a_restarted_holder_hands_over_without_traffic(while_the_holder_is_down: bool) -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    home, holder = homes[1], fallbacks[0]
    cluster.kill(home)
    assert isinstance(cluster.put(homes[0], b"k", b"v", w=3), PutResult)
    assert cluster.hints() == {holder: {home: 1}}
    if while_the_holder_is_down:
        cluster.kill(holder)
        cluster.join(home)
        cluster.join(holder)
    else:
        cluster.cut(holder, home)
        cluster.join(home)
        cluster.kill(holder)
        cluster.heal()
        cluster.join(holder)
    cluster.world.run(3_000)
    assert cluster.hints() == {}
    bodies = cluster.bodies(b"k")
    assert len({bodies[number - 1] for number in homes}) == 1, "all replicas are identical (C)"
    assert bodies[holder - 1] is None


def test_a_home_that_was_there_all_along_gets_them_at_the_next_pass() -> None:
    """No event at all says that the home can be reached: the connection never broke, it was only suspected."""
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    cluster.muted = {homes[1]}
    for _ in range(3):
        assert isinstance(cluster.put(homes[0], b"k", b"v", w=3, overwrite_seen=True), PutResult)
    assert fallbacks[0] in cluster.hints()
    cluster.muted = set()
    cluster.world.run(15_000)
    assert cluster.hints() == {}
    bodies = cluster.bodies(b"k")
    assert len({bodies[number - 1] for number in homes}) == 1
