"""How a ring that was decided reaches those who did not hear of it, and what background work may not do meanwhile."""

from __future__ import annotations

import pytest

from quorate.core.errors import PeerError
from quorate.core.limits import OFFER_ENTRIES_MAX
from quorate.core.membership.gossip import ROUND_INTERVAL_MS
from quorate.core.membership.ring_consensus import Accept, Announcement, Prepare
from quorate.core.messages import Message, Offer, OfferReply, Status, TreeRoots
from quorate.core.ports import Space
from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, Wish
from quorate.node.steps import run
from tests.unit.membership_cluster import KEYS, MembershipCluster
from tests.unit.tree_twin import digests_in


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


def test_the_one_that_leaves_is_told_by_whoever_decided_it() -> None:
    cluster = MembershipCluster(4)
    cluster.begin(1, Wish("leave", "n4"))
    cluster.until_stage(None)
    cluster.world.run(5)
    assert cluster.nodes[4].ring().version == 4


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


def test_what_is_left_over_from_one_plan_stays_during_the_next() -> None:
    """Who is offered it may be about to give it away again."""
    cluster = MembershipCluster(3)
    cluster.stock()
    cluster.wait_to_join(4)
    transmit = cluster.transmit
    lost: list[type[Message]] = [Offer]

    def losing(sender: int, target: int, message: Message) -> None:
        if type(message) not in lost:
            transmit(sender, target, message)

    cluster.transmit = losing  # type: ignore[method-assign]
    cluster.begin(1, Wish("join", "n4"))
    cluster.run_until(lambda: 4 in cluster.nodes, "it enters")
    cluster.until_steady()
    before = {number: cluster.held(number) for number in cluster.nodes}
    lost.append(TreeRoots)  # Nobody gets filled.
    cluster.begin(1, Wish("weight", "n4", weight=2))
    cluster.world.run(12_000)  # What was offered before is given up.
    lost.remove(Offer)
    assert cluster.stage(1) == Stage.READ_OLD
    for number in (1, 2, 3):
        ended: list[None] = []
        run(cluster.nodes[number]._sweep.sweep_once(), ended.append)
        cluster.run_until(lambda ended=ended: bool(ended), "the pass ends")  # type: ignore[misc]
        assert cluster.held(number) == before[number]
    lost.clear()
    cluster.check_all()
    assert any(len(cluster.held(number)) < len(before[number]) for number in (1, 2, 3)), "afterwards it goes"


def test_an_offer_is_answered_by_what_is_held_and_whole() -> None:
    cluster = MembershipCluster(4)
    cluster.stock()
    node, engine = cluster.nodes[2], cluster.engines[2]
    kept = cluster.held(2)
    assert len(kept) > 4
    digests = {key: digest for key, digest in digests_in(engine).items() if key in kept}
    foreign = next(key for key in cluster.held(1) + cluster.held(3) + cluster.held(4) if key not in kept)
    entries = [(key, digests[key]) for key in kept[:4]] + [(foreign, 7)]
    entries[1] = (entries[1][0], entries[1][1] ^ 1)
    del engine.data[Space.DATA, entries[2][0]]
    damaged = engine.data[Space.DATA, entries[3][0]]
    engine.data[Space.DATA, entries[3][0]] = damaged[:-1] + bytes([damaged[-1] ^ 1])
    node._cache.clear()
    cluster.sent.clear()
    node.on_message(1, Offer(5, 1_000, 1, entries), 0.0)
    assert [message for _, _, message in cluster.sent] == [OfferReply(5, Status.OK, [0])]
    with pytest.raises(PeerError):
        node.on_message(1, Offer(6, 1_000, 1, [(b"", 1)]), 0.0)
    with pytest.raises(PeerError):
        node.on_message(1, Offer(7, 1_000, 1, [(kept[0], 1)] * (OFFER_ENTRIES_MAX + 1)), 0.0)
