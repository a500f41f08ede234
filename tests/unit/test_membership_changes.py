"""Leaving, replacing, another weight, aborting: what the ring, the data and the nodes are like afterwards."""

from __future__ import annotations

import pytest

from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, Failure, Wish
from tests.unit.membership_cluster import MembershipCluster

LEAVE = Wish("leave", "n2")


def stocked(size: int, **more: object) -> MembershipCluster:
    cluster = MembershipCluster(size, **more)
    cluster.stock()
    return cluster


def test_a_member_leaves_and_ends_when_nothing_needs_it() -> None:
    cluster = stocked(4)
    cluster.begin(2, LEAVE)
    cluster.run_until(lambda: cluster.ended == [2], "it says that it has nothing more to do")
    cluster.check_all()
    assert [member.number for member in cluster.ring_now().members] == [1, 3, 4]
    assert [gone.number for gone in cluster.ring_now().departed] == [2]


def test_a_member_that_has_stopped_leaves_without_being_waited_for() -> None:
    cluster = stocked(4)
    cluster.kill(2)
    cluster.begin(1, Wish("leave", "n2", stopped=True))
    cluster.check_all()
    assert [member.number for member in cluster.ring_now().members] == [1, 3, 4]


def test_a_removed_node_that_comes_back_serves_nobody() -> None:
    cluster = stocked(4)
    cluster.kill(2)
    cluster.begin(1, Wish("leave", "n2", stopped=True))
    cluster.check_agreement()
    cluster.join(2)
    cluster.world.run(5_000)
    assert "removed" in cluster.nodes[2]._shared.fenced_because
    for result in (cluster.get(2, b"k1", 1), cluster.put(2, b"k1", b"late", w=1)):
        assert isinstance(result, Failure)
    cluster.kill(2)
    cluster.check_all()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_member_is_replaced(stopped: bool) -> None:
    cluster = stocked(3)
    cluster.wait_to_join(4)
    if stopped:
        cluster.kill(2)
    before = cluster.ring.owners
    cluster.begin(1, Wish("replace", "n2", by="n4", stopped=stopped))
    cluster.until_steady()
    if not stopped:
        cluster.run_until(lambda: cluster.ended == [2], "the one that was replaced ends")
    cluster.check_all()
    assert cluster.ring_now().owners == [4 if owner == 2 else owner for owner in before]


def test_another_weight_moves_tokens_and_no_members() -> None:
    cluster = stocked(5)
    owned = cluster.ring.owners.count(2)
    cluster.begin(3, Wish("weight", "n2", weight=3))
    cluster.check_all()
    ring = cluster.ring_now()
    assert ring.owners.count(2) > owned and ring.member(2).weight == 3
    assert len(ring.members) == 5 and ring.departed == []


@pytest.mark.parametrize("weight", [0, -1, 1_001, 1 << 70])
def test_a_weight_that_no_member_can_have_is_refused_with_the_reason(weight: int) -> None:
    """1 << 70 fits into no ring that is sent: it ended in an exception of the encoder, and the client got no answer."""
    cluster = MembershipCluster(3)
    wish, node = Wish("weight", "n1", weight=weight), cluster.nodes[2]
    for result in (
        cluster.call(lambda reply: node.plan(wish, reply)),
        cluster.call(lambda reply: node.commit(wish, "0" * 16, reply)),
    ):
        assert isinstance(result, Failure) and result.kind == "caller" and "from 1 to 1000" in result.message


def test_a_weight_that_moves_no_replica_is_one_version() -> None:
    """Of three members each holds everything, whoever owns it."""
    cluster = MembershipCluster(1)
    cluster.begin(1, Wish("weight", "n1", weight=2))
    ring = cluster.nodes[1].ring()
    assert (ring.version, ring.transition, ring.member(1).weight) == (2, None, 2)


def test_a_plan_is_taken_back_as_long_as_the_side_before_is_read() -> None:
    cluster = stocked(3)
    candidate = cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.until_stage(Stage.READ_OLD)
    assert isinstance(cluster.abort(3), Admin)
    ring = cluster.nodes[3].ring()
    assert (ring.version, ring.transition, ring.departed, ring.last_number) == (3, None, [], 4)
    assert ring.owners == cluster.ring.owners
    assert 4 not in cluster.nodes, "it did not even hear of it"
    cluster.check_all()
    # It may try again, and is given another number then.
    cluster.begin(2, Wish("join", candidate.id))
    cluster.check_all()
    assert [member.number for member in cluster.ring_now().members] == [1, 2, 3, 5]


def test_a_newcomer_whose_plan_was_taken_back_ends() -> None:
    cluster = stocked(3)
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.run_until(lambda: 4 in cluster.nodes, "it enters")
    cluster.world.run(50)
    assert isinstance(cluster.abort(1), Admin)
    cluster.world.run(5)
    assert cluster.nodes[4].ring().version == 3, "it is told at once"
    cluster.run_until(lambda: cluster.ended == [4], "it has nothing to do here")
    cluster.wait_to_join(4)
    cluster.begin(2, Wish("join", "n4"))
    cluster.check_all()
    assert [member.number for member in cluster.ring_now().members] == [1, 2, 3, 5]


def test_what_was_written_during_a_plan_that_was_taken_back_is_not_lost() -> None:
    cluster = stocked(3)
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.until_stage(Stage.READ_OLD)
    for index in range(20):
        assert not isinstance(cluster.put(1 + index % 3, b"new%d" % index, b"v", w=2), Failure)
    assert isinstance(cluster.abort(1), Admin)
    cluster.until_steady()
    for index in range(20):
        for number in (1, 2, 3):
            assert cluster.read(number, b"new%d" % index) == [b"v"]


def test_a_plan_that_is_read_by_already_can_only_go_forward() -> None:
    cluster = stocked(3)
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.until_stage(Stage.READ_NEW)
    number = next(number for number in cluster.running() if cluster.stage(number) == Stage.READ_NEW)
    refused = cluster.abort(number)
    assert isinstance(refused, Failure) and "only go forward" in refused.message
    cluster.check_all()
    nothing = cluster.abort(1)
    assert isinstance(nothing, Failure) and "no plan is under way" in nothing.message


def test_nothing_is_done_by_looking_at_a_plan() -> None:
    cluster = stocked(4)
    document = cluster.plan(1, LEAVE)
    assert document["id"] == cluster.plan(3, LEAVE)["id"], "every member makes the same plan"
    assert all(node.ring() == cluster.ring for node in cluster.nodes.values())
    wrong = cluster.commit(1, LEAVE, "0" * 16)
    assert isinstance(wrong, Failure) and "the ring has changed" in wrong.message
