"""When a get asks one more replica: the reminders, the budgets, and exact deadlines."""

from __future__ import annotations

import pytest

from quorate.core.messages import HintedRead, Read
from quorate.core.store import Failure, GetRequest, GetResult
from quorate.node.options import NodeOptions
from quorate.node.requests import TICK_MS
from tests.unit.small_cluster import SmallCluster

RETRY_MS = NodeOptions().retry_ms
LATE_MS = 2 * TICK_MS + 1
"""An operation may be called late by the wheel's granularity, never early."""


def started(cluster: SmallCluster, timeout_ms: int = 1_000, r: int = 2) -> list[object]:
    """A get at node 1 of peers that are late and not silent (for these see `test_silence`); gives its replies."""
    cluster.talking = set(cluster.nodes)
    replies: list[object] = []
    cluster.world.run(50)
    cluster.sent.clear()
    cluster.nodes[1].get(GetRequest(b"b", b"k", r, timeout_ms), replies.append)
    return replies


def asked(cluster: SmallCluster) -> list[int]:
    return [target for _, target, message in cluster.sent if isinstance(message, Read | HintedRead)]


def test_a_hedge_leaves_after_the_95th_percentile_and_the_first_answers_count() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.nodes[1]._shared.read_latency.estimate_ms = 30.0
    cluster.delay_ms = {2: 60, 3: 60}
    replies = started(cluster)
    cluster.world.run(29)
    assert len(asked(cluster)) == 1
    cluster.delay_ms = {}
    cluster.world.run(LATE_MS)
    assert len(asked(cluster)) == len(set(asked(cluster))) == 2
    assert isinstance(replies[0], GetResult)
    assert cluster.counter("reads_hedged") == 1
    cluster.world.run(500)
    assert not cluster.nodes[1]._shared.requests.pending


def test_without_a_token_for_a_hedge_the_retry_comes_at_its_time_and_is_paid_from_the_other_budget() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    shared = cluster.nodes[1]._shared
    shared.hedges.tokens = 0.0
    replies = started(cluster)
    cluster.muted = {asked(cluster)[0]}
    cluster.world.run(RETRY_MS - 1)
    assert len(asked(cluster)) == 1
    cluster.world.run(LATE_MS + 3)
    assert isinstance(replies[0], GetResult)
    assert (cluster.counter("reads_hedged"), cluster.counter("reads_retried")) == (0, 1)


def test_without_any_token_the_read_waits_for_its_deadline() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    shared = cluster.nodes[1]._shared
    shared.hedges.tokens = shared.retries.tokens = 0.0
    replies = started(cluster)
    cluster.muted = {asked(cluster)[0]}
    cluster.world.run(999)
    assert (len(asked(cluster)), replies) == (1, [])
    cluster.world.run(LATE_MS)
    assert isinstance(replies[0], Failure)
    assert replies[0].kind == "unavailable"


@pytest.mark.parametrize("timeout_ms", [1, 5, 15, 99, 100, 101, 150, 200, 333, 1_000])
def test_deadlines_are_exact_to_the_wheel_and_never_early(timeout_ms: int) -> None:
    cluster = SmallCluster()
    cluster.muted = {2, 3}
    replies = started(cluster, timeout_ms)
    cluster.world.run(timeout_ms - 0.5)
    assert replies == []
    cluster.world.run(LATE_MS)
    assert isinstance(replies[0], Failure)
    assert {"n2", "n3"} >= set(replies[0].missing) > set()
    assert not cluster.nodes[1]._shared.requests.pending
    assert cluster.nodes[1]._shared.in_flight == 0


def test_with_nobody_left_to_ask_it_sends_no_more_and_keeps_the_deadline() -> None:
    cluster = SmallCluster()
    cluster.muted = {2, 3}
    replies = started(cluster, 950, r=3)
    cluster.world.run(949)
    assert (sorted(asked(cluster)), replies) == ([2, 3], [])
    cluster.world.run(LATE_MS)
    assert isinstance(replies[0], Failure)


def test_one_reserve_after_the_other_is_asked_each_at_its_reminder() -> None:
    cluster = SmallCluster(size=6)
    cluster.talking = set(cluster.nodes)
    homes, _ = cluster.preference_list(b"k")
    cluster.kill(homes[1])
    reader = homes[0]
    cluster.muted = {number for number in cluster.nodes if number != reader}
    replies: list[object] = []
    cluster.world.run(50)
    cluster.sent.clear()
    cluster.nodes[reader].get(GetRequest(b"b", b"k", 2), replies.append)
    counts = []
    for _ in range(4):
        cluster.world.run(RETRY_MS)
        counts.append(len(asked(cluster)))
    assert counts == sorted(counts)
    assert counts[-1] == 4, "one home and three fallbacks that may hold hints"
    assert len(set(asked(cluster))) == 4
    assert asked(cluster)[0] == homes[2]


def test_a_replica_that_does_not_answer_is_noticed_though_hedges_answer_for_it() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(2_000)
    cluster.muted = cluster.talking = {2}
    for _ in range(12):
        assert isinstance(cluster.get(1, b"k"), GetResult)
    cluster.world.run(RETRY_MS + LATE_MS)
    assert 2 in cluster.nodes[1]._shared.detector.suspects


def test_hedges_of_a_storm_stay_within_a_twentieth_and_all_extra_within_a_tenth() -> None:
    """Hard case 33: speculative retries must not feed on themselves. Every message counts."""
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    shared = cluster.nodes[1]._shared
    shared.hedges.tokens = shared.retries.tokens = 1.0
    cluster.delay_ms = {2: 80, 3: 80}
    cluster.world.run(1_000)
    cluster.sent.clear()
    reads = 2_000
    replies: list[object] = []
    for _ in range(reads):
        cluster.nodes[1].get(GetRequest(b"b", b"k"), replies.append)
        cluster.world.run(1)
    cluster.world.run(2_000)
    assert len(replies) == reads
    messages = len(asked(cluster))
    assert reads <= messages <= 1.1 * reads + 2
    assert cluster.counter("reads_hedged") <= 0.05 * reads + 1
    assert shared.in_flight == 0
    assert not shared.requests.pending


def test_reads_go_round_the_replicas() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(50)
    cluster.sent.clear()
    for _ in range(10):
        assert isinstance(cluster.get(1, b"k"), GetResult)
    assert sorted(asked(cluster)) == [2] * 5 + [3] * 5
