"""The failure detector: suspicion from evidence, cleared by proof, and never of others for the node's own sickness."""

from __future__ import annotations

import itertools

from quorate.core.membership.failure_detector import (
    FAILURES_MIN,
    PROBE_INTERVAL_MAX_MS,
    PROBE_INTERVAL_MIN_MS,
    SLOW_MS,
    TICK_INTERVAL_MS,
    FailureDetector,
)
from quorate.core.store import GetResult, PutResult
from quorate.node.requests import RequestTable
from tests.unit.small_cluster import Ports, SmallCluster, World


def detector_with(*peers: int) -> FailureDetector:
    detector = FailureDetector()
    for peer in peers:
        detector.on_connected(peer, 0.0)
    return detector


def suspect(detector: FailureDetector, peer: int, now_ms: float = 1_000.0) -> None:
    for _ in range(int(FAILURES_MIN)):
        detector.on_timeout(peer, 100.0, now_ms)
    assert peer in detector.suspects


def test_suspicion_needs_evidence_and_says_why() -> None:
    detector = detector_with(2)
    for _ in range(int(FAILURES_MIN) - 1):
        detector.on_timeout(2, 100.0, 1_000.0)
        assert detector.view(2, 1_000.0).state == "up"
    detector.on_timeout(2, 100.0, 1_000.0)
    view = detector.view(2, 1_000.0)
    assert (view.state, list(detector.suspects)) == ("suspected", [2])
    assert "3 requests unanswered lately, against 0 answered" in view.reason


def test_a_busy_peer_that_fails_now_and_then_is_not_suspected() -> None:
    detector = detector_with(2)
    for _ in range(100):
        detector.on_answer(2, 1.0)
        detector.on_timeout(2, 100.0, 1_000.0)
    assert not detector.suspects
    detector.on_timeout(2, 100.0, 1_000.0)
    assert detector.suspects, "more fail than succeed"


def test_one_answer_in_time_clears_and_a_slow_one_does_not() -> None:
    detector = detector_with(2)
    suspect(detector, 2)
    detector.on_answer(2, SLOW_MS)
    assert detector.suspects
    detector.on_answer(2, SLOW_MS - 1)
    assert not detector.suspects
    assert detector.view(2, 1_000.0).state == "up"
    detector.on_timeout(2, 100.0, 1_000.0)
    assert not detector.suspects, "what was before the proof does not count any more"


def test_a_peer_that_answers_everything_long_after_its_timeout_is_suspected() -> None:
    """Hard case 33: a node that is slow does answer, only too late to be of use."""
    detector = detector_with(2)
    for _ in range(1_000):
        detector.on_answer(2, 1.0)
    for now_ms in range(0, 20_000, 100):
        detector.on_answer(2, SLOW_MS + 50)
        detector.on_timeout(2, 100.0, now_ms)
        detector.tick(now_ms)
    assert 2 in detector.suspects


def test_observations_fade() -> None:
    detector = detector_with(2)
    detector.tick(1_000.0)
    detector.on_timeout(2, 100.0, 1_000.0)
    detector.on_timeout(2, 100.0, 1_000.0)
    detector.tick(2_000.0)
    assert detector.view(2, 2_000.0).failures == 1.0
    detector.tick(20_000.0)
    detector.on_timeout(2, 100.0, 20_000.0)
    detector.on_timeout(2, 100.0, 20_000.0)
    assert not detector.suspects, "two failures long ago and two now are not three"


def test_a_node_that_stood_still_blames_nobody_for_what_was_in_flight() -> None:
    detector = detector_with(2)
    detector.on_own_stall(5_000.0)
    for _ in range(10):
        detector.on_timeout(2, 100.0, 5_099.0)
    assert detector.view(2, 5_099.0).failures == 0
    suspect(detector, 2, 5_100.0)


def test_probes_of_a_suspect_double_up_to_a_bound_and_start_over_after_a_recovery() -> None:
    detector = detector_with(2, 3)
    suspect(detector, 2, 1_000.0)
    probed = [now for now in range(0, 60_000, 50) if detector.due_probes(1_000.0 + now) == [2]]
    gaps = [after - before for before, after in itertools.pairwise(probed)]
    assert probed[0] == PROBE_INTERVAL_MIN_MS
    assert gaps[:4] == [200, 400, 800, 1600]
    assert max(gaps) == gaps[-1] == PROBE_INTERVAL_MAX_MS
    detector.on_answer(2, 1.0)
    assert detector.due_probes(100_000.0) == []
    suspect(detector, 2, 100_000.0)
    assert detector.due_probes(100_000.0 + PROBE_INTERVAL_MIN_MS) == [2]


def test_a_connection_that_ends_or_begins_ends_the_suspicion() -> None:
    detector = detector_with(2)
    suspect(detector, 2)
    detector.on_disconnected(2, 1_000.0)
    assert not detector.suspects
    assert detector.view(2, 1_000.0).state == "down"
    detector.on_timeout(2, 100.0, 1_000.0)
    assert not detector.suspects, "who is down is not probed over a connection that is not there"
    detector.on_answer(2, 1.0)  # A straggler from before.
    detector.on_connected(2, 2_000.0)
    assert detector.view(2, 2_000.0).state == "up"
    assert detector.view(9, 0.0).state == "down", "of a peer that never was there nothing is known"


def test_slow_is_told_by_comparison_and_load_on_all_makes_nobody_slow() -> None:
    detector = detector_with(2, 3, 4)
    for _ in range(200):
        for peer, latency_ms in ((2, 1.0), (3, 2.0), (4, 100.0)):
            detector.on_answer(peer, latency_ms)
    detector.tick(100.0)
    assert list(detector.slow) == [4]
    assert "many times as long" in detector.view(4, 100.0).reason
    assert detector.due_probes(100.0) == [4], "reads avoid it, so somebody has to ask how it is"
    for _ in range(200):
        for peer in (2, 3, 4):
            detector.on_answer(peer, 100.0)
    detector.tick(200.0)
    assert not detector.slow


def test_a_slow_peer_is_avoided_by_reads_and_used_again_when_it_recovers() -> None:
    """Hard case 33 on whole nodes: 100 ms instead of 1 is no timeout, and still no place to read from."""
    cluster = SmallCluster()
    cluster.delay_ms = {3: 50}
    for index in range(20):
        assert isinstance(cluster.put(1, b"k%d" % index, b"v"), PutResult)
    cluster.world.run(200)
    cluster.sent.clear()
    for index in range(20):
        begin = cluster.world.now_ms
        assert isinstance(cluster.get(1, b"k%d" % index), GetResult)
        assert cluster.world.now_ms - begin < 10
    cluster.delay_ms = {}
    cluster.world.run(10_000)
    assert not cluster.nodes[1]._shared.detector.slow, "probes noticed it without traffic"


def test_a_peer_that_falls_silent_is_suspected_soon_avoided_and_welcomed_back() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    coordinator, victim = homes[0], homes[1]
    detector = cluster.nodes[coordinator]._shared.detector
    cluster.muted = {victim}
    for _ in range(4):
        assert isinstance(cluster.put(coordinator, b"k", b"v", overwrite_seen=True), PutResult)
    cluster.world.run(200)
    assert list(detector.suspects) == [victim]
    cluster.sent.clear()
    assert isinstance(cluster.put(coordinator, b"k", b"v2", overwrite_seen=True), PutResult)
    assert {target for _, target, _ in cluster.sent} >= {homes[2], fallbacks[0]}
    assert victim not in {target for _, target, _ in cluster.sent}
    cluster.muted = set()
    cluster.world.run(PROBE_INTERVAL_MAX_MS + 10 * TICK_INTERVAL_MS)
    assert not detector.suspects
    assert cluster.values(victim, b"k", r=1) == [b"v2"], "and what it missed came to it"


def test_one_silent_request_is_one_observation_and_late_helpers_are_not_blamed_for_its_age() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(b"k")
    coordinator = homes[0]
    cluster.muted = cluster.talking = set(homes[1:])
    cluster.call(lambda reply: cluster.nodes[coordinator].get(_get(b"k"), reply))
    cluster.world.run(1_500)
    detector = cluster.nodes[coordinator]._shared.detector
    now_ms = cluster.world.now_ms
    assert not detector.suspects
    assert all(detector.view(member, now_ms).failures <= 1.0 for member in homes[1:])


def _get(key: bytes) -> object:
    from quorate.core.store import GetRequest

    return GetRequest(b"b", key)


def test_a_node_that_was_stopped_blames_nobody_when_it_goes_on() -> None:
    cluster = SmallCluster()
    replies: list[object] = []
    from quorate.core.store import PutRequest

    for index in range(10):
        cluster.nodes[1].put(PutRequest(b"b", b"k%d" % index, b"v", w=3), replies.append)
    world = cluster.world
    heap, world._heap = world._heap, []
    world.now_ms += 30_000  # Everything that was due now comes late, timers first.
    world._heap = [(world.now_ms + (order > 10**9), order, callback) for _, order, callback in heap]
    world.run(300)
    detector = cluster.nodes[1]._shared.detector
    assert cluster.counter("own_stalls") > 0
    assert not detector.suspects
    assert all(detector.view(member, world.now_ms).failures == 0 for member in (2, 3))


def test_the_wheel_reports_a_stall_before_it_reminds_anybody() -> None:
    """Its timer is due long before the next look at the pulse."""
    world = World()
    ports = Ports(world)
    happened: list[str] = []
    table = RequestTable(ports, ports, ports, lambda now_ms: happened.append(f"stall until {now_ms:.0f}"))

    class Reminded:
        def on_time(self) -> None:
            happened.append("reminded")

        def on_disconnected(self, member: int) -> None:
            raise AssertionError

    table.close(table.open(Reminded(), 50.0))
    table.open(Reminded(), 50.0)
    world._heap = [(5_000.0, order, callback) for _, order, callback in world._heap]
    world.run(5_000)
    assert happened == ["stall until 5000", "reminded"]
