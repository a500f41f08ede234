"""Hard case 15: a hint brought back what had been deleted and collected (scylladb#23712); a replay that failed counted
as success (scylladb#24415).

A hint older than the horizon is never delivered, and one whose delivery was not acknowledged is never forgotten.
"""

from __future__ import annotations

import pytest

from quorate.core.messages import Message, Status, Write, WriteReply
from quorate.core.ports import Space
from quorate.core.store import GetResult, PutResult
from quorate.node.options import NodeOptions
from tests.unit.small_cluster import SmallCluster

GRACE_HOURS = NodeOptions().grace_ms / 3_600_000


def kept_for_3(cluster: SmallCluster) -> None:
    cluster.kill(3)
    assert isinstance(cluster.put(1, b"k", b"v"), PutResult)
    assert cluster.hints() == {1: {3: 1}}


def test_a_hint_beyond_the_horizon_is_not_delivered_after_the_tombstone_was_collected() -> None:
    cluster = SmallCluster()
    kept_for_3(cluster)
    read = cluster.get(2, b"k")
    assert isinstance(read, GetResult)
    cluster.cut(1, 2)
    cluster.delete(2, b"k", read.context)
    cluster.wait(hours=GRACE_HOURS / 2 + 0.01)
    for number in (1, 2):  # The tombstone is collected: nothing of the key is left but the hint.
        cluster.kill(number)
        for place in [place for place in cluster.engines[number].data if place[0] == Space.DATA]:
            del cluster.engines[number].data[place]
        cluster.boot(number)
    cluster.heal()
    cluster.sent.clear()
    cluster.join(3)
    cluster.world.run(10_000)
    assert not any(isinstance(message, Write) for _, _, message in cluster.sent)
    assert cluster.hints() == {}
    assert cluster.counter("hints_expired") >= 1
    assert cluster.values(3, b"k", r=1) == []


def test_just_within_the_horizon_it_is_delivered() -> None:
    cluster = SmallCluster()
    kept_for_3(cluster)
    cluster.wait(hours=GRACE_HOURS / 2 - 0.01)
    cluster.join(3)
    cluster.world.run(3_000)
    assert cluster.values(3, b"k", r=1) == [b"v"]


def test_later_writes_do_not_carry_it_beyond_the_horizon() -> None:
    cluster = SmallCluster()
    kept_for_3(cluster)
    cluster.wait(hours=GRACE_HOURS / 2 - 0.01)
    assert isinstance(cluster.put(1, b"k", b"w"), PutResult)
    cluster.wait(hours=0.02)
    cluster.join(3)
    cluster.world.run(3_000)
    assert cluster.hints() == {}
    assert cluster.counter("hints_delivered") == 0


def test_a_put_that_a_fallback_builds_on_an_old_hint_does_not_make_it_younger() -> None:
    """The fallback takes what it keeps for one home into a put that it keeps for another: the same value, anew."""
    cluster = SmallCluster(size=5)
    homes, (fallback, second) = cluster.preference_list(b"k")
    for number in cluster.nodes:
        if number != fallback:
            cluster.kill(number)
    assert isinstance(cluster.put(fallback, b"k", b"old", w=1), PutResult)
    first_home = next(iter(cluster.hints()[fallback]))
    cluster.wait(hours=GRACE_HOURS / 2 - 0.1)
    for number in (first_home, second):  # Now another home is the one that cannot be reached.
        cluster.join(number)
    cluster.cut(first_home, fallback)
    hints = cluster.nodes[fallback]._shared.hints
    key = next(key for space, key in cluster.engines[fallback].data if space == Space.HINTS)[2:]
    assert isinstance(cluster.put(fallback, b"k", b"new", w=1), PutResult)
    cluster.world.run(100)
    others = cluster.nodes[second]._shared.hints
    kept = [hints.oldest_ms([home], key) for home in homes] + [others.oldest_ms([home], key) for home in homes]
    oldest = min(created_ms for created_ms in kept if created_ms)
    assert all(created_ms == oldest for created_ms in kept if created_ms)
    assert sum(1 for created_ms in kept if created_ms) >= 2
    cluster.wait(hours=0.2)
    assert hints.held(homes, key) == others.held(homes, key) == (None, 0)


def test_a_hint_whose_holder_slept_is_refused_by_the_home_whose_clock_did_not() -> None:
    cluster = SmallCluster()
    kept_for_3(cluster)
    cluster.ports[2].skew_ms += cluster.options.grace_ms
    cluster.ports[3].skew_ms += cluster.options.grace_ms  # By the holder's clock the hint is still young.
    cluster.join(3)
    cluster.world.run(3_000)
    assert cluster.hints() == {}
    assert cluster.counter("hints_refused_as_too_old") == 1
    assert cluster.bodies(b"k")[2] is None


def test_a_read_does_not_believe_a_fallback_whose_clock_slept() -> None:
    cluster = SmallCluster(size=4)
    homes, (fallback, *_) = cluster.preference_list(b"k")
    cluster.kill(homes[0])
    assert isinstance(cluster.put(homes[1], b"k", b"v", w=3), PutResult)
    assert fallback in cluster.hints()
    for number in homes[1:]:  # The tombstone was collected here, and they are a day ahead of the fallback.
        cluster.ports[number].skew_ms += cluster.options.grace_ms
        shared = cluster.nodes[number]._shared
        place = next(place for place in cluster.engines[number].data if place[0] == Space.DATA)
        stored = shared.records.read(place[1])
        assert stored is not None and shared.records.remove(place[1], stored[0], lambda argument, durable: None, None)
    cluster.world.run(10)
    assert cluster.values(homes[1], b"k", r=3) == []
    cluster.world.run(100)
    assert [cluster.bodies(b"k")[number - 1] for number in homes[1:]] == [None, None]


@pytest.mark.parametrize("status", [Status.FENCED, Status.OVERLOADED, None])
def test_a_replay_that_failed_is_no_success(status: Status | None) -> None:
    cluster = SmallCluster()
    kept_for_3(cluster)
    transmit = cluster.transmit

    def failing(sender: int, target: int, message: Message) -> None:
        if not isinstance(message, WriteReply):
            transmit(sender, target, message)
        elif status is not None:
            transmit(sender, target, WriteReply(message.id, status))

    cluster.transmit = failing  # type: ignore[method-assign]
    cluster.join(3)
    cluster.world.run(12_000)
    assert cluster.hints() == {1: {3: 1}}
    assert cluster.counter("hints_delivered") == 0
