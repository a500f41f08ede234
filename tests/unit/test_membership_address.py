"""A member that is somewhere else now: the ring says so, without stages and during plans as well (hard case 21)."""

from __future__ import annotations

import msgspec

from quorate.core.ring.transition import Stage
from quorate.core.store import Wish
from tests.unit.membership_cluster import MembershipCluster


def moved(cluster: MembershipCluster, number: int) -> None:
    """The node starts again at other addresses."""
    cluster.kill(number)
    cluster.own[number] = msgspec.structs.replace(
        cluster.own[number],
        peer_address="127.0.0.1:17600",
        client_address="127.0.0.1:17400",
        http_address="127.0.0.1:17500",
    )
    cluster.join(number)


def test_the_ring_says_where_a_member_is_now() -> None:
    cluster = MembershipCluster(3)
    cluster.stock()
    moved(cluster, 2)
    cluster.run_until(lambda: all(node.ring().version == 2 for node in cluster.nodes.values()), "it is told to all")
    ring = cluster.nodes[1].ring()
    assert ring.member(2) == cluster.own[2]
    assert (ring.owners, ring.transition) == (cluster.ring.owners, None)
    cluster.check_all()
    assert cluster.ring_now().version == 2, "and once is enough"


def test_a_member_that_is_where_it_was_decides_nothing() -> None:
    cluster = MembershipCluster(3)
    cluster.kill(2)
    cluster.join(2)
    cluster.world.run(20_000)
    assert cluster.ring_now().version == 1


def test_it_is_told_as_soon_as_there_is_a_majority() -> None:
    cluster = MembershipCluster(3)
    cluster.kill(1)
    cluster.kill(3)
    moved(cluster, 2)
    cluster.world.run(120_000)
    assert cluster.nodes[2].ring().version == 1
    cluster.join(3)
    cluster.run_until(lambda: cluster.nodes[3].ring().version == 2, "it is told to the other one")
    assert cluster.nodes[3].ring().member(2) == cluster.own[2]


def test_a_member_moves_while_a_plan_is_under_way() -> None:
    cluster = MembershipCluster(4)
    cluster.stock()
    cluster.begin(1, Wish("leave", "n4"))
    cluster.until_stage(Stage.READ_OLD)
    moved(cluster, 2)
    cluster.until_steady()
    cluster.check_all()
    ring = cluster.ring_now()
    assert [member.number for member in ring.members] == [1, 2, 3]
    assert ring.member(2) == cluster.own[2]
    assert ring.version == 5
