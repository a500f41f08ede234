"""A host with several workers joins, leaves and is replaced as one, with data, by plans of whole nodes."""

from __future__ import annotations

from quorate.core.store import Failure, Wish
from tests.unit.membership_cluster import MembershipCluster


def with_waiting_host(name: str, *indices: int, host: str = "h9") -> MembershipCluster:
    """Three members with data, and the workers of a host that may come in."""
    cluster = MembershipCluster(3)
    cluster.stock()
    for place, index in enumerate(indices, start=1):
        cluster.wait_to_join(index, name=f"{name}.{place}", host=host)
    return cluster


def names(cluster: MembershipCluster) -> list[str]:
    return [member.name for member in cluster.ring_now().members]


def test_all_workers_join_by_one_plan_and_leave_by_one() -> None:
    cluster = with_waiting_host("n9", 5, 4)
    before = cluster.ring_now().version
    plan = cluster.plan(1, Wish("join", "n9"))
    assert [one["name"] for one in plan["joining"]] == ["n9.1", "n9.2"] and plan["leaving"] == []
    cluster.begin(1, Wish("join", "n9"))
    cluster.check_all()
    assert names(cluster) == ["n1", "n2", "n3", "n9.1", "n9.2"]
    assert cluster.ring_now().version == before + 3, "one plan"
    assert cluster.held(4) and cluster.held(5)
    plan = cluster.plan(2, Wish("leave", "n9"))
    assert [one["name"] for one in plan["leaving"]] == ["n9.1", "n9.2"]
    cluster.begin(2, Wish("leave", "n9"))
    cluster.until_steady()
    assert names(cluster) == ["n1", "n2", "n3"]


def test_a_host_takes_the_place_of_a_node() -> None:
    cluster = with_waiting_host("n9", 4, 5)
    cluster.begin(1, Wish("replace", "n2", by="n9"))
    cluster.check_all()
    assert names(cluster) == ["n1", "n9.1", "n3", "n9.2"]


def test_one_worker_is_meant_by_its_own_name() -> None:
    cluster = with_waiting_host("n9", 4, 5)
    assert [one["name"] for one in cluster.plan(1, Wish("join", "n9.2"))["joining"]] == ["n9.2"]


def test_a_plan_that_was_made_before_another_worker_came_does_not_hold() -> None:
    cluster = with_waiting_host("n9", 4)
    plan = cluster.plan(1, Wish("join", "n9"))
    cluster.wait_to_join(5, name="n9.2", host="h9")
    refused = cluster.commit(1, Wish("join", "n9"), plan["id"])
    assert isinstance(refused, Failure) and "look at a new plan" in refused.message


def test_two_candidates_of_one_name_are_told_apart_by_their_ids() -> None:
    cluster = with_waiting_host("n9", 4, 5)
    cluster.wait_to_join(6, name="n9.2", host="h9")
    refused = cluster.call(lambda reply: cluster.nodes[1].plan(Wish("join", "n9"), reply))
    assert isinstance(refused, Failure) and "2 candidates are called 'n9.2'" in refused.message


def test_members_that_are_lost_are_named_by_their_host() -> None:
    cluster = with_waiting_host("n9", 4, 5)
    cluster.begin(1, Wish("join", "n9"))
    cluster.check_all()
    for number in (4, 5):
        cluster.kill(number)
    result = cluster.call(lambda reply: cluster.nodes[1].force(["n9"], reply))
    assert not isinstance(result, Failure), result
    cluster.until_steady()
    assert names(cluster) == ["n1", "n2", "n3"]
