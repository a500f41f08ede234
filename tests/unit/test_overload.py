"""Overload on whole nodes: what sheds, with what answer, and what must not be taken for overload (hard case 32)."""

from __future__ import annotations

import pytest

from quorate.core.admission.concurrency import LIMIT_MIN
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult
from quorate.node.options import NodeOptions
from tests.unit.small_cluster import SmallCluster


def test_above_the_limit_requests_are_shed_before_any_work_with_a_time_to_come_back() -> None:
    cluster = SmallCluster(options=NodeOptions(in_flight_requests_max=40))
    cluster.delay_ms = {2: 50, 3: 50}
    cluster.sent.clear()
    replies: list[object] = []
    for index in range(60):
        cluster.nodes[1].put(PutRequest(b"b", b"k%d" % index, b"v"), replies.append)
    shed = [reply for reply in replies if isinstance(reply, Failure)]
    assert len(replies) == len(shed) == 20, "at once"
    assert all(reply.kind == "overloaded" and reply.retry_after_ms > 0 for reply in shed)
    cluster.world.run(2_000)
    assert sum(isinstance(reply, PutResult) for reply in replies) == 40
    assert all(body is None for index in range(40, 60) for body in cluster.bodies(b"k%d" % index))
    assert cluster.counter("requests_shed") == 20
    assert isinstance(cluster.put(1, b"again", b"v"), PutResult)


def test_the_limit_of_a_slow_node_shrinks_and_grows_back() -> None:
    cluster = SmallCluster(options=NodeOptions(in_flight_requests_max=1_000))
    concurrency = cluster.nodes[1]._shared.concurrency
    cluster.delay_ms = {2: 130, 3: 130}
    replies: list[object] = []
    for index in range(1_000):
        cluster.nodes[1].put(PutRequest(b"b", b"k%d" % index, b"v"), replies.append)
        cluster.world.run(1)
    assert LIMIT_MIN <= concurrency.limit < 300
    assert any(isinstance(reply, Failure) and reply.kind == "overloaded" for reply in replies)
    cluster.delay_ms = {}
    for index in range(4_500):
        cluster.nodes[1].put(PutRequest(b"b", b"k%d" % (index % 100), b"v", overwrite_seen=True), replies.append)
        cluster.world.run(1)
    assert concurrency.limit == concurrency.limit_max
    assert cluster.nodes[1]._shared.in_flight <= 3


@pytest.mark.parametrize("reading", [True, False])
def test_silent_replicas_do_not_shrink_the_limit_of_the_node_that_waits_for_them(reading: bool) -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(b"k")
    shared = cluster.nodes[homes[0]]._shared
    shared.retries.tokens = shared.hedges.tokens = 0.0
    cluster.muted = set(homes[1:])
    replies: list[object] = []
    for _ in range(300):
        if reading:
            cluster.nodes[homes[0]].get(GetRequest(b"b", b"k"), replies.append)
        else:
            request = PutRequest(b"b", b"k", b"v", strict=True, overwrite_seen=True)
            cluster.nodes[homes[0]].put(request, replies.append)
        cluster.world.run(1)
    cluster.world.run(2_000)
    assert len(replies) == 300
    assert shared.concurrency.limit == shared.concurrency.limit_max
    assert not any(isinstance(reply, Failure) and reply.kind == "overloaded" for reply in replies)


def test_requests_that_are_answered_and_wait_for_stragglers_are_no_load() -> None:
    cluster = SmallCluster(size=5, options=NodeOptions(in_flight_requests_max=4_000))
    homes, _ = cluster.preference_list(b"k")
    shared = cluster.nodes[homes[0]]._shared
    shared.concurrency.limit = LIMIT_MIN
    cluster.muted = {homes[2]}
    for index in range(3 * LIMIT_MIN):
        result = cluster.put(homes[0], b"k", b"%d" % index, overwrite_seen=True)
        assert isinstance(result, PutResult)
    assert shared.in_flight == 0
    cluster.world.run(2_000)
    assert shared.in_flight_bytes == 0


def test_every_way_a_request_ends_is_counted_once() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    for step in range(6):
        for coordinator in (homes[0], fallbacks[0], fallbacks[1]):
            for w in (1, 2, 3):
                cluster.put(coordinator, b"k", b"v", w=w, overwrite_seen=True, timeout_ms=200)
                cluster.get(coordinator, b"k", r=w)
                cluster.put(coordinator, b"k", b"v", w=w, overwrite_seen=True, strict=True, timeout_ms=200)
        if step == 0:
            cluster.muted = {homes[1]}
        elif step == 1:
            cluster.muted = {homes[1], homes[2]}
        elif step == 2:
            cluster.kill(homes[1])
        elif step == 3:
            cluster.kill(homes[2])
        elif step == 4:
            cluster.muted = {homes[0]}
    cluster.muted = set()
    cluster.world.run(5_000)
    for number in (homes[0], *fallbacks):
        shared = cluster.nodes[number]._shared
        assert (shared.in_flight, shared.in_flight_bytes, len(shared.requests.pending)) == (0, 0, 0), number
    assert isinstance(cluster.get(homes[0], b"k"), GetResult)
