"""A newcomer that dies while it is let in: writes go on (hard case 13), and so does the plan once it is back."""

from __future__ import annotations

from functools import partial

import pytest

from quorate.core.membership.gossip import GossipDigest, GossipStates, GossipSyn
from quorate.core.messages import Message, TreeRoots
from quorate.core.ports import Space
from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, Failure, PutResult, Wish
from quorate.node.plan_filling import FILLED_KEY
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


def entered() -> MembershipCluster:
    cluster = MembershipCluster(3)
    cluster.stock()
    cluster.wait_to_join(4)
    cluster.begin(1, Wish("join", "n4"))
    cluster.run_until(lambda: 4 in cluster.nodes, "it enters", step_ms=1)
    return cluster


def said_filled(cluster: MembershipCluster, listener: int) -> bool:
    facts = cluster.nodes[listener]._membership._gossip.facts_of(4)
    return facts is not None and facts.filled[1] == 2


def test_what_a_wiped_newcomer_had_said_does_not_move_the_plan_on() -> None:
    """It had said that it is filled, and gossip still tells so; its disk is lost before the next stage."""
    cluster = entered()
    cluster.run_until(lambda: any(said_filled(cluster, number) for number in (1, 2, 3)), "it is filled", step_ms=1)
    assert cluster.stage(1) == Stage.READ_OLD
    transmit = cluster.transmit
    blocked = (GossipSyn, GossipDigest, GossipStates, TreeRoots)

    def without_news(sender: int, target: int, message: Message) -> None:
        """It is not filled, and gossip does not tell so: others pass on what it said before."""
        if not (4 in (sender, target) and isinstance(message, blocked)):
            transmit(sender, target, message)

    cluster.transmit = without_news  # type: ignore[method-assign]
    cluster.wipe(4)
    cluster.join(4)
    cluster.world.run(15_000)
    assert all(said_filled(cluster, number) for number in (1, 2, 3))
    assert cluster.stage(1) == Stage.READ_OLD
    cluster.transmit = transmit  # type: ignore[method-assign]
    cluster.until_steady()
    cluster.check_all()


def test_it_is_filled_when_that_is_durable_and_not_before() -> None:
    cluster = entered()
    cluster.run_until(lambda: cluster.nodes[4].ring().version == 2, "it goes by the plan")
    engine = cluster.engines[4]
    engine.held_syncs = []
    cluster.world.run(10_000)
    assert (Space.META, FILLED_KEY) in engine.data, "it is written down"
    assert not any(said_filled(cluster, number) for number in (1, 2, 3, 4))
    assert cluster.stage(1) == Stage.READ_OLD
    held, engine.held_syncs = engine.held_syncs, None
    for done in held:
        done(None)
    cluster.check_all()


def test_a_write_during_a_plan_needs_w_of_both_sides() -> None:
    """Strict, acknowledged by two of the side before and one of the side after, it is not confirmed yet."""
    cluster = entered()
    node = cluster.nodes[1]
    for key in KEYS:
        _, placement = node._coordinator.place(node._shared.view.bucket(b"b"), b"b", key)
        if not placement.sides or 1 not in placement.sides[1]:
            continue
        (other,) = (number for number in placement.sides[1] if number not in (1, 4))
        cluster.muted = {other, 4}
        result = cluster.put(1, key, b"new", w=2, overwrite_seen=True, strict=True)
        assert isinstance(result, Failure) and result.kind == "unknown", placement.sides
        cluster.muted = {4}
        assert isinstance(cluster.put(1, key, b"new", w=2, overwrite_seen=True, strict=True), PutResult)
        return
    raise AssertionError("some partition has another side")


def test_who_was_filled_for_one_plan_is_filled_again_for_the_next() -> None:
    cluster = entered()
    cluster.until_steady()
    cluster.wait_to_join(5)
    for wish in (Wish("join", "n5"), Wish("leave", "n1"), Wish("weight", "n4", weight=3)):
        cluster.begin(2, wish)
        cluster.run_until(lambda wish=wish: wish.kind != "join" or 5 in cluster.nodes, "it enters")  # type: ignore[misc]
        cluster.until_steady()
        cluster.world.run(15_000)
    cluster.check_all()


def filled_for(cluster: MembershipCluster, version: int) -> bool:
    return any(node._membership._plan_filling.filled[1] == version for node in cluster.nodes.values())


def test_what_was_filled_for_a_plan_that_was_taken_back_counts_for_no_other() -> None:
    cluster = MembershipCluster(5)
    cluster.stock()
    wish = Wish("weight", "n2", weight=4)
    for turn in range(2):
        cluster.begin(1, wish)
        version = cluster.ring_now().version
        news = [number for number in range(1, 6) if cluster.nodes[number]._membership._plan_filling.total]
        assert news
        cluster.run_until(partial(filled_for, cluster, version), "somebody is filled", step_ms=1)
        if turn == 0:
            assert isinstance(cluster.abort(1), Admin)
            cluster.until_steady()
            for key in KEYS:
                assert isinstance(cluster.put(1, key, b"new", w=2, overwrite_seen=True), PutResult)
    assert version == 4
    cluster.until_steady()
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"new")
    cluster.check_places()
