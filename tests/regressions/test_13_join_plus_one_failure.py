"""Hard case 13: a node that joined and one failure made ranges unavailable (scylladb#4488).

A node that joins is one more replica that writes wait for. There it counted for the quorum and its death did not, so
one failure more than usual was one too many. Here the newcomer is killed in each stage, and another member with it:
every partition can be read and written with W = R = 2 through every node that is left, at once.
"""

from __future__ import annotations

import msgspec
import pytest

from quorate.core.buckets import default_properties
from quorate.core.keyspace import canonical_name, slot_of_name
from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, GetResult, PutResult, Wish
from tests.unit.membership_cluster import MembershipCluster

STAGES = [Stage.READ_OLD, Stage.READ_NEW]
SIZE, NEWCOMER = 5, 6


def key_of_each_partition(cluster: MembershipCluster) -> list[bytes]:
    found: dict[int, bytes] = {}
    index = 0
    while len(found) < cluster.ring.partitions:
        key = b"p%d" % index
        found.setdefault(cluster.ring.partition_of_slot(slot_of_name(canonical_name(b"b", key))), key)
        index += 1
    return [found[partition] for partition in sorted(found)]


def joining(stage: Stage, strict: bool = False) -> tuple[MembershipCluster, list[bytes]]:
    """A newcomer is being let in, and has got as far as `stage`; a key for each partition, each with a value."""
    defaults = msgspec.structs.replace(default_properties(SIZE), strict=strict)
    cluster = MembershipCluster(SIZE, defaults=defaults)
    keys = key_of_each_partition(cluster)
    for key in keys:
        assert isinstance(cluster.put(1, key, b"old", w=3), PutResult)
    cluster.wait_to_join(NEWCOMER)
    cluster.begin(1, Wish("join", f"n{NEWCOMER}"))
    cluster.until_stage(stage)
    cluster.run_until(
        lambda: len(cluster.running()) == SIZE + 1 and all(cluster.stage(number) == stage for number in cluster.nodes),
        "all go by the stage, the newcomer as well",
        step_ms=1,
    )
    assert any(placement.sides for placement in cluster.nodes[1]._shared.view.placements_of(3))
    return cluster, keys


def check_all_available(cluster: MembershipCluster, keys: list[bytes]) -> None:
    """Every partition, through every node that runs."""
    for number in cluster.running():
        for key in keys:
            read = cluster.get(number, key, 2)
            assert isinstance(read, GetResult), (number, key, read)
            assert len(read.siblings) == 1, (number, key, read)
            put = cluster.put(number, key, b"by n%d" % number, read.context, w=2)
            assert isinstance(put, PutResult), (number, key, put)
            assert cluster.read(number, key) == [b"by n%d" % number], (number, key)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("stage", STAGES)
def test_the_newcomer_dies(stage: Stage, strict: bool) -> None:
    cluster, keys = joining(stage, strict)
    cluster.kill(NEWCOMER)
    check_all_available(cluster, keys)
    assert cluster.stage(1) == stage or stage == Stage.READ_NEW, "the plan waits for it, the clients do not"
    cluster.join(NEWCOMER)
    cluster.until_steady()
    check_all_available(cluster, keys)


@pytest.mark.parametrize("other", range(1, SIZE + 1))
@pytest.mark.parametrize("stage", STAGES)
def test_the_newcomer_dies_and_another_member_with_it(stage: Stage, other: int) -> None:
    cluster, keys = joining(stage)
    cluster.kill(NEWCOMER)
    cluster.kill(other)
    check_all_available(cluster, keys)
    cluster.join(NEWCOMER)
    cluster.join(other)
    cluster.until_steady()
    cluster.check_data(keys, lambda key: cluster.values(1, key, r=3)[0])
    check_all_available(cluster, keys)


def test_a_dead_newcomer_keeps_nobody_from_taking_the_plan_back() -> None:
    """It has no vote before it is read: three that are left of six are a majority (`metadata.voters`)."""
    cluster, _ = joining(Stage.READ_OLD)
    for number in (NEWCOMER, 4, 5):
        cluster.kill(number)
    assert isinstance(cluster.abort(2), Admin)
