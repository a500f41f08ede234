"""Bucket properties beside a plan: what its proof rests on stays, everything else may change."""

from __future__ import annotations

import pytest

from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, Failure, Wish
from tests.unit.membership_cluster import KEYS, MembershipCluster


def set_bucket(cluster: MembershipCluster, node: int, bucket: bytes, **changes: str) -> Admin | Failure:
    result: Admin | Failure = cluster.call(lambda reply: cluster.nodes[node].set_bucket(bucket, changes, reply))
    return result


@pytest.mark.parametrize("stage", [Stage.READ_OLD, Stage.READ_NEW])
@pytest.mark.parametrize("changes", [{"n": "2"}, {"r": "1"}, {"w": "1"}, {"w": "3", "ttl": "7"}])
def test_what_the_proof_rests_on_stays_while_a_plan_is_under_way(stage: Stage, changes: dict[str, str]) -> None:
    cluster = MembershipCluster(4)
    cluster.begin(1, Wish("leave", "n4"))
    cluster.until_stage(stage)
    cluster.world.run(5)
    before = cluster.nodes[2].bucket_properties(b"b")
    refused = set_bucket(cluster, 2, b"b", **changes)
    assert isinstance(refused, Failure) and refused.kind == "caller"
    assert "cannot be changed while plan" in refused.message
    assert cluster.nodes[2].bucket_properties(b"b") == before
    cluster.until_steady()
    assert isinstance(set_bucket(cluster, 2, b"b", **changes), Admin)


@pytest.mark.parametrize("stage", [Stage.READ_OLD, Stage.READ_NEW])
def test_what_it_does_not_rest_on_changes_and_the_plan_goes_on(stage: Stage) -> None:
    cluster = MembershipCluster(4)
    cluster.stock()
    cluster.begin(1, Wish("leave", "n4"))
    cluster.until_stage(stage)
    cluster.world.run(5)
    done = set_bucket(cluster, 3, b"other", ttl="7", conflicts="lww")
    assert isinstance(done, Admin) and done.document["ttl"] == 7
    cluster.check_all()
    assert cluster.ring_now().version == 5
    for number in cluster.running():
        assert cluster.nodes[number].bucket_properties(b"other").ttl == 7


def test_a_bucket_with_another_n_is_moved_as_well() -> None:
    cluster = MembershipCluster(4)
    cluster.stock()
    set_bucket(cluster, 1, b"single", n="1", r="1", w="1")
    set_bucket(cluster, 1, b"double", n="2", r="1", w="2")
    for key in KEYS:
        for bucket in (b"single", b"double"):
            assert not isinstance(cluster.put(2, key, b"x-" + key, bucket=bucket), Failure)
    cluster.begin(1, Wish("leave", "n4"))
    cluster.run_until(lambda: cluster.ended == [4], "it ends")
    cluster.check_all()
    for number in cluster.running():
        for key in KEYS:
            for bucket in (b"single", b"double"):
                read = cluster.get(number, key, 1, bucket)
                assert not isinstance(read, Failure)
                assert [sibling.value for sibling in read.siblings] == [b"x-" + key], (number, bucket, key)


def test_a_plan_that_was_shown_before_a_bucket_changed_is_made_anew() -> None:
    """It was made for another ring, and perhaps for other numbers of replicas."""
    cluster = MembershipCluster(4)
    wish = Wish("leave", "n4")
    plan = cluster.plan(1, wish)["id"]
    set_bucket(cluster, 2, b"b", w="1")
    cluster.world.run(10)
    refused = cluster.commit(1, wish, plan)
    assert isinstance(refused, Failure) and "look at a new plan" in refused.message
    assert isinstance(cluster.commit(1, wish), Admin)
