"""Hard case 4: with several coordinators forwarding while nodes came and went, recent writes were lost (riak_kv#1754).

There a put that met a node which had just stopped being a replica was forwarded, coordinated by two nodes whose records
of the key were of different age, and the newer one was taken for the older. Here five nodes become seven and five again
under 40 clients who write ten keys through any node; no client sees an error, and every acknowledged write is there at
the end, or one that replaced it.
"""

from __future__ import annotations

import pytest

from quorate.core.store import Wish
from tests.regressions.traffic import SlowNetwork, Traffic
from tests.unit.membership_cluster import KEYS

HOT_KEYS = [b"hot%d" % index for index in range(10)]
CHURN = {
    "the newcomers leave": ["n6", "n7"],
    "founders leave": ["n1", "n3"],
}


@pytest.mark.parametrize("seed", (1, 2))
@pytest.mark.parametrize("leaving", list(CHURN))
def test_five_nodes_become_seven_and_five_again(leaving: str, seed: int) -> None:
    cluster = SlowNetwork(5, seed)
    cluster.stock()
    traffic = Traffic(cluster, HOT_KEYS, clients=40, seed=seed)
    for index in (6, 7):
        cluster.wait_to_join(index)
        cluster.begin(2, Wish("join", f"n{index}"))
        cluster.until_steady()
    for name in CHURN[leaving]:
        cluster.begin(2, Wish("leave", name))
        number = int(name[1:])
        cluster.run_until(lambda number=number: number in cluster.ended, f"{name} ends")  # type: ignore[misc]
        cluster.until_steady()
    traffic.stop()
    assert len(cluster.ring_now().members) == 5
    assert cluster.ring_now().version == 1 + 4 * 3
    assert cluster.counter("forwards") > 100, "requests were handed on all the time"
    assert [failure.message for failure in traffic.failures] == []
    assert len(traffic.acknowledged) > 500
    traffic.check_nothing_lost()
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"v-" + key)
    cluster.check_places()
