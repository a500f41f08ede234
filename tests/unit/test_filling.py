"""Partitions that are being filled: nothing that a node has lost counts as an answer, and everything comes back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from quorate.core.errors import StorageError
from quorate.core.messages import Read, ReadReply, Scan, ScanPosition, ScanReply, Status
from quorate.core.ports import Space
from quorate.core.record import decode_record
from quorate.core.store import Failure, GetRequest, GetResult, KeysPage, KeysRequest, PutResult
from quorate.node.filling import PATIENCE_MS
from quorate.node.options import NodeOptions
from tests.unit.exchange_cluster import held, put_raw, stored_key
from tests.unit.filling_cluster import (
    KEYS,
    come_back_empty,
    filled,
    noted,
    stocked,
    trees_equal,
    until_filled,
)
from tests.unit.small_cluster import SmallCluster


def acknowledged_by_two(cluster: SmallCluster, first: int, second: int, third: int, key: bytes = b"k") -> None:
    """A put that `first` and `second` acknowledged and `third` knows nothing of, not even by a hint."""
    cluster.cut(first, third)
    cluster.cut(second, third)
    assert isinstance(cluster.put(first, key, b"v", w=2), PutResult)
    cluster.world.run(50)
    cluster.wipe(first)  # And with it the hint for the third.
    assert not cluster.nodes[second]._shared.hints.by_home


def reply_of(cluster: SmallCluster, number: int, message: Read | Scan) -> ReadReply | ScanReply:
    """What node `number` answers to a peer."""
    sender = 1 if number != 1 else 2
    cluster.sent.clear()
    cluster.nodes[number].on_message(sender, message, 0.0)
    cluster.world.run(0)
    (reply,) = [
        sent for source, _, sent in cluster.sent if source == number and isinstance(sent, ReadReply | ScanReply)
    ]
    return reply


# --- who has to be filled ---


def test_a_new_cluster_has_nothing_to_wait_for() -> None:
    cluster = SmallCluster(anti_entropy=True)
    assert all(filled(cluster, number) and not noted(cluster, number) for number in cluster.nodes)
    assert cluster.values(1, b"k", r=3) == []


def test_a_new_cluster_that_lacks_a_node_serves_after_a_moment() -> None:
    cluster = SmallCluster(anti_entropy=True)
    for number in cluster.nodes:
        cluster.wipe(number)
    cluster.join(1)
    cluster.join(2)
    assert not filled(cluster, 1)
    assert until_filled(cluster, 1) < PATIENCE_MS + 2_000
    until_filled(cluster, 2)
    assert cluster.values(1, b"k", r=2) == []


def test_a_restarted_node_that_was_whole_serves_at_once() -> None:
    cluster = stocked()
    cluster.kill(2)
    cluster.join(2)
    assert filled(cluster, 2)


def test_a_peer_that_keeps_hints_is_not_empty() -> None:
    """What they hold is acknowledged, and nowhere else."""
    cluster = SmallCluster(size=4, anti_entropy=True)
    homes, (fallback,) = cluster.preference_list(b"k")
    for home in homes[1:]:
        cluster.cut(homes[0], home)
        cluster.cut(fallback, home)
    assert isinstance(cluster.put(homes[0], b"k", b"v", w=2), PutResult)
    cluster.world.run(50)
    assert cluster.hints()[fallback]
    cluster.wipe(homes[0])
    for other in homes[1:]:
        cluster.cut(homes[0], other)
    cluster.join(homes[0])
    cluster.world.run(100)
    assert not filled(cluster, homes[0])
    cluster.heal()
    until_filled(cluster, homes[0])
    cluster.world.run(5_000)
    assert cluster.values(homes[0], b"k", r=3) == [b"v"]


# --- what it answers meanwhile ---


def test_it_answers_not_ready_to_peers() -> None:
    cluster = stocked()
    come_back_empty(cluster, 3)
    key = stored_key(cluster, KEYS[0])
    read = Read(7, 1_000, 1, key, True)
    assert reply_of(cluster, 3, read) == ReadReply(7, Status.NOT_READY)
    scan = Scan(8, 1_000, 1, b"b", b"", [ScanPosition(key[0] << 8 | key[1], b"")], 10, 0)
    assert reply_of(cluster, 3, scan) == ScanReply(8, Status.NOT_READY, [])
    until_filled(cluster, 3)
    assert reply_of(cluster, 3, read).status == Status.OK
    assert reply_of(cluster, 3, scan).status == Status.OK


def test_its_own_record_does_not_count_when_it_coordinates() -> None:
    cluster = stocked()
    come_back_empty(cluster, 3)
    assert cluster.values(3, KEYS[0], r=2) == [b"v-" + KEYS[0]]
    failure = cluster.get(3, KEYS[0], r=3)
    assert isinstance(failure, Failure) and failure.kind == "unavailable" and "n3" in failure.missing
    until_filled(cluster, 3)
    assert cluster.values(3, KEYS[0], r=3) == [b"v-" + KEYS[0]]


@pytest.mark.parametrize("late_ms", [0, 40, 1_500])
@pytest.mark.parametrize("late", ["second", "third", "neither"])
def test_a_quorum_read_is_right_at_every_moment(late: str, late_ms: int) -> None:
    """Of what the wiped node and one other have acknowledged, whoever connects first, and however late the other."""
    cluster = SmallCluster(anti_entropy=True)
    wiped, second, third = cluster.preference_list(b"k")[0]
    acknowledged_by_two(cluster, wiped, second, third)
    cluster._cut.clear()
    cluster.cut(second, third)  # Else the third gets it from the second, and all is well.
    if late != "neither":
        cluster.cut(wiped, second if late == "second" else third)
    cluster.join(wiped)
    answers: list[GetResult | Failure] = []
    for elapsed_ms in range(0, 4_000, 20):
        if elapsed_ms == late_ms:
            late_peer = second if late == "second" else third
            cluster._cut -= {(wiped, late_peer), (late_peer, wiped)}
            cluster.nodes[wiped].on_connected(late_peer)
            cluster.nodes[late_peer].on_connected(wiped)
        for number in (wiped, second, third):
            cluster.nodes[number].get(GetRequest(b"b", b"k", 2), answers.append)
        cluster.world.run(20)
    cluster.world.run(5_000)
    assert len(answers) == 600, "each is answered"
    for answer in answers:
        if isinstance(answer, GetResult):
            assert [sibling.value for sibling in answer.siblings] == [b"v"]
    assert isinstance(answers[-1], GetResult), "and in the end they are answered with the value"


def test_a_connection_that_is_lost_for_a_moment_is_waited_for() -> None:
    cluster = SmallCluster(anti_entropy=True)
    wiped, second, third = cluster.preference_list(b"k")[0]
    acknowledged_by_two(cluster, wiped, second, third)
    cluster._cut.clear()
    cluster.cut(second, third)
    cluster.cut(wiped, second)
    cluster.join(wiped)
    for _ in range(10):
        cluster.world.run(PATIENCE_MS - 500)
        assert not filled(cluster, wiped)
        cluster.cut(wiped, third)
        cluster.heal()  # All are connected.
        cluster.cut(second, third)
        cluster.muted.add(second)
        cluster.world.run(20)
        cluster.muted.clear()
        cluster.cut(wiped, second)
    cluster._cut -= {(wiped, second), (second, wiped)}
    cluster.nodes[wiped].on_connected(second)
    cluster.nodes[second].on_connected(wiped)
    until_filled(cluster, wiped)
    assert cluster.values(wiped, b"k", r=2) == [b"v"]


def test_puts_through_it_go_to_a_replica_that_knows_more() -> None:
    """A plain SET overwrites what its coordinator has seen: here that is nothing."""
    cluster = stocked()
    come_back_empty(cluster, 3)
    for key in KEYS:
        assert isinstance(cluster.put(3, key, b"new", overwrite_seen=True), PutResult)
        assert not filled(cluster, 3)
        assert cluster.values(1, key, r=2) == [b"new"], "no sibling"
    actors = [actor for record in held(cluster, 1).values() for actor in decode_record(record).clock]
    assert all(actor >> 48 != 3 for actor in actors), "it has coordinated none of them"


def test_nobody_is_handed_his_own_put() -> None:
    cluster = stocked()
    come_back_empty(cluster, 3)
    cluster.sent.clear()
    for key in KEYS:
        cluster.put(3, key, b"new")
    assert all(source != target for source, target, _ in cluster.sent)


def test_a_put_is_taken_where_nobody_else_is_there() -> None:
    cluster = stocked()
    come_back_empty(cluster, 3)
    cluster.kill(1)
    cluster.kill(2)
    assert isinstance(cluster.put(3, b"new", b"v", w=1), PutResult)
    failure = cluster.get(3, b"new", r=1)
    assert isinstance(failure, Failure), "what else there may be, it does not know"
    for number in (1, 2):
        cluster.join(number)
    until_filled(cluster, 3)
    assert cluster.values(3, b"new", r=3) == [b"v"]
    assert all(cluster.values(3, key, r=3) == [b"v-" + key] for key in KEYS)


def test_a_listing_asks_others() -> None:
    cluster = stocked()
    come_back_empty(cluster, 3)
    for node in cluster.nodes.values():
        page = cluster.call(partial(node.keys, KeysRequest(b"b")))
        assert isinstance(page, KeysPage) and sorted(page.keys) == sorted(KEYS)
    assert not filled(cluster, 3)
    cluster.kill(1)
    failure = cluster.call(lambda reply: cluster.nodes[3].keys(KeysRequest(b"b"), reply))
    assert isinstance(failure, Failure) and failure.kind == "unavailable"


def test_a_listing_through_it_does_not_count_what_it_lacks() -> None:
    cluster = SmallCluster(anti_entropy=True)
    wiped, second, third = cluster.preference_list(b"k")[0]
    acknowledged_by_two(cluster, wiped, second, third)
    cluster._cut.clear()
    cluster.cut(second, third)
    cluster.cut(second, wiped)
    come_back_empty(cluster, wiped)
    page = cluster.call(partial(cluster.nodes[wiped].keys, KeysRequest(b"b")))
    assert isinstance(page, Failure) and page.kind == "unavailable", "an empty page would be a lie"


def test_hints_are_handed_to_it_while_it_is_filled() -> None:
    cluster = SmallCluster(size=5, anti_entropy=True)
    homes, fallbacks = cluster.preference_list(b"k")
    cluster.wipe(homes[1])
    assert isinstance(cluster.put(homes[0], b"k", b"v", w=3), PutResult)
    assert cluster.hints() == {fallbacks[0]: {homes[1]: 1}}
    cluster.cut(homes[1], homes[0])
    cluster.cut(homes[1], homes[2])
    cluster.join(homes[1])
    cluster.world.run(8_000)  # A majority tells it, the patience for the rest having run out.
    assert not filled(cluster, homes[1]) and cluster.hints() == {}
    assert cluster.bodies(b"k")[homes[1] - 1] is not None
    cluster.heal()
    until_filled(cluster, homes[1])
    assert cluster.values(homes[1], b"k", r=3) == [b"v"]


def test_no_dot_of_the_former_life_is_used_again() -> None:
    cluster = stocked()
    wiped = cluster.preference_list(KEYS[0])[0][0]
    for key in KEYS:
        read = cluster.get(wiped, key)
        assert isinstance(read, GetResult)
        cluster.put(wiped, key, b"second", context=read.context)
    cluster.world.run(2_000)  # A store's epochs begin with the second of its birth.
    before = {actor for body in held(cluster, 1).values() for actor in decode_record(body).clock}
    assert any(actor >> 48 == wiped for actor in before)
    come_back_empty(cluster, wiped)
    for other in cluster.nodes:
        if other != wiped:
            cluster.cut(wiped, other)
    assert not filled(cluster, wiped)
    for key in KEYS:
        assert isinstance(cluster.put(wiped, key, b"alone", w=1), PutResult)
    cluster.heal()
    until_filled(cluster, wiped)
    cluster.world.run(3_000)
    for key in KEYS:
        assert cluster.values(wiped, key, r=3) == [b"alone", b"second"], "an old dot would hide one of them"
        read = cluster.get(wiped, key)
        assert isinstance(read, GetResult)
        assert isinstance(cluster.put(wiped, key, b"third", context=read.context), PutResult)
    minted = {
        sibling.actor
        for body in held(cluster, wiped).values()
        for sibling in decode_record(body).siblings
        if sibling.actor >> 48 == wiped
    }
    assert not minted & before


# --- how it ends ---


def test_afterwards_the_trees_are_equal_and_it_says_so() -> None:
    cluster = stocked(size=4)
    come_back_empty(cluster, 2)
    assert not filled(cluster, 2) and noted(cluster, 2)
    until_filled(cluster, 2)
    assert not noted(cluster, 2)
    assert trees_equal(cluster)


@pytest.mark.parametrize("after_ms", [0, 500, 1_000, 1_010, 1_040, 1_100])
def test_a_crash_half_way_does_not_make_it_whole(after_ms: int) -> None:
    cluster = stocked(size=4)
    come_back_empty(cluster, 2)
    cluster.world.run(after_ms)
    if filled(cluster, 2):
        pytest.skip("it was faster than that")
    cluster.kill(2)
    assert noted(cluster, 2)
    cluster.join(2)
    assert not filled(cluster, 2)
    until_filled(cluster, 2)
    assert trees_equal(cluster)


def test_it_goes_on_even_if_anti_entropy_was_switched_off_meanwhile() -> None:
    cluster = stocked()
    come_back_empty(cluster, 2)
    cluster.kill(2)
    cluster.anti_entropy = False
    cluster.join(2)
    assert not filled(cluster, 2)
    until_filled(cluster, 2)
    assert trees_equal(cluster)


def test_a_peer_that_stays_down_is_not_waited_for() -> None:
    cluster = stocked()
    cluster.kill(1)
    come_back_empty(cluster, 3)
    assert PATIENCE_MS <= until_filled(cluster, 3) < PATIENCE_MS + 3_000
    assert all(cluster.values(3, key, r=2) == [b"v-" + key] for key in KEYS)


def test_a_peer_that_dies_meanwhile_is_not_waited_for() -> None:
    cluster = stocked()
    come_back_empty(cluster, 3)
    cluster.world.run(500)
    assert not filled(cluster, 3)
    cluster.kill(1)
    until_filled(cluster, 3)
    assert all(cluster.values(3, key, r=2) == [b"v-" + key] for key in KEYS)


def test_nobody_there_fills_nothing() -> None:
    cluster = stocked()
    for number in (1, 2):
        cluster.kill(number)
    come_back_empty(cluster, 3)
    cluster.world.run(60_000)
    assert not filled(cluster, 3)
    assert isinstance(cluster.get(3, KEYS[0], r=1), Failure)


def disk_full(cluster: SmallCluster, number: int) -> None:
    cluster.engines[number].free = 0.0


def disk_fails(cluster: SmallCluster, number: int) -> None:
    cluster.nodes[number].fence(StorageError("input/output error"))


def stops_answering(cluster: SmallCluster, number: int) -> None:
    cluster.muted.add(number)


@pytest.mark.parametrize("trouble", [disk_full, disk_fails, stops_answering])
def test_a_connected_peer_in_trouble_is_not_waited_for_without_end(
    trouble: Callable[[SmallCluster, int], None],
) -> None:
    cluster = stocked()
    trouble(cluster, 1)
    cluster.world.run(1_500)
    come_back_empty(cluster, 3)
    assert until_filled(cluster, 3, limit_ms=60_000) >= PATIENCE_MS
    assert all(cluster.values(3, key, r=1) == [b"v-" + key] for key in KEYS)


def test_one_record_that_nobody_can_read_does_not_hold_back_its_partition() -> None:
    cluster = stocked()
    put_raw(cluster, 1, b"bad", b"\xc1")
    come_back_empty(cluster, 3)
    until_filled(cluster, 3)
    assert all(cluster.values(3, key, r=3) == [b"v-" + key] for key in KEYS)


def test_a_record_that_fails_to_be_read_here_does_hold_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another time it may be taken in."""
    cluster = stocked()
    come_back_empty(cluster, 3)
    failing = stored_key(cluster, KEYS[0])
    commits = cluster.nodes[3]._shared.commits

    def fails(space: Space, key: bytes) -> bytes | None:
        if key == failing:
            raise StorageError("input/output error")
        return cluster.engines[3].get(space, key)

    with monkeypatch.context() as patch:
        patch.setattr(commits, "_engine_get", fails)
        cluster.world.run(10_000)
        assert list(cluster.nodes[3]._shared.filling.partitions) == [failing[0] << 8 | failing[1]]
    until_filled(cluster, 3)
    assert held(cluster, 3) == held(cluster, 1)


def test_comparing_one_bucket_on_demand_fills_nothing() -> None:
    cluster = stocked(options=NodeOptions())
    cluster.wipe(3)
    for other in (1, 2):
        cluster.muted.add(other)
    cluster.join(3)
    cluster.world.run(100)
    cluster.muted.clear()
    before = len(cluster.nodes[3]._shared.filling.partitions)
    cluster.nodes[3].repair(b"other", lambda reply: None)
    cluster.world.run(600)
    assert len(cluster.nodes[3]._shared.filling.partitions) == before
