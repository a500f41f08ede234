"""Hard case 21: a member that came back with another address was taken for another one (casskop#170).

A member is its id. At another address it has its number, its tokens and its data; the ring says where it is after one
decision, without a plan. With real processes: `tests/integration/test_join.py`.
"""

from __future__ import annotations

import msgspec

from tests.unit.membership_cluster import KEYS, MembershipCluster


def test_a_member_at_another_address_is_the_same_member() -> None:
    cluster = MembershipCluster(3)
    cluster.stock()
    before = cluster.ring_now()
    held = cluster.held(1)
    cluster.kill(1)
    cluster.own[1] = msgspec.structs.replace(
        cluster.own[1], peer_address="10.0.0.9:1", client_address="10.0.0.9:2", http_address="10.0.0.9:3"
    )
    cluster.join(1)
    cluster.run_until(
        lambda: all(node.ring().member(1).peer_address == "10.0.0.9:1" for node in cluster.nodes.values()),
        "everybody knows where it is",
    )
    ring = cluster.ring_now()
    assert (ring.version, ring.transition, ring.departed) == (before.version + 1, None, [])
    assert ring.owners == before.owners and ring.member(1).id == before.member(1).id
    assert cluster.held(1) == held and len(held) == len(KEYS)
    cluster.check_all()
