"""How a ring that was decided reaches those who did not hear of it, and what background work may not do meanwhile."""

from __future__ import annotations

from quorate.core.membership.gossip import ROUND_INTERVAL_MS
from quorate.core.membership.ring_consensus import Accept, Announcement, Prepare
from quorate.core.messages import Message
from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, Wish
from quorate.node.steps import run
from tests.unit.membership_cluster import KEYS, MembershipCluster


def test_gossip_brings_a_ring_that_nobody_announced() -> None:
    cluster = MembershipCluster(5)
    transmit = cluster.transmit
    asked: list[int] = []

    def lossy(sender: int, target: int, message: Message) -> None:
        if type(message).__name__ == "RingAsk":
            asked.append(sender)
        if target == 5 and (
            isinstance(message, (Prepare, Accept)) or (not asked and isinstance(message, Announcement))
        ):
            return
        transmit(sender, target, message)

    cluster.transmit = lossy  # type: ignore[method-assign]
    result = cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"ttl": "7"}, reply))
    assert isinstance(result, Admin)
    cluster.world.run(50)
    assert cluster.nodes[5].ring().version == 1 and asked == []
    cluster.run_until(lambda: cluster.nodes[5].ring().version == 2, "it hears of it", 20 * ROUND_INTERVAL_MS)
    assert asked == [5]


def test_whoever_connects_is_told_at_once() -> None:
    cluster = MembershipCluster(3)
    cluster.kill(3)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"ttl": "7"}, reply))
    cluster.join(3)
    cluster.world.run(5)
    assert cluster.nodes[3].ring().version == 2


def test_sweeps_take_nothing_away_while_a_plan_is_under_way() -> None:
    """Rule D: who owned a partition may be read until the very end."""
    cluster = MembershipCluster(3)
    cluster.stock()
    cluster.wait_to_join(4)
    before = {number: cluster.held(number) for number in (1, 2, 3)}
    cluster.begin(1, Wish("join", "n4"))
    sweeps = 0
    for stage in (Stage.READ_OLD, Stage.READ_NEW):
        cluster.until_stage(stage)
        for number in (1, 2, 3):
            ended: list[None] = []
            run(cluster.nodes[number]._sweep.sweep_once(), ended.append)
            cluster.run_until(lambda ended=ended: bool(ended), "the pass ends", step_ms=1)  # type: ignore[misc]
            if cluster.stage(number) is not None:
                sweeps += 1
                assert cluster.held(number) == before[number]
        for key in KEYS:
            assert cluster.read(2, key) == [b"v-" + key]
    assert sweeps > 3
    cluster.check_all()
