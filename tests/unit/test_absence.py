"""Coming back after a long absence: who has to wait, what a node does while it waits, and how it decides."""

from __future__ import annotations

import pytest

from quorate.core.errors import StorageError
from quorate.core.messages import AbsenceReply, Read, ReadReply, Status, WriteReply
from quorate.core.ports import Space
from quorate.core.record import decode_record
from quorate.core.store import Failure, PutResult
from quorate.node.absence import (
    ALIVE_INTERVAL_MS,
    ASK_INTERVAL_MS,
    COLLECTED_KEY,
    PATIENCE_MS,
    SLACK_MS,
    stamp,
)
from quorate.node.filling import FILLING_KEY
from tests.unit.absent_cluster import KEYS, OPTIONS, aged, away, has_collected, held_keys, sign_of_life, waits
from tests.unit.collecting import GRACE_HOURS, collect, deleted, gone
from tests.unit.exchange_cluster import held, stored_key
from tests.unit.filling_cluster import filled, trees_equal, until_filled
from tests.unit.small_cluster import SmallCluster

# --- signs of life ---


def test_a_sign_is_given_at_the_start_every_minute_and_at_a_stop() -> None:
    cluster = SmallCluster(options=OPTIONS, anti_entropy=True)
    ports = cluster.ports[1]
    begun_ms = 1_800_000_000_000
    assert sign_of_life(cluster, 1) == stamp(begun_ms)
    cluster.world.run(ALIVE_INTERVAL_MS)
    assert sign_of_life(cluster, 1) == stamp(begun_ms + ALIVE_INTERVAL_MS)
    cluster.world.run(10_000)
    cluster.nodes[1].stop()
    assert sign_of_life(cluster, 1) == stamp(ports.wall_ms())


def test_a_fenced_node_gives_no_sign() -> None:
    cluster = aged()
    before = sign_of_life(cluster, 1)
    cluster.nodes[1].fence(StorageError("input/output error"))
    cluster.world.run(2 * ALIVE_INTERVAL_MS)
    cluster.nodes[1].stop()
    assert sign_of_life(cluster, 1) == before


def test_a_sign_that_cannot_be_written_stops_nothing() -> None:
    cluster = aged()
    cluster.engines[1].failure = StorageError("no space left on device")
    cluster.world.run(ALIVE_INTERVAL_MS)
    cluster.engines[1].failure = None
    cluster.world.run(ALIVE_INTERVAL_MS)
    assert sign_of_life(cluster, 1) is not None
    assert cluster.values(1, KEYS[0], r=3) == [b"v"]


# --- who waits ---


def test_away_for_less_than_grace_serves_at_once() -> None:
    cluster = aged()
    has_collected(cluster, 1)
    away(cluster, 3, hours=GRACE_HOURS - 1)
    cluster.join(3)
    assert not waits(cluster, 3) and filled(cluster, 3)
    assert held_keys(cluster, 3) == len(KEYS)
    assert cluster.values(3, KEYS[0], r=3) == [b"v"]


def test_a_collection_is_a_sign_of_life_as_well() -> None:
    cluster = aged()
    away(cluster, 3)
    has_collected(cluster, 3, ago_ms=60_000)
    cluster.join(3)
    assert not waits(cluster, 3)


def test_a_lone_node_asks_nobody() -> None:
    cluster = aged(size=1)
    away(cluster, 1, hours=1_000)
    cluster.join(1)
    assert not waits(cluster, 1)
    assert cluster.values(1, KEYS[0], r=1) == [b"v"]


def test_away_for_longer_while_nothing_was_collected_serves_what_it_holds() -> None:
    cluster = aged()
    cluster.put(1, b"late", b"v", w=3)
    away(cluster, 3)
    cluster.join(3)
    assert waits(cluster, 3) and not filled(cluster, 3)
    cluster.world.run(20)
    assert not waits(cluster, 3) and filled(cluster, 3)
    assert held_keys(cluster, 3) == len(KEYS) + 1
    assert sign_of_life(cluster, 3) == stamp(cluster.ports[3].wall_ms() - 18), "and lives"
    assert cluster.values(3, b"late", r=3) == [b"v"]


def test_while_it_waits_it_takes_no_writes_and_fallbacks_do() -> None:
    cluster = aged(size=4)
    homes, (fallback,) = cluster.preference_list(b"k")
    returned = homes[2]
    away(cluster, returned)
    for other in cluster.nodes:
        if other not in (returned, homes[0]):
            cluster.cut(returned, other)
    cluster.muted.add(returned)  # So that it is not told anything yet; what it says is heard.
    cluster.join(returned)
    assert waits(cluster, returned)
    cluster.muted.clear()
    assert isinstance(cluster.put(homes[0], b"k", b"v", w=3), PutResult)
    cluster.world.run(50)
    assert waits(cluster, returned)
    assert cluster.bodies(b"k")[returned - 1] is None
    assert cluster.hints() == {fallback: {returned: 1}}
    refusals = [reply for source, _, reply in cluster.sent if source == returned and isinstance(reply, WriteReply)]
    assert any(reply.status == Status.FENCED for reply in refusals)
    assert isinstance(cluster.put(returned, b"k", b"w", w=1), PutResult), "handed on to one that takes it"
    assert cluster.bodies(b"k")[returned - 1] is None
    cluster.heal()
    cluster.world.run(20_000)
    assert not waits(cluster, returned) and cluster.hints() == {}
    assert cluster.bodies(b"k")[returned - 1] is not None


def test_while_it_waits_it_answers_no_reads_and_takes_part_in_nothing() -> None:
    cluster = aged()
    away(cluster, 3)
    cluster.muted.add(3)
    cluster.join(3)
    cluster.sent.clear()
    cluster.nodes[3].on_message(1, Read(7, 1_000, 1, stored_key(cluster, KEYS[0]), True), 0.0)
    cluster.world.run(5_000)
    said = [message for source, _, message in cluster.sent if source == 3]
    assert ReadReply(7, Status.NOT_READY) in said
    assert waits(cluster, 3)
    assert {type(message).__name__ for message in said} <= {"ReadReply", "AbsenceAsk", "GossipSyn", "Probe"}
    assert isinstance(cluster.get(3, KEYS[0], r=3), Failure)


def test_what_empty_peers_say_does_not_make_it_serve_before_the_decision() -> None:
    """All there was has been deleted and collected: the others are empty, and only the old disk holds it yet."""
    cluster = SmallCluster(options=OPTIONS, anti_entropy=True)
    cluster.world.run(ALIVE_INTERVAL_MS + 1_000)
    homes = cluster.preference_list(b"k")[0]
    cluster.put(1, b"k", b"v", w=3)
    cluster.world.run(ALIVE_INTERVAL_MS)
    snapshot = dict(cluster.engines[homes[2]].data)
    deleted(cluster)
    cluster.wait(hours=GRACE_HOURS + 1)
    collect(cluster)
    assert gone(cluster) and cluster.nodes[homes[0]].trees.empty()
    cluster.kill(homes[2])
    cluster.engines[homes[2]].data = snapshot
    for other in homes[:2]:
        cluster.cut(homes[2], other)
    cluster.join(homes[2])
    cluster.world.run(ASK_INTERVAL_MS / 2)
    cluster.heal()  # Long before it asks again whether anything was collected.
    for _ in range(100):
        assert cluster.nodes[homes[2]]._absence.settled or not filled(cluster, homes[2])
        for number in homes:
            read = cluster.get(number, b"k", r=1)
            assert isinstance(read, Failure) or read.siblings == []
    cluster.world.run(ASK_INTERVAL_MS)
    assert cluster.nodes[homes[2]]._absence.settled
    assert gone(cluster)


# --- the decision ---


def test_one_serving_peer_that_collected_is_enough_to_be_emptied_and_filled() -> None:
    cluster = aged()
    cluster.nodes[3].stop()  # So that its trees are there at once, and show what it held.
    away(cluster, 3)
    has_collected(cluster, 1)
    kept = {key for space, key in cluster.engines[3].data if space == Space.META and b"tree" not in key}
    cluster.put(1, b"only here", b"v")
    cluster.join(3)
    cluster.world.run(20)
    assert not waits(cluster, 3)
    assert held_keys(cluster, 3) == 0 and not filled(cluster, 3)
    assert (Space.META, FILLING_KEY) in cluster.engines[3].data
    assert kept <= {key for space, key in cluster.engines[3].data if space == Space.META}, "who it is stays"
    assert not any(space == Space.HINTS for space, _ in cluster.engines[3].data)
    until_filled(cluster, 3)
    assert held(cluster, 3) == held(cluster, 1)
    assert trees_equal(cluster)
    assert all(cluster.values(3, key, r=3) == [b"v"] for key in [*KEYS, b"only here"])


def test_an_emptied_node_uses_no_old_dot_again() -> None:
    cluster = aged()
    for key in KEYS:
        cluster.put(3, key, b"mine", overwrite_seen=True)
    cluster.world.run(50)
    before = {actor for body in held(cluster, 3).values() for actor in decode_record(body).clock}
    away(cluster, 3)
    has_collected(cluster, 1)
    cluster.join(3)
    cluster.world.run(20)
    assert held_keys(cluster, 3) == 0
    cluster.cut(1, 3)
    cluster.cut(2, 3)
    for key in KEYS:
        assert isinstance(cluster.put(3, key, b"alone", w=1), PutResult)
    minted = {actor for body in held(cluster, 3).values() for actor in decode_record(body).clock}
    assert minted and not minted & before
    cluster.heal()
    until_filled(cluster, 3)
    cluster.world.run(3_000)
    assert all(cluster.values(3, key, r=3) == [b"alone", b"mine"] for key in KEYS)


def test_what_was_collected_just_before_it_left_does_not_count() -> None:
    """It took part in that."""
    for after_ms, emptied in ((SLACK_MS, False), (SLACK_MS + OPTIONS.clock_skew_max_ms, True)):
        cluster = aged()
        cluster.nodes[3].stop()
        cluster.kill(3)
        left_ms = cluster.ports[3].wall_ms()
        cluster.wait(hours=GRACE_HOURS + 1)
        cluster.engines[1].data[Space.META, COLLECTED_KEY] = stamp(left_ms + after_ms)
        cluster.join(3)
        cluster.world.run(20)
        assert (held_keys(cluster, 3) == 0) is emptied


@pytest.mark.parametrize("state", ["fenced", "filling"])
def test_a_peer_that_collected_and_does_not_serve_is_waited_for(state: str) -> None:
    """It cannot make this node empty itself, since it may hold nothing; nor may what it knows be passed over."""
    cluster = aged()
    away(cluster, 3)
    has_collected(cluster, 1)
    cluster.kill(2)
    if state == "fenced":
        cluster.engines[1].free = 0.0
        cluster.world.run(1_500)
    else:
        cluster.nodes[1]._shared.filling.begin()
    cluster.join(3)
    cluster.world.run(3 * PATIENCE_MS)
    assert waits(cluster, 3) and held_keys(cluster, 3) == len(KEYS)
    if state == "fenced":
        cluster.engines[1].free = 0.5
    else:
        cluster.nodes[1]._shared.filling.give_up()
    cluster.world.run(2_000)
    assert not waits(cluster, 3)
    until_filled(cluster, 3)
    assert cluster.values(3, KEYS[0], r=2) == [b"v"]


def test_a_peer_that_connects_while_it_decides_is_heard() -> None:
    cluster = aged()
    away(cluster, 3)
    has_collected(cluster, 2)
    cluster.cut(2, 3)
    cluster.join(3)
    cluster.world.run(PATIENCE_MS - 1_000)
    assert waits(cluster, 3), "the first says no, and the second may still come"
    cluster.heal()
    cluster.world.run(ASK_INTERVAL_MS + 20)
    assert not waits(cluster, 3) and held_keys(cluster, 3) == 0


def test_one_member_that_is_dead_for_good_does_not_keep_it_from_deciding() -> None:
    cluster = aged()
    cluster.kill(1)
    away(cluster, 3)
    cluster.join(3)
    cluster.world.run(PATIENCE_MS - 1_000)
    assert waits(cluster, 3)
    cluster.world.run(2_000)
    assert not waits(cluster, 3) and held_keys(cluster, 3) == len(KEYS)
    assert cluster.values(3, KEYS[0], r=2) == [b"v"]


def test_it_needs_the_word_of_another_replica_for_each_partition() -> None:
    cluster = aged(size=5, partitions=32)
    heard = 1
    alone = [
        placement.replicas
        for placement in cluster.nodes[3]._shared.view.placements_of(3)
        if placement.stores and heard not in placement.replicas
    ]
    assert alone, "some of its partitions have other replicas only"
    for other in (2, 4, 5):
        cluster.kill(other)
    away(cluster, 3)
    cluster.join(3)
    cluster.world.run(10 * PATIENCE_MS)
    assert waits(cluster, 3)
    cluster.join(2)
    cluster.join(4)
    cluster.world.run(2_000)
    assert not waits(cluster, 3)


def test_nobody_there_decides_nothing() -> None:
    cluster = aged()
    cluster.kill(1)
    cluster.kill(2)
    away(cluster, 3)
    cluster.join(3)
    cluster.world.run(10 * PATIENCE_MS)
    assert waits(cluster, 3)


def test_an_answer_that_comes_after_the_decision_changes_nothing() -> None:
    cluster = aged()
    away(cluster, 3)
    has_collected(cluster, 1)
    cluster.cut(1, 3)
    cluster.join(3)
    cluster.world.run(PATIENCE_MS + 1_000)
    assert not waits(cluster, 3) and held_keys(cluster, 3) == len(KEYS)
    for number in range(200):
        cluster.nodes[3].on_message(1, AbsenceReply(number, Status.OK, True), 0.0)
    cluster.world.run(1_000)
    assert held_keys(cluster, 3) == len(KEYS)
