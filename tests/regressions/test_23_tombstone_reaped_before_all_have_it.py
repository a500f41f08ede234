"""Hard case 23: a tombstone was reaped when W of N replicas had it, and a slow one brought the value back (riak_kv#311,
#1777).

Here every replica has to say that it holds the very same record, synced; and then, since a message that carries the
value may have left the slow one just before it was repaired, the removal waits until no such message can be left.
"""

from __future__ import annotations

import pytest

from quorate.core.limits import (
    COLLECT_QUIET_MS,
    COLLECT_TIMEOUT_MS,
    EXCHANGE_RECORDS_HELD_MAX_MS,
    REQUEST_TIMEOUT_MAX_MS,
)
from quorate.core.messages import Collect, LeafKeysReply, Message, Write
from quorate.core.ports import Space
from quorate.core.store import GetResult, PutRequest, PutResult
from quorate.node.handoff import HINT_TIMEOUT_MS
from tests.unit.collecting import GRACE_HOURS, OPTIONS, QUIET_MS, collect, gone, sweep
from tests.unit.exchange_cluster import exchange, plant, record_of, started
from tests.unit.small_cluster import SmallCluster


def slow_third(cluster: SmallCluster) -> list[int]:
    """Two replicas hold the tombstone; the third, whose writes are lost and whose hint expires, still the value."""
    homes = cluster.preference_list(b"k")[0]
    assert isinstance(cluster.put(homes[0], b"k", b"v", w=3), PutResult)
    read = cluster.get(homes[0], b"k", r=3)
    assert isinstance(read, GetResult)
    transmit = cluster.transmit

    def losing(sender: int, target: int, message: Message) -> None:
        if not (isinstance(message, Write) and target == homes[2]):
            transmit(sender, target, message)

    cluster.transmit = losing  # type: ignore[method-assign]
    assert isinstance(cluster.delete(homes[0], b"k", read.context), PutResult)
    cluster.world.run(3_000)
    cluster.wait(hours=GRACE_HOURS + 1)
    cluster.world.run(3_000)
    cluster.transmit = transmit  # type: ignore[method-assign]
    return homes


def test_while_one_lags_nothing_is_reaped_and_repair_brings_the_tombstone_to_it() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = slow_third(cluster)
    before = cluster.bodies(b"k")
    assert before[homes[0] - 1] == before[homes[1] - 1] != before[homes[2] - 1]
    collect(cluster)
    assert cluster.bodies(b"k") == before
    assert not any(isinstance(message, Collect) for _, _, message in cluster.sent)
    exchange(cluster, homes[2], homes[0])
    assert cluster.values(homes[2], b"k", r=1) == []
    collect(cluster)
    assert gone(cluster)


def test_a_read_repair_that_left_before_the_proof_is_dropped_after_the_removal() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = slow_third(cluster)
    place = next(place for place in cluster.engines[homes[2]].data if place[0] == Space.DATA)
    stored = cluster.nodes[homes[2]]._shared.records.read(place[1])
    assert stored is not None
    late = Write(0, REQUEST_TIMEOUT_MAX_MS, cluster.ring.version, place[1], stored[2], 0)
    sent_ms = cluster.world.now_ms
    cluster.world.run(6_000)  # No exchange brings what hints are on their way with.
    exchange(cluster, homes[2], homes[0])
    sweep(cluster)
    cluster.world.run(QUIET_MS + 1_000)
    assert gone(cluster)
    # The message has been on its way since before the proof. A real node waits `COLLECT_QUIET_MS` between the two.
    age_ms = cluster.world.now_ms - sent_ms - QUIET_MS + COLLECT_QUIET_MS
    cluster.nodes[homes[0]].on_message(homes[2], late, age_ms)
    cluster.world.run(100)
    assert gone(cluster)
    assert cluster.counter("expired_requests_dropped") == 1
    cluster.nodes[homes[0]].on_message(homes[2], late, 0.0)
    cluster.world.run(100)
    assert not gone(cluster), "so it was the age, and nothing else, that kept it out"


@pytest.mark.sources
@pytest.mark.parametrize(("held_up_ms", "taken"), [(50_000, True), (EXCHANGE_RECORDS_HELD_MAX_MS + 5_000, False)])
def test_an_answer_of_an_exchange_that_lay_too_long_is_not_taken_in(held_up_ms: float, taken: bool) -> None:
    """The asker is too busy to merge what a peer held when it answered; meanwhile that may have been collected."""
    cluster = SmallCluster(options=OPTIONS)
    plant(cluster, 2, b"k", record_of(b"v"))
    cluster.world.run(100)
    background, transmit = cluster.nodes[1]._shared.background, cluster.transmit
    take = background.take

    def holding_up(sender: int, target: int, message: Message) -> None:
        if isinstance(message, LeafKeysReply):
            background.take = lambda wanted, now_ms: 0  # type: ignore[method-assign]
        transmit(sender, target, message)

    cluster.transmit = holding_up  # type: ignore[method-assign]
    under_way = started(cluster, 1, 2)
    cluster.world.run(held_up_ms)
    background.take = take  # type: ignore[method-assign]
    assert under_way.finish().received == int(taken)
    assert (cluster.bodies(b"k")[0] is not None) == taken


@pytest.mark.parametrize("longest_ms", [2 * REQUEST_TIMEOUT_MAX_MS, COLLECT_TIMEOUT_MS, HINT_TIMEOUT_MS])
def test_the_quiet_time_is_longer_than_anything_is_under_way(longest_ms: int) -> None:
    assert longest_ms < COLLECT_QUIET_MS


def test_a_delete_with_w_1_is_collected_all_the_same_once_all_have_it() -> None:
    cluster = SmallCluster(options=OPTIONS)
    homes = cluster.preference_list(b"k")[0]
    cluster.put(homes[0], b"k", b"v")
    read = cluster.get(homes[0], b"k", r=3)
    assert isinstance(read, GetResult)
    cluster.cut(homes[0], homes[1])
    cluster.cut(homes[0], homes[2])
    request = PutRequest(b"b", b"k", context=read.context, delete=True, w=1)
    assert isinstance(cluster.call(lambda reply: cluster.nodes[homes[0]].put(request, reply)), PutResult)
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert not gone(cluster)
    cluster.heal()
    cluster.world.run(3_000)
    for other in homes[1:]:
        exchange(cluster, homes[0], other)
    collect(cluster)
    assert gone(cluster)
    assert cluster.values(homes[1], b"k", r=3) == []
