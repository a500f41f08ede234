"""Silence: who owes answers and says nothing is passed over within tens of milliseconds, and nothing worse happens.

Hard case 33: until a stopped node was suspected, a share of all reads waited for it.
"""

from __future__ import annotations

import pytest

from quorate.core.membership.failure_detector import FailureDetector
from quorate.core.membership.silence import ASIDE_MS_MAX, SILENT_MS, TIMES_USUAL, Silence
from quorate.core.messages import HintedRead, HintedWrite, Probe, Read, Write
from quorate.core.store import GetRequest, GetResult, PutRequest, PutResult
from quorate.node.listening import LATE_MS, listen
from quorate.node.requests import AGED_TURNS, TICK_MS, RequestTable
from tests.unit.small_cluster import Ports, SmallCluster, World

NOTICED_MS = SILENT_MS + (AGED_TURNS + 1) * TICK_MS
"""At the latest so long after it stopped answering a peer under load is known to be silent."""


# --- the judgement ---


def test_a_peer_is_silent_after_a_while_and_only_if_its_answers_do_not_always_take_so_long() -> None:
    silence = Silence()
    assert silence.judge({2: SILENT_MS - 1}, {}, 4, 1_000.0) == []
    assert silence.judge({2: SILENT_MS}, {2: SILENT_MS / TIMES_USUAL + 1}, 4, 1_000.0) == []
    assert silence.peers == {}
    assert silence.judge({2: SILENT_MS}, {2: 1.0}, 4, 1_000.0) == [2]
    assert silence.judge({2: SILENT_MS + 10}, {2: 1.0}, 4, 1_010.0) == [], "it is told once"
    assert silence.peers == {2: True}


@pytest.mark.parametrize(("others", "silent", "judged"), [(2, 1, 1), (2, 2, 0), (3, 2, 0), (4, 2, 2), (4, 3, 0)])
def test_if_more_than_half_are_silent_nobody_is(others: int, silent: int, judged: int) -> None:
    silence = Silence()
    quiet_ms = dict.fromkeys(range(2, 2 + silent), 50.0)
    assert len(silence.judge(quiet_ms, {}, others, 1_000.0)) == judged
    assert len(silence.peers) == judged


def test_when_the_others_fall_silent_too_it_was_not_the_first_ones_fault() -> None:
    silence = Silence()
    assert silence.judge({2: 30.0}, {}, 2, 1_000.0) == [2]
    silence.judge({2: 40.0, 3: 30.0}, {}, 2, 1_010.0)
    assert silence.peers == {}


def test_who_is_heard_again_stays_aside_as_long_as_the_silence_lasted_within_a_bound() -> None:
    silence = Silence()
    silence.judge({2: 60.0}, {}, 4, 1_000.0)
    silence.judge({}, {}, 4, 1_059.0)
    assert silence.peers == {2: True}
    silence.judge({}, {}, 4, 1_060.0)
    assert silence.peers == {}
    silence.judge({2: 30_000.0}, {}, 4, 50_000.0)
    silence.judge({}, {}, 4, 50_000.0 + ASIDE_MS_MAX)
    assert silence.peers == {}


def test_who_works_for_a_moment_in_every_hundred_milliseconds_is_not_trusted_with_every_sign_of_life() -> None:
    silence = Silence()
    trusted = 0
    for now_ms in range(1_000, 3_000, 10):
        quiet_ms = float(now_ms % 100)  # It speaks once in a hundred, and always owes.
        silence.judge({2: quiet_ms} if quiet_ms else {}, {}, 4, float(now_ms))
        trusted += 2 not in silence.peers
    assert trusted == 2, "until it is known for the first time"


def test_a_connection_that_ends_or_begins_ends_the_silence() -> None:
    detector = FailureDetector()
    for peer in (2, 3):
        detector.on_connected(peer, 0.0)
    for change in (detector.on_connected, detector.on_disconnected):
        assert detector.judge_silence({2: 30.0}, 1_000.0) == [2]
        change(2, 1_001.0)
        assert detector.silent == {}
        assert detector.judge_silence({}, 1_002.0) == []


def test_the_status_says_why_and_probes_ask() -> None:
    detector = FailureDetector()
    for peer in (2, 3):
        detector.on_connected(peer, 0.0)
    detector.judge_silence({2: 30.0}, 1_000.0)
    view = detector.view(2, 1_000.0)
    assert view.state == "up"
    assert "says nothing" in view.reason
    assert detector.due_probes(1_000.0) == [2]


# --- on whole nodes ---


def silent_at(cluster: SmallCluster, number: int) -> list[int]:
    return list(cluster.nodes[number]._shared.detector.silent)


def reads_asked(cluster: SmallCluster) -> list[int]:
    return [target for _, target, message in cluster.sent if isinstance(message, Read)]


def without_hedges(cluster: SmallCluster) -> None:
    """No read is hedged for being late, so that what happens is due to silence."""
    for node in cluster.nodes.values():
        node._shared.read_latency.estimate_ms = 1e9
        node._shared.hedges.tokens = 0.0


def start_reads(cluster: SmallCluster, count: int, every_ms: float = 1.0) -> list[float]:
    """Reads at node 1, one after the other; gives the list that their latencies go to."""
    latencies: list[float] = []
    for _ in range(count):
        begin_ms = cluster.world.now_ms

        def replied(result: object, begin_ms: float = begin_ms) -> None:
            assert isinstance(result, GetResult)
            latencies.append(cluster.world.now_ms - begin_ms)

        cluster.nodes[1].get(GetRequest(b"b", b"k"), replied)
        cluster.world.run(every_ms)
    return latencies


def test_reads_avoid_a_peer_that_fell_silent_and_those_in_flight_ask_another() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(1_000)
    without_hedges(cluster)
    cluster.muted = {2}
    cluster.sent.clear()
    latencies = start_reads(cluster, 200)
    cluster.world.run(NOTICED_MS)
    assert len(latencies) == 200
    assert max(latencies) <= NOTICED_MS + 2
    assert silent_at(cluster, 1) == [2]
    asked_of_2 = reads_asked(cluster).count(2)
    assert 0 < asked_of_2 <= NOTICED_MS / 2, "every second one, until it was noticed"
    assert cluster.counter("reads_around_silence") == asked_of_2
    assert cluster.counter("reads_retried") == 0


def test_without_tokens_reads_in_flight_wait() -> None:
    """Hard case 33: speculation is paid for, whatever the reason for it."""
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(1_000)
    without_hedges(cluster)
    cluster.nodes[1]._shared.retries.tokens = 0.0
    cluster.muted = {2}
    latencies = start_reads(cluster, 10)
    cluster.world.run(2 * NOTICED_MS)
    assert silent_at(cluster, 1) == [2]
    assert len(latencies) == 5
    assert cluster.counter("reads_around_silence") == 0


def test_a_read_with_a_hedge_on_its_way_asks_nobody_else() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    shared = cluster.nodes[homes[0]]._shared
    cluster.put(homes[0], b"k", b"v")
    cluster.world.run(1_000)
    shared.read_latency.estimate_ms = 1.0
    cluster.kill(homes[1])  # So that fallbacks are in reserve.
    cluster.delay_ms = {homes[2]: 45, fallbacks[0]: 40}
    cluster.talking = {fallbacks[0]}
    cluster.sent.clear()
    assert isinstance(cluster.get(homes[0], b"k"), GetResult)
    asked = [target for _, target, message in cluster.sent if isinstance(message, Read | HintedRead)]
    assert asked == [homes[2], fallbacks[0]]
    assert cluster.counter("peers_silent") == 1
    assert (cluster.counter("reads_hedged"), cluster.counter("reads_around_silence")) == (1, 0)


def test_writes_still_go_to_a_silent_home_and_leave_no_hint() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(b"k")
    assert isinstance(cluster.put(homes[0], b"k", b"v"), PutResult)
    cluster.world.run(1_000)
    cluster.delay_ms = {homes[1]: 40}
    for _ in range(20):
        assert isinstance(cluster.put(homes[0], b"k", b"w", overwrite_seen=True), PutResult)
    cluster.world.run(NOTICED_MS / 2)
    assert silent_at(cluster, homes[0]) == [homes[1]]
    cluster.sent.clear()
    assert isinstance(cluster.put(homes[0], b"k", b"x", overwrite_seen=True), PutResult)
    assert homes[1] in [target for _, target, message in cluster.sent if isinstance(message, Write)]
    cluster.world.run(2_000)
    assert not any(isinstance(message, HintedWrite) for _, _, message in cluster.sent)
    assert cluster.hints() == {}
    assert cluster.counter("writes_stood_in") == 0


def test_a_pause_of_30_ms_costs_a_few_reads_a_detour_and_is_forgotten_soon() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(1_000)
    start_reads(cluster, 50)
    cluster.delay_ms = {2: 30}
    start_reads(cluster, 30)
    cluster.delay_ms = {}
    start_reads(cluster, 200)
    detector = cluster.nodes[1]._shared.detector
    assert (detector.silent, detector.suspects) == ({}, {})
    assert cluster.counter("peers_silent") == 1
    assert cluster.hints() == {}
    cluster.sent.clear()
    start_reads(cluster, 10)
    assert sorted(reads_asked(cluster)) == [2] * 5 + [3] * 5


def test_a_cluster_without_traffic_and_one_that_is_late_as_a_whole_have_nobody_silent() -> None:
    cluster = SmallCluster(size=5)
    cluster.world.run(10_000)
    assert isinstance(cluster.put(1, b"k", b"v"), PutResult)
    cluster.delay_ms = dict.fromkeys((2, 3, 4, 5), 60)
    start_reads(cluster, 100)
    cluster.world.run(2_000)
    assert cluster.counter("peers_silent") <= 2, "two of four may be late before the third is"
    assert all(not node._shared.detector.silent for node in cluster.nodes.values())


def test_who_is_heard_is_not_silent_however_late_its_answers_are() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(1_000)
    cluster.muted = {2}
    cluster.talking = {2}
    start_reads(cluster, 60)
    assert silent_at(cluster, 1) == []
    cluster.talking = set()
    start_reads(cluster, 60)
    assert silent_at(cluster, 1) == [2]


def test_a_forwarded_get_goes_on_to_another_replica_and_a_put_waits() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    outsider = fallbacks[0]
    assert isinstance(cluster.put(homes[0], b"k", b"v"), PutResult)
    cluster.world.run(1_000)
    shared = cluster.nodes[outsider]._shared
    first = shared.nearest_first(tuple(homes), shared.requests.next_turn() + 1)[0]
    cluster.muted = {first}
    begin_ms = cluster.world.now_ms
    assert isinstance(cluster.get(outsider, b"k"), GetResult)
    assert cluster.world.now_ms - begin_ms <= NOTICED_MS + 4
    assert silent_at(cluster, outsider) == [first]
    assert cluster.counter("forwards") == 2
    cluster.world.run(1_000)
    first = shared.nearest_first(tuple(homes), shared.requests.next_turn() + 1)[0]
    cluster.muted = {first}
    replies: list[object] = []
    cluster.nodes[outsider].put(PutRequest(b"b", b"k", b"w", operation=7, overwrite_seen=True), replies.append)
    cluster.world.run(2 * NOTICED_MS)
    assert silent_at(cluster, outsider) == [first]
    assert (cluster.counter("forwards"), replies) == (3, []), "it may be under way at the silent one"


def test_a_node_that_serves_reads_alone_comes_to_suspect_a_silent_peer_by_its_probes() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(2_000)
    cluster.muted = {2}
    cluster.sent.clear()
    start_reads(cluster, 2)
    cluster.world.run(1_000)
    assert reads_asked(cluster).count(2) == 1
    assert 2 in cluster.nodes[1]._shared.detector.suspects
    assert any(isinstance(message, Probe) for _, _, message in cluster.sent)
    cluster.muted = set()
    cluster.world.run(10_000)
    detector = cluster.nodes[1]._shared.detector
    assert (detector.silent, detector.suspects) == ({}, {})


def test_a_turn_that_came_late_judges_nobody() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(1_000)
    shared = cluster.nodes[1]._shared
    shared.requests._on_turn = lambda now_ms, late_ms: None
    cluster.muted = {2}
    start_reads(cluster, 50)
    now_ms = cluster.world.now_ms
    listen(shared, now_ms, LATE_MS + 1)
    assert not shared.detector.silent
    listen(shared, now_ms, 0.0)
    assert shared.detector.silent == {2: True}


def test_the_wheel_tells_how_late_a_turn_came_and_what_has_grown_old() -> None:
    world = World()
    ports = Ports(world)
    turns: list[tuple[float, float, int]] = []
    table = RequestTable(
        ports,
        ports,
        ports,
        lambda now_ms: None,
        lambda now_ms, late_ms: turns.append((now_ms, late_ms, len(list(table.aged())))),
    )

    class Open:
        def on_time(self) -> None:
            pass

    table.open(Open(), 1_000.0)  # type: ignore[arg-type]
    world.run(25)
    world._heap = [(37.0, order, callback) for _, order, callback in world._heap]
    table.open(Open(), 1_000.0)  # type: ignore[arg-type]
    world.run(35)
    assert turns == [(10.0, 0.0, 0), (20.0, 0.0, 0), (37.0, 7.0, 1), (47.0, 0.0, 1), (57.0, 0.0, 2)]
