"""Joining: a node that waits becomes a member, is filled, and the others clear out what they keep no more."""

from __future__ import annotations

from quorate.core.ring.transition import Stage
from quorate.core.store import Wish
from tests.unit.membership_cluster import KEYS, MembershipCluster

JOIN = Wish("join", "n4")


def joining(**more: object) -> MembershipCluster:
    """Three members with data, and a fourth node that may come in."""
    cluster = MembershipCluster(3, **more)
    cluster.stock()
    cluster.wait_to_join(4)
    return cluster


def test_a_fourth_node_joins_by_itself_once_it_was_let_in() -> None:
    cluster = joining()
    cluster.begin(1, JOIN)
    stages = []
    for _ in range(6_000):
        stage = cluster.stage(1)
        if stage not in stages:
            stages.append(stage)
        if stage is None:
            break
        cluster.world.run(10)
    assert stages == [Stage.READ_OLD, Stage.READ_NEW, None]
    cluster.check_all()
    ring = cluster.ring_now()
    assert [member.number for member in ring.members] == [1, 2, 3, 4]
    assert ring.version == cluster.ring.version + 3
    assert cluster.held(4), "it holds something"
    for number in (1, 2, 3):
        assert len(cluster.held(number)) < len(KEYS), "and they hold less than all"


def test_it_joins_where_all_nodes_compare_all_the_time() -> None:
    cluster = joining(anti_entropy=True)
    cluster.begin(2, JOIN)
    cluster.check_all()
