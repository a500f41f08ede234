"""Hard case 32: when a hint queue was full, rejected writes were retried at once elsewhere, and queues timed everything
out (scylladb#8863, #4191).

Extra messages are counted: whatever goes wrong, they stay below a tenth of the regular ones. A node above its limit
sheds at once, does not lose what it took on, and takes requests again when the storm is over.
"""

from __future__ import annotations

from quorate.core.messages import HintedWrite, Message, Status, Write, WriteReply
from quorate.core.store import Failure, PutRequest, PutResult
from quorate.node.options import NodeOptions
from tests.unit.small_cluster import SmallCluster

PUTS = 1_000


def storm(cluster: SmallCluster, coordinator: int, per_ms: int = 1) -> list[object]:
    replies: list[object] = []
    for index in range(PUTS):
        cluster.nodes[coordinator].put(PutRequest(b"b", b"k", b"%d" % index, overwrite_seen=True), replies.append)
        if index % per_ms == 0:
            cluster.world.run(1)
    cluster.world.run(3_000)
    assert len(replies) == PUTS, "each request is answered once"
    return replies


def messages_sent(cluster: SmallCluster, coordinator: int) -> int:
    return sum(
        isinstance(message, Write | HintedWrite) and sender == coordinator and message.id > 0
        for sender, _, message in cluster.sent
    )


def test_slow_replicas_and_shedding_replicas_cost_less_than_a_tenth_more_messages() -> None:
    for shedding in (False, True):
        cluster = SmallCluster(size=5)
        homes, _ = cluster.preference_list(b"k")
        shared = cluster.nodes[homes[0]]._shared
        shared.retries.tokens = 1.0
        if shedding:
            _shed(cluster)
        else:
            cluster.delay_ms = {homes[1]: 60, homes[2]: 60}
        storm(cluster, homes[0])
        assert shared.counters.get("writes_stood_in", 0) <= 0.05 * PUTS + 1
        assert messages_sent(cluster, homes[0]) <= 1.1 * 2 * PUTS + 2
        assert shared.in_flight == shared.in_flight_bytes == 0


def _shed(cluster: SmallCluster) -> None:
    transmit = cluster.transmit

    def shed(sender: int, target: int, message: Message) -> None:
        if isinstance(message, WriteReply):
            message = WriteReply(message.id, Status.OVERLOADED)
        transmit(sender, target, message)

    cluster.transmit = shed  # type: ignore[method-assign]


def test_what_a_coordinator_sheds_is_not_handed_to_all_the_others() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    for home in homes:
        cluster.nodes[home]._shared.in_flight_bytes = 1 << 40
    shared = cluster.nodes[fallbacks[0]]._shared
    shared.retries.tokens = 1.0
    replies = storm(cluster, fallbacks[0])
    assert all(isinstance(reply, Failure) and reply.kind == "overloaded" for reply in replies)
    assert all(isinstance(reply, Failure) and reply.retry_after_ms > 0 for reply in replies)
    assert shared.counters["forwards"] <= 1.1 * PUTS
    assert shared.in_flight == 0


def test_a_full_hint_store_refuses_once_and_the_put_goes_nowhere_else() -> None:
    cluster = SmallCluster(size=5, options=NodeOptions(hints_bytes_max=10))
    homes, fallbacks = cluster.preference_list(b"k")
    for number in (homes[1], homes[2]):
        cluster.kill(number)
    shared = cluster.nodes[homes[0]]._shared
    shared.retries.tokens = 1.0
    cluster.sent.clear()
    replies = storm(cluster, homes[0])
    assert all(isinstance(reply, Failure) and reply.kind == "unknown" for reply in replies)
    hinted = sum(isinstance(message, HintedWrite) for _, _, message in cluster.sent)
    assert hinted <= 1.1 * 2 * PUTS, "one for each home, and hardly any second tries"
    assert cluster.counter("hints_lost") > 0, "what could be kept nowhere is counted"
    assert shared.in_flight == shared.in_flight_bytes == 0
    assert fallbacks


def test_a_node_above_its_limit_sheds_at_once_and_takes_requests_again_afterwards() -> None:
    cluster = SmallCluster(options=NodeOptions(in_flight_requests_max=64))
    cluster.delay_ms = {2: 40, 3: 40}
    begin_ms = cluster.world.now_ms
    replies = storm(cluster, 1, per_ms=10)
    shed = [reply for reply in replies if isinstance(reply, Failure)]
    served = [reply for reply in replies if isinstance(reply, PutResult)]
    assert len(shed) + len(served) == PUTS
    assert shed
    assert served
    assert all(reply.kind == "overloaded" and reply.retry_after_ms > 0 for reply in shed)
    assert cluster.world.now_ms - begin_ms < 5_000
    cluster.delay_ms = {}
    assert all(isinstance(reply, PutResult) for reply in storm(cluster, 1))
