"""A newcomer that dies while it is let in: writes go on (hard case 13), and so does the plan once it is back."""

from __future__ import annotations

import pytest

from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, PutResult, Wish
from tests.unit.membership_cluster import KEYS, MembershipCluster

AFTER_MS = [0, 1, 2, 5, 20, 50, 100, 300, 1_000]


def killed_in(stage: Stage, after_ms: int) -> MembershipCluster:
    """The newcomer of a join is killed some time after a stage has begun."""
    cluster = MembershipCluster(3)
    cluster.stock()
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.until_stage(stage)
    if stage == Stage.READ_OLD:
        cluster.run_until(lambda: 4 in cluster.nodes, "it enters", step_ms=1)
    cluster.world.run(after_ms)
    cluster.kill(4)
    return cluster


def write_all(cluster: MembershipCluster) -> None:
    for index, key in enumerate(KEYS):
        number = 1 + index % 3
        read = cluster.get(number, key, 2)
        assert isinstance(cluster.put(number, key, b"new-" + key, read.context, w=2), PutResult), key  # type: ignore[union-attr]
        assert cluster.read(1 + (index + 1) % 3, key) == [b"new-" + key]


@pytest.mark.parametrize("stage", [Stage.READ_OLD, Stage.READ_NEW])
@pytest.mark.parametrize("after_ms", AFTER_MS)
def test_writes_succeed_without_it_and_it_comes_back_and_the_plan_is_finished(stage: Stage, after_ms: int) -> None:
    cluster = killed_in(stage, after_ms)
    write_all(cluster)
    cluster.world.run(20_000)
    cluster.join(4)
    cluster.until_steady()
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"new-" + key)
    cluster.check_places()
    assert len(cluster.ring_now().members) == 4


@pytest.mark.parametrize("after_ms", [0, 2, 20])
def test_a_plan_that_waits_for_a_dead_newcomer_is_taken_back(after_ms: int) -> None:
    cluster = killed_in(Stage.READ_OLD, after_ms)
    cluster.world.run(10_000)
    assert cluster.stage(1) == Stage.READ_OLD, "it died before it was filled"
    document = cluster.call(cluster.nodes[1].transfers).document
    assert document["stage"] == "read old" and "n4" in document["waiting"][0]
    write_all(cluster)
    assert isinstance(cluster.abort(2), Admin)
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"new-" + key)
    cluster.world.run(10_000)
    assert cluster.hints() == {}, "what was kept for it has gone to the replicas"
    cluster.check_places()


def test_a_newcomer_whose_disk_was_lost_is_filled_once_more() -> None:
    """What it said of itself in its former life is not believed."""
    cluster = killed_in(Stage.READ_OLD, 5)
    cluster.wipe(4)
    cluster.world.run(3_000)
    assert cluster.stage(1) == Stage.READ_OLD
    cluster.join(4)
    cluster.until_steady()
    cluster.check_all()


def test_what_a_wiped_newcomer_had_said_does_not_move_the_plan_on() -> None:
    """It had said that it is filled, and gossip still tells so; its disk is lost before the next stage."""
    cluster = MembershipCluster(3)
    cluster.stock()
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.run_until(lambda: 4 in cluster.nodes, "it enters", step_ms=1)

    def told() -> bool:
        facts = [cluster.nodes[number]._membership._gossip.facts_of(4) for number in (1, 2, 3)]
        return any(found is not None and found.filled[1] == 2 for found in facts)

    cluster.run_until(told, "it says that it is filled", step_ms=1)
    assert cluster.stage(1) == Stage.READ_OLD
    cluster.wipe(4)
    cluster.join(4)
    for _ in range(60_000):
        node = cluster.nodes[4]
        if any(cluster.stage(number) == Stage.READ_NEW for number in (1, 2, 3)):
            break
        filled = node._shared.view.told and node._membership._plan_filling.filled[1] == 2
        cluster.world.run(1)
    assert filled, "it holds what it is about to be read for"
    cluster.check_all()
