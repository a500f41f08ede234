"""Sloppy quorums on whole nodes: a put succeeds as long as one node is reachable, and nothing of it is lost (§4.6)."""

from __future__ import annotations

import pytest

from quorate.core.causality.actor import member_of
from quorate.core.messages import HintedRead, HintedWrite, Status, Write, WriteReply
from quorate.core.ports import Space
from quorate.core.record import check, decode_record
from quorate.core.store import Failure, GetResult, PutRequest, PutResult
from quorate.node.options import NodeOptions
from quorate.node.put_operation import PutOperation
from tests.unit.small_cluster import SmallCluster

KEY = b"k"


def revive(cluster: SmallCluster) -> None:
    cluster.muted = set()
    cluster.heal()
    for number in cluster.nodes:
        if not cluster.ports[number].alive:
            cluster.join(number)
    cluster.world.run(15_000)


def homes_agree(cluster: SmallCluster, key: bytes = KEY) -> bool:
    homes, fallbacks = cluster.preference_list(key)
    bodies = cluster.bodies(key)
    held = [bodies[home - 1] for home in homes]
    assert all(bodies[fallback - 1] is None for fallback in fallbacks), "no fallback holds data of its own"
    return None not in held and len(set(held)) == 1


def test_two_homes_down_and_the_put_succeeds_is_read_back_and_comes_home() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    cluster.kill(homes[1])
    cluster.kill(homes[2])
    assert isinstance(cluster.put(homes[0], KEY, b"v", w=3), PutResult)
    assert cluster.hints() == {fallbacks[0]: {homes[1]: 1}, fallbacks[1]: {homes[2]: 1}}
    assert cluster.values(homes[0], KEY, r=3) == [b"v"]
    revive(cluster)
    assert homes_agree(cluster)
    assert cluster.hints() == {}


@pytest.mark.parametrize("survivor", [1, 2, 3, 4, 5])
def test_with_one_node_left_a_put_with_w_1_succeeds_and_reaches_its_homes(survivor: int) -> None:
    cluster = SmallCluster(size=5)
    for number in cluster.nodes:
        if number != survivor:
            cluster.kill(number)
    assert isinstance(cluster.put(survivor, KEY, b"v", w=1), PutResult)
    assert cluster.values(survivor, KEY, r=1) == [b"v"]
    revive(cluster)
    assert homes_agree(cluster)
    assert cluster.hints() == {}


def test_with_w_above_what_is_reachable_nothing_is_done() -> None:
    cluster = SmallCluster(size=5)
    for number in (2, 3, 4, 5):
        cluster.kill(number)
    refused = cluster.put(1, KEY, b"v", w=2)
    assert isinstance(refused, Failure)
    assert refused.kind == "unavailable"
    assert cluster.hints() == {}


def test_a_fallback_coordinates_under_its_own_actor_and_issues_no_dot_twice() -> None:
    """Hard cases 1 to 3: what it wrote before it goes on with; what has gone home it does not."""
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    dots: list[tuple[int, int]] = []
    coordinator = fallbacks[0]

    def put(value: bytes) -> None:
        result = cluster.put(coordinator, KEY, value, w=1, overwrite_seen=True)
        assert isinstance(result, PutResult)
        own = {actor: n for actor, n in result.context.clock.items() if member_of(actor) == coordinator}
        dots.extend(sorted(own.items())[-1:])

    for turn in range(3):
        for home in homes:
            cluster.cut(coordinator, home)
        put(b"a%d" % turn)
        put(b"b%d" % turn)
        cluster.heal()
        cluster.world.run(3_000)
        assert coordinator not in cluster.hints()
    assert len(dots) == len(set(dots)) == 6
    written = cluster.values(homes[0], KEY, r=3)
    assert written == [b"b0", b"b1", b"b2"], "each time it knew nothing any more of what had gone home"
    assert homes_agree(cluster)


def test_an_actor_is_not_gone_on_with_from_a_hint_that_has_forgotten_some_of_its_events() -> None:
    """The hint of one home goes home; the hint of another, kept earlier, holds the same actor with fewer events."""
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    coordinator = fallbacks[0]
    shared = cluster.nodes[coordinator]._shared
    for home in homes:
        cluster.cut(coordinator, home)
    first = cluster.put(coordinator, KEY, b"1", w=1)
    assert isinstance(first, PutResult)
    _, actor = shared.hints.held(homes, next_key(cluster, coordinator), homes[0])
    assert member_of(actor) == coordinator
    _, other = shared.hints.held(homes, next_key(cluster, coordinator), homes[1])
    assert other == 0, "the hint for this home may be older"
    cluster._cut -= {(coordinator, homes[0]), (homes[0], coordinator)}  # Usable again, and the hint still here.
    cluster.nodes[homes[0]]._shared.fenced_because = "a test"
    second = cluster.nodes[coordinator]._coordinator
    bucket = shared.view.bucket(b"b")
    partition, placement = second.place(bucket, b"b", KEY)
    answers: list[object] = []
    second._coordinate_put(
        PutRequest(b"b", KEY, b"2", overwrite_seen=True), answers.append, bucket, placement, partition, 1, 1_000
    )
    cluster.world.run(1_500)
    assert isinstance(answers[0], PutResult)
    new = {actor for actor in answers[0].context.clock if member_of(actor) == coordinator}
    assert len(new) == 2, "another home's hint: another actor"


def next_key(cluster: SmallCluster, holder: int) -> bytes:
    return next(key for space, key in sorted(cluster.engines[holder].data) if space == Space.HINTS)[2:]


def test_siblings_written_on_both_sides_of_a_partition_are_all_kept() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    left, right = [homes[0], fallbacks[0]], [homes[1], homes[2], fallbacks[1]]
    for one in left:
        for other in right:
            cluster.cut(one, other)
    for coordinator in (*left, *right):
        assert isinstance(cluster.put(coordinator, KEY, b"n%d" % coordinator, w=2), PutResult)
    revive(cluster)
    assert homes_agree(cluster)
    assert cluster.values(homes[0], KEY, r=3) == sorted(b"n%d" % number for number in (*left, *right))
    for body in cluster.bodies(KEY):
        if body is not None:
            check(decode_record(body))


def test_a_read_finds_what_only_fallbacks_hold() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    for home in homes:
        cluster.kill(home)
    assert isinstance(cluster.put(fallbacks[0], KEY, b"v", w=2), PutResult)
    cluster.sent.clear()
    assert cluster.values(fallbacks[1], KEY, r=2) == [b"v"]
    assert any(isinstance(message, HintedRead) for _, _, message in cluster.sent)
    cluster.world.run(100)
    writes = [(target, message) for _, target, message in cluster.sent if isinstance(message, Write)]
    assert not writes, "read repair sends data to replicas only"
    assert all(place[0] != Space.DATA for number in fallbacks for place in cluster.engines[number].data)


def test_a_read_asks_fallbacks_before_suspects_that_are_connected_and_silent() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(KEY)
    reader = homes[0]
    detector = cluster.nodes[reader]._shared.detector
    cluster.muted = set(homes[1:])
    for home in homes[1:]:
        for _ in range(3):
            detector.on_timeout(home, 1.0, cluster.world.now_ms + 100)
    assert isinstance(cluster.put(reader, KEY, b"v"), PutResult)
    begin = cluster.world.now_ms
    assert cluster.values(reader, KEY, r=3) == [b"v"]
    assert cluster.world.now_ms - begin < 10


def test_a_strict_bucket_takes_no_fallbacks_word_for_what_is_not_there() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"strict": "true", "r": "1"}, reply))
    cluster.world.run(100)
    assert isinstance(cluster.put(homes[0], KEY, b"v", w=3), PutResult)
    for home in homes:
        cluster.kill(home)
    result = cluster.get(fallbacks[0], KEY)
    assert isinstance(result, Failure)
    assert result.kind == "unavailable"


def test_a_slow_home_is_replaced_after_the_retry_time_within_the_budget() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(KEY)
    shared = cluster.nodes[homes[0]]._shared
    cluster.muted = {homes[1], homes[2]}
    begin = cluster.world.now_ms
    assert isinstance(cluster.put(homes[0], KEY, b"v"), PutResult)
    took_ms = cluster.world.now_ms - begin
    assert NodeOptions().retry_ms <= took_ms < NodeOptions().retry_ms + 50
    shared.retries.tokens = 0.0
    shared.detector.on_answer(homes[1], 1.0)
    shared.detector.on_answer(homes[2], 1.0)
    cluster.sent.clear()
    late = cluster.put(homes[0], KEY, b"w", timeout_ms=300)
    assert isinstance(late, Failure)
    assert late.kind == "unknown"
    assert not any(isinstance(message, HintedWrite) for _, _, message in cluster.sent), "the budget was used up"
    assert cluster.hints()[homes[0]] == dict.fromkeys(sorted(homes[1:]), 1), "so the hints are here"
    cluster.world.run(1_000)
    assert shared.in_flight_bytes == shared.in_flight == 0
    revive(cluster)
    assert homes_agree(cluster)
    assert cluster.hints() == {}


def test_when_a_put_ends_every_home_that_did_not_acknowledge_has_its_hint_somewhere() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    cluster.muted = {homes[2]}
    assert isinstance(cluster.put(homes[0], KEY, b"v"), PutResult)
    assert cluster.hints() == {}, "two of three have acknowledged, and the third may still"
    cluster.world.run(1_100)
    assert cluster.hints() == {homes[0]: {homes[2]: 1}}
    cluster.kill(homes[2])
    cluster.muted = {fallbacks[0]}
    assert isinstance(cluster.put(homes[0], KEY, b"w", overwrite_seen=True), PutResult)
    cluster.world.run(1_100)
    assert cluster.hints()[homes[0]] == {homes[2]: 1}
    shared = cluster.nodes[homes[0]]._shared
    assert shared.in_flight_bytes == shared.in_flight == 0
    assert not any(isinstance(operation, PutOperation) for operation in shared.requests.pending.values())
    revive(cluster)
    assert cluster.values(homes[2], KEY, r=1) == [b"w"]


def test_a_home_that_refuses_or_goes_away_in_the_middle_is_replaced_at_once() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    cluster.nodes[homes[1]]._shared.fenced_because = "a test"
    replies: list[object] = []
    begin = cluster.world.now_ms
    cluster.nodes[homes[0]].put(PutRequest(b"b", KEY, b"v", w=3), replies.append)
    cluster.world.run(0.5)
    cluster.kill(homes[2])
    while not replies:
        cluster.world.run(1)
    assert isinstance(replies[0], PutResult)
    assert cluster.world.now_ms - begin < 20
    hints = cluster.hints()
    assert {home for by_home in hints.values() for home in by_home} == {homes[1], homes[2]}
    assert set(hints) == set(fallbacks)
    assert cluster.counter("writes_stood_in") == 2


def test_each_fallback_is_sent_a_put_once_also_if_a_home_is_lost_while_it_leaves() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(KEY)
    cluster.kill(homes[1])
    wire = cluster.nodes[homes[0]]._shared.transport
    send = wire.send
    wire.send = lambda member, message: member != homes[2] and send(member, message)  # type: ignore[method-assign]
    cluster.sent.clear()
    assert isinstance(cluster.put(homes[0], KEY, b"v", w=3), PutResult)
    hinted = [target for _, target, message in cluster.sent if isinstance(message, HintedWrite)]
    assert len(hinted) == len(set(hinted)) == 2


def test_what_one_replica_sheds_does_not_fall_on_the_next_beyond_the_budget() -> None:
    """Hard case 32: rejected writes that are retried at once elsewhere spread the overload."""
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(KEY)
    shared = cluster.nodes[homes[0]]._shared
    transmit = cluster.transmit

    def shedding(sender: int, target: int, message: object) -> None:
        if isinstance(message, WriteReply):
            message = WriteReply(message.id, Status.OVERLOADED)
        transmit(sender, target, message)  # type: ignore[arg-type]

    cluster.transmit = shedding  # type: ignore[method-assign]
    shared.retries.tokens = 2.0
    for index in range(20):
        result = cluster.put(homes[0], KEY, b"%d" % index, overwrite_seen=True)
        assert isinstance(result, Failure)
        assert result.kind == "unknown"
    assert cluster.counter("writes_stood_in") == 3, "two tokens, and one earned by twenty puts"
    assert shared.in_flight_bytes == shared.in_flight == 0


def test_a_put_is_handed_to_suspects_only_if_it_is_strict() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(KEY)
    outsider = fallbacks[0]
    detector = cluster.nodes[outsider]._shared.detector
    cluster.muted = set(homes)
    for home in homes:
        for _ in range(3):
            detector.on_timeout(home, 1.0, cluster.world.now_ms + 100)
    begin = cluster.world.now_ms
    assert isinstance(cluster.put(outsider, KEY, b"v", w=2), PutResult)
    assert cluster.world.now_ms - begin < 20
    assert isinstance(cluster.put(outsider, KEY, b"v", w=2, strict=True), Failure)
    result = cluster.get(outsider, KEY, r=2)
    assert isinstance(result, GetResult | Failure)
    assert cluster.nodes[outsider]._shared.in_flight == 0
