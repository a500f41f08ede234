"""Hard case 19: data was lost after a rebalance, because new metadata started at version zero (voldemort#290).

Whoever dies in the midst of a plan comes back with the ring that it had confirmed, never an older one, and the plan
comes to its end.
"""

from __future__ import annotations

import pytest

from quorate.core.ring.transition import Stage
from quorate.core.store import Wish
from tests.unit.membership_cluster import KEYS, MembershipCluster


@pytest.mark.parametrize("after_ms", [0, 3, 30, 200, 1_500])
@pytest.mark.parametrize("stage", [Stage.READ_OLD, Stage.READ_NEW])
@pytest.mark.parametrize("victim", [1, 2, 4], ids=["proposer", "source", "newcomer"])
def test_whoever_dies_mid_plan_goes_on_where_it_was(victim: int, stage: Stage, after_ms: int) -> None:
    cluster = MembershipCluster(3)
    cluster.stock()
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.until_stage(stage)
    cluster.run_until(lambda: 4 in cluster.nodes, "it enters", step_ms=1)
    cluster.world.run(after_ms)
    confirmed = cluster.nodes[victim]._shared.rings.chain.confirmed
    cluster.kill(victim)
    cluster.world.run(3_000)
    cluster.join(victim)
    assert cluster.nodes[victim].ring().version >= confirmed.version > 1
    cluster.until_steady()
    assert len(cluster.ring_now().members) == 4
    cluster.check_all()


def test_all_of_them_die_at_once() -> None:
    """The power of the whole room goes out in the midst of the plan."""
    cluster = MembershipCluster(3)
    cluster.stock()
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.run_until(lambda: 4 in cluster.nodes, "it enters", step_ms=1)
    cluster.world.run(5)
    versions = {number: cluster.nodes[number].ring().version for number in cluster.nodes}
    for number in versions:
        cluster.kill(number)
    for number, version in versions.items():
        cluster.join(number)
        assert cluster.nodes[number].ring().version >= version
    cluster.until_steady()
    assert len(cluster.ring_now().members) == 4
    cluster.check_data(KEYS, lambda key: b"v-" + key)
