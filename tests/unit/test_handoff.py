"""Hinted handoff on whole nodes: when hints go home, in which order, how fast, and what counts as delivered."""

from __future__ import annotations

import pytest

from quorate.core.errors import StorageError
from quorate.core.limits import HINTS_IN_FLIGHT_MAX
from quorate.core.messages import Message, Status, Write, WriteReply
from quorate.core.ports import Space
from quorate.core.store import PutResult
from quorate.node.options import NodeOptions
from tests.unit.small_cluster import SmallCluster


def with_hints(count: int, size: int = 3, home: int = 3) -> SmallCluster:
    """A cluster where node 1 coordinated `count` puts while `home` was down."""
    cluster = SmallCluster(size=size)
    cluster.kill(home)
    for index in range(count):
        result = cluster.put(1, b"k%04d" % index, b"v", w=1)
        assert isinstance(result, PutResult)
    assert sum(by_home.get(home, 0) for by_home in cluster.hints().values()) == count
    return cluster


def same_everywhere(cluster: SmallCluster, count: int) -> bool:
    return all(len(set(cluster.bodies(b"k%04d" % index))) == 1 for index in range(count))


def test_hints_go_home_as_soon_as_it_is_back_and_only_then_leave() -> None:
    cluster = with_hints(20)
    cluster.world.run(5_000)
    assert cluster.hints() == {1: {3: 20}}
    cluster.join(3)
    cluster.world.run(100)
    assert cluster.hints() == {}
    assert same_everywhere(cluster, 20)
    assert cluster.counter("hints_delivered") == 20
    assert not any(place[0] == Space.HINTS for place in cluster.engines[1].data)


def test_they_are_sent_in_key_order_a_bounded_number_at_a_time() -> None:
    cluster = with_hints(3 * HINTS_IN_FLIGHT_MAX)
    cluster.sent.clear()
    cluster.join(3)
    in_flight = most = 0
    keys: list[bytes] = []
    cluster.world.run(2_000)
    for _, _, message in cluster.sent:
        if isinstance(message, Write):
            keys.append(message.key)
            in_flight += 1
        elif isinstance(message, WriteReply):
            in_flight -= 1
        most = max(most, in_flight)
    assert keys == sorted(keys)
    assert len(keys) == 3 * HINTS_IN_FLIGHT_MAX
    assert most <= HINTS_IN_FLIGHT_MAX


@pytest.mark.sources
def test_they_are_paced_by_what_background_work_is_admitted() -> None:
    cluster = with_hints(200)
    begin_ms = cluster.world.now_ms
    granted = 0

    def fifty_a_second(wanted: int, now_ms: float) -> int:
        nonlocal granted
        slice_ = min(wanted, int((now_ms - begin_ms) * 0.05) - granted)
        granted += slice_
        return slice_

    cluster.nodes[1]._shared.background.take = fifty_a_second  # type: ignore[method-assign]
    cluster.join(3)
    while cluster.hints():
        cluster.world.run(500)
        delivered = cluster.counter("hints_delivered")
        assert delivered <= (cluster.world.now_ms - begin_ms) * 0.05
        assert cluster.world.now_ms - begin_ms < 6_000, "and what is admitted is used"
    assert same_everywhere(cluster, 200)


@pytest.mark.sources
def test_no_timer_of_an_ended_pass_disturbs_the_next() -> None:
    cluster = with_hints(8)
    background = cluster.nodes[1]._shared.background
    answers = [4, 0, 0, 0, 0]
    take = background.take
    background.take = (  # type: ignore[method-assign]
        lambda wanted, now_ms: answers.pop(0) if answers else take(wanted, now_ms)
    )
    cluster.join(3)
    cluster.world.run(3_000)
    assert cluster.hints() == {}
    assert same_everywhere(cluster, 8)


@pytest.mark.parametrize("status", [Status.FENCED, Status.OVERLOADED, Status.STALE_RING])
def test_a_refusal_is_not_success(status: Status) -> None:
    cluster = with_hints(5)
    transmit = cluster.transmit
    refusing = True

    def refuse(sender: int, target: int, message: Message) -> None:
        if refusing and isinstance(message, WriteReply):
            message = WriteReply(message.id, status)
        transmit(sender, target, message)

    cluster.transmit = refuse  # type: ignore[method-assign]
    cluster.join(3)
    cluster.world.run(5_000)
    assert cluster.hints() == {1: {3: 5}}
    refusing = False
    cluster.world.run(2_000)
    assert cluster.hints() == {}


def test_silence_is_not_success_and_what_was_lost_is_sent_again() -> None:
    cluster = with_hints(5)
    cluster.join(3)
    cluster.muted = {3}
    cluster.world.run(10_000)
    assert cluster.hints() == {1: {3: 5}}
    cluster.muted = set()
    cluster.world.run(10_000)
    assert cluster.hints() == {}
    assert same_everywhere(cluster, 5)


def test_a_home_that_dies_in_the_middle_gets_the_rest_after_its_return() -> None:
    cluster = with_hints(100)
    cluster.join(3)
    cluster.world.run(2.5)
    cluster.kill(3)
    cluster.world.run(3_000)
    assert cluster.hints()[1][3] > 0
    cluster.join(3)
    cluster.world.run(3_000)
    assert cluster.hints() == {}
    assert same_everywhere(cluster, 100)


def test_a_hint_that_grew_while_it_was_on_its_way_stays_and_goes_again() -> None:
    cluster = with_hints(1)
    cluster.join(3)
    cluster.world.run(0.5)
    shared = cluster.nodes[1]._shared
    key = next(key for space, key in cluster.engines[1].data if space == Space.HINTS)[2:]
    other = with_hints(1)
    ((_, stored),) = other.nodes[1]._shared.hints.page(3, b"", 1)
    from quorate.core.hints import hint_key, unpack_hint
    from quorate.core.record import decode_record, encode_record

    theirs = decode_record(unpack_hint(hint_key(3, key), stored).body)
    ours = type(theirs)({5: 1}, [type(theirs.siblings[0])(5, 1, 1 << 16, b"more")])
    shared.hints.keep(3, key, encode_record(ours), 0, 0)
    cluster.world.run(3)
    assert cluster.hints() == {1: {3: 1}}
    cluster.world.run(2_000)
    assert cluster.hints() == {}
    assert b"more" in cluster.values(3, b"k0000", r=1)


def test_hints_survive_a_restart_of_the_holder_and_of_the_home() -> None:
    cluster = with_hints(30)
    cluster.kill(1)
    cluster.boot(1)
    assert cluster.hints() == {1: {3: 30}}
    cluster.join(3)
    cluster.world.run(2_000)
    assert cluster.hints() == {}
    cluster.kill(3)
    cluster.boot(3)
    assert same_everywhere(cluster, 30)


def test_a_damaged_hint_is_reported_and_does_not_hold_up_the_others() -> None:
    cluster = with_hints(3)
    data = cluster.engines[1].data
    place = min(place for place in data if place[0] == Space.HINTS)
    data[place] = data[place][:-1] + bytes([data[place][-1] ^ 1])
    cluster.join(3)
    cluster.world.run(2_000)
    assert cluster.hints() == {}
    assert cluster.counter("hints_damaged") > 0
    assert cluster.counter("hints_delivered") == 2


def test_a_fenced_holder_neither_delivers_nor_forgets() -> None:
    cluster = with_hints(3)
    cluster.nodes[1].fence(StorageError("Input/output error"))
    cluster.join(3)
    cluster.world.run(3_000)
    assert cluster.hints() == {1: {3: 3}}


def test_full_hint_stores_shed_with_a_time_to_come_back_and_nothing_is_done() -> None:
    cluster = SmallCluster(size=5, options=NodeOptions(hints_bytes_max=60))
    homes, fallbacks = cluster.preference_list(b"k")
    for number in cluster.nodes:
        if number != fallbacks[0]:
            cluster.kill(number)
    result = cluster.put(fallbacks[0], b"k", b"v" * 100, w=1)
    assert result.kind == "overloaded"  # type: ignore[union-attr]
    assert result.retry_after_ms > 0  # type: ignore[union-attr]
    assert cluster.counter("hints_refused") == 1
    shared = cluster.nodes[fallbacks[0]]._shared
    assert shared.in_flight == shared.in_flight_bytes == 0
    assert not shared.requests.pending
    assert cluster.values(fallbacks[0], b"k", r=1) == []
    assert homes
