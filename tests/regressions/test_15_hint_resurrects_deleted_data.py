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
