"""Hard case 33: one slow node froze the cluster, and speculative retries fed on themselves (scylladb#5715, #7342,
PR8783).

One node of five takes a hundred times as long for everything. Times are virtual, so the percentiles are exact.
"""

from __future__ import annotations

import pytest

from quorate.core.membership.silence import SILENT_MS
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult
from quorate.node.requests import AGED_TURNS, TICK_MS
from tests.unit.small_cluster import SmallCluster

KEYS = [b"k%d" % index for index in range(50)]


def percentile(latencies: list[float], share: float) -> float:
    return sorted(latencies)[int(len(latencies) * share)]


def load(
    cluster: SmallCluster, coordinators: list[int], rounds: int, replicas_only: bool = False
) -> tuple[list[float], int]:
    """Gets and puts, one a millisecond in turn over keys and coordinators; (latencies, failures)."""
    latencies: list[float] = []
    failures = 0

    def replied(begin_ms: float, result: object) -> None:
        nonlocal failures
        latencies.append(cluster.world.now_ms - begin_ms)
        failures += isinstance(result, Failure)

    for index in range(rounds):
        key, begin_ms = KEYS[index % len(KEYS)], cluster.world.now_ms
        choice = [c for c in coordinators if not replicas_only or c in cluster.preference_list(key)[0]]
        node = cluster.nodes[choice[index % len(choice)]]
        if index // 2 % 2:
            node.get(GetRequest(b"b", key), lambda result, begin_ms=begin_ms: replied(begin_ms, result))
        else:
            request = PutRequest(b"b", key, b"v", overwrite_seen=True)
            node.put(request, lambda result, begin_ms=begin_ms: replied(begin_ms, result))
        cluster.world.run(1)
    cluster.world.run(2_000)
    assert len(latencies) == rounds
    return latencies, failures


@pytest.mark.parametrize("delay_ms", [100, 400])
def test_p99_stays_within_three_times_healthy_and_hardly_anything_fails(delay_ms: int) -> None:
    cluster = SmallCluster(size=5)
    slow, *others = 5, 1, 2, 3, 4
    healthy, _ = load(cluster, others, 2_000)
    cluster.delay_ms = {slow: delay_ms}
    load(cluster, others, 1_000)  # Until it is known.
    latencies, failures = load(cluster, others, 4_000)
    assert percentile(latencies, 0.99) <= 3 * percentile(healthy, 0.99)
    assert failures <= 0.001 * len(latencies)
    for number in others:
        shared = cluster.nodes[number]._shared
        counters = shared.counters
        extra = [
            counters.get(name, 0)
            for name in ("reads_hedged", "reads_around_silence", "reads_retried", "writes_stood_in")
        ]
        assert sum(extra) <= 150 + 0.1 * 7_000 / len(others), "the first burst, and a tenth"
        assert shared.concurrency.limit == shared.concurrency.limit_max, "they are not overloaded themselves"
        assert slow in shared.detector.suspects or slow in shared.detector.slow


def test_nobody_waits_long_for_a_node_that_stops_not_even_in_the_first_second() -> None:
    cluster = SmallCluster(size=5)
    stopped, *others = 5, 1, 2, 3, 4
    load(cluster, others, 2_000)
    cluster.muted = {stopped}
    latencies, failures = load(cluster, others, 1_000, replicas_only=True)
    assert failures == 0
    assert max(latencies) <= SILENT_MS + (AGED_TURNS + 2) * TICK_MS, "four times less than until a request is retried"
    assert percentile(latencies, 0.97) <= 3


def test_when_it_recovers_it_is_used_again_and_catches_up() -> None:
    cluster = SmallCluster(size=5)
    cluster.delay_ms = {5: 400}
    load(cluster, [1, 2, 3, 4], 2_000)
    cluster.delay_ms = {}
    cluster.world.run(20_000)
    for number in (1, 2, 3, 4):
        detector = cluster.nodes[number]._shared.detector
        assert 5 not in detector.suspects
        assert 5 not in detector.slow
    assert cluster.hints() == {}
    for key in KEYS:
        homes, _ = cluster.preference_list(key)
        bodies = cluster.bodies(key)
        assert len({bodies[home - 1] for home in homes}) == 1, "all replicas are identical (C)"
    assert isinstance(cluster.get(5, KEYS[0]), GetResult)
    assert isinstance(cluster.put(5, KEYS[0], b"w"), PutResult)
