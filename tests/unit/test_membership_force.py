"""A majority that is lost for good: an operator forces the ring, and the survivors go on."""

from __future__ import annotations

from quorate.core.ring.transition import FORCED_VERSIONS
from quorate.core.store import Admin, Failure, PutResult, Wish
from tests.unit.membership_cluster import KEYS, MembershipCluster


def survivor() -> MembershipCluster:
    """One of three is left."""
    cluster = MembershipCluster(3)
    cluster.stock()
    cluster.kill(2)
    cluster.kill(3)
    return cluster


def force(cluster: MembershipCluster, node: int, lost: list[str]) -> Admin | Failure:
    result: Admin | Failure = cluster.call(lambda reply: cluster.nodes[node].force(lost, reply))
    return result


def test_nothing_is_decided_without_a_majority_and_that_is_said() -> None:
    cluster = survivor()
    answers: list[Admin | Failure] = []
    cluster.nodes[1].set_bucket(b"b", {"ttl": "9"}, answers.append)
    cluster.run_until(lambda: bool(answers), "it gives up", 180_000, 100)
    (answer,) = answers
    assert isinstance(answer, Failure) and answer.kind == "unknown" and "majority" in answer.message
    assert cluster.nodes[1].ring().version == 1


def test_the_last_of_three_goes_on_alone_with_all_that_it_held() -> None:
    cluster = survivor()
    assert isinstance(force(cluster, 1, ["n2", "n3"]), Admin)
    cluster.until_steady()
    ring = cluster.nodes[1].ring()
    assert [member.number for member in ring.members] == [1]
    assert sorted(gone.number for gone in ring.departed) == [2, 3]
    assert ring.version > FORCED_VERSIONS
    for key in KEYS:
        assert cluster.read(1, key, 1) == [b"v-" + key]
        assert isinstance(cluster.put(1, key, b"new", w=1, overwrite_seen=True), PutResult)
    lowered = cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"r": "1", "w": "1"}, reply))
    assert isinstance(lowered, Admin), "and it decides by itself"


def test_those_who_were_given_up_are_let_in_no_more() -> None:
    cluster = survivor()
    force(cluster, 1, ["n2", "n3"])
    cluster.until_steady()
    for number in (2, 3):
        cluster.join(number)
    cluster.world.run(10_000)
    for number in (2, 3):
        assert "removed" in cluster.nodes[number]._shared.fenced_because
        assert isinstance(cluster.put(number, KEYS[0], b"late", w=1), Failure)
    assert cluster.read(1, KEYS[0], 1) == [b"v-" + KEYS[0]]
    assert [member.number for member in cluster.nodes[1].ring().members] == [1]


def test_new_members_join_the_survivor() -> None:
    cluster = survivor()
    force(cluster, 1, ["n2", "n3"])
    cluster.until_steady()
    for index in (4, 5):
        cluster.wait_to_join(index)
        cluster.begin(1, Wish("join", f"n{index}"))
        cluster.run_until(lambda index=index: index in cluster.nodes, "it enters")  # type: ignore[misc]
        cluster.until_steady()
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"v-" + key)
    assert [member.number for member in cluster.ring_now().members] == [1, 4, 5]


def test_one_of_the_survivors_forces_and_the_others_follow() -> None:
    cluster = MembershipCluster(5)
    cluster.stock()
    for number in (3, 4, 5):
        cluster.kill(number)
    assert isinstance(force(cluster, 1, ["n3", "n4", "n5"]), Admin)
    cluster.until_steady()
    cluster.check_agreement()
    assert [member.number for member in cluster.ring_now().members] == [1, 2]
    for key in KEYS:
        # Every key was on three of the five, and so on one of these two, or on none.
        values = cluster.read(1, key, 2)
        assert values in ([b"v-" + key], [])


def test_what_makes_no_sense_is_refused() -> None:
    cluster = survivor()
    for lost, reason in (
        (["n1"], "give the command to a survivor"),
        ([], "name the members"),
        (["n9"], "there is no member 'n9'"),
    ):
        refused = force(cluster, 1, lost)
        assert isinstance(refused, Failure) and refused.kind == "caller" and reason in refused.message
    assert cluster.nodes[1].ring() == cluster.ring


def test_a_plan_that_lost_its_majority_is_settled_by_force() -> None:
    cluster = MembershipCluster(4)
    cluster.stock()
    cluster.begin(1, Wish("leave", "n4"))
    for number in (2, 3, 4):
        cluster.kill(number)
    assert isinstance(force(cluster, 1, ["n2", "n3", "n4"]), Admin)
    cluster.until_steady()
    assert [member.number for member in cluster.nodes[1].ring().members] == [1]
