"""Hard case 31: a write that was reported as failed became visible later (scylladb#7258, PR25602).

A result is ok, not done, or unknown, and each is true: after "not done" the value exists nowhere; what may exist is
"unknown".
"""

from __future__ import annotations

import pytest

from quorate.core.errors import StorageError
from quorate.core.messages import ForwardPut, ForwardReply
from quorate.core.store import Failure, PutRequest, PutResult
from tests.unit.small_cluster import SmallCluster


def _heal_and_read(cluster: SmallCluster, key: bytes) -> list[bytes]:
    cluster.muted = set()
    cluster.heal()
    for number in cluster.nodes:
        if not cluster.ports[number].alive:
            cluster.boot(number)
    cluster.world.run(3_000)
    return cluster.values(2, key, r=3)


def test_too_few_replicas_in_reach_is_not_done_and_stays_so() -> None:
    cluster = SmallCluster()
    cluster.cut(1, 2)
    cluster.cut(1, 3)
    result = cluster.put(1, b"k", b"v")
    assert isinstance(result, Failure)
    assert result.kind == "unavailable"
    assert _heal_and_read(cluster, b"k") == []


def test_replicas_that_fall_silent_make_the_outcome_unknown() -> None:
    cluster = SmallCluster()
    cluster.muted = {2, 3}
    result = cluster.put(1, b"k", b"v")
    assert isinstance(result, Failure)
    assert result.kind == "unknown"
    assert _heal_and_read(cluster, b"k") == [b"v"], "the coordinator holds it: anything but unknown would be a lie"


def test_a_disk_that_fails_under_the_coordinator_makes_the_outcome_unknown() -> None:
    cluster = SmallCluster()
    cluster.engines[1].failure = StorageError("Input/output error")
    result = cluster.put(1, b"k", b"v")
    assert isinstance(result, Failure)
    assert result.kind == "unknown"


@pytest.mark.parametrize("operation", [0, 5])
def test_a_forwarded_put_whose_target_dies_is_unknown_unless_a_retry_is_safe(operation: int) -> None:
    cluster = SmallCluster(size=5)
    where = cluster.call(lambda reply: cluster.nodes[1].where(b"b", b"k", reply)).document
    replicas = [int(name[1:]) for name in where["preference_list"]]
    outsider = next(number for number in cluster.nodes if number not in replicas)
    cluster.muted = {replicas[0], replicas[1]}
    result = cluster.put(outsider, b"k", b"v", operation=operation, w=1)
    if isinstance(result, Failure):
        assert result.kind == "unknown"
        assert operation == 0
    else:
        assert isinstance(result, PutResult)
        assert len(_heal_and_read(cluster, b"k")) == 1


def test_with_too_few_nodes_for_a_sloppy_quorum_nothing_is_done_and_no_hint_is_left() -> None:
    cluster = SmallCluster(size=5)
    for number in (2, 3, 4, 5):
        cluster.cut(1, number)
    result = cluster.put(1, b"k", b"v", w=2)
    assert isinstance(result, Failure)
    assert result.kind == "unavailable"
    assert cluster.hints() == {}
    assert _heal_and_read(cluster, b"k") == []


def test_a_hint_that_one_fallback_acknowledged_makes_a_failed_quorum_unknown_and_then_visible() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    for home in homes[1:]:
        cluster.kill(home)
    cluster.muted = {fallbacks[1]}
    result = cluster.put(homes[0], b"k", b"v", w=3)
    assert isinstance(result, Failure)
    assert result.kind == "unknown"
    assert f"n{fallbacks[1]}" in result.missing
    assert _heal_and_read(cluster, b"k") == [b"v"]


def test_a_fallback_whose_own_disk_fails_under_the_hint_says_unknown() -> None:
    cluster = SmallCluster(size=5)
    homes, fallbacks = cluster.preference_list(b"k")
    for home in homes:
        cluster.kill(home)
    cluster.engines[fallbacks[0]].failure = StorageError("Input/output error")
    result = cluster.put(fallbacks[0], b"k", b"v", w=1)
    assert isinstance(result, Failure)
    assert result.kind == "unknown"
    assert cluster.nodes[fallbacks[0]]._shared.in_flight == 0


def test_a_strict_put_that_was_refused_leaves_no_hint() -> None:
    cluster = SmallCluster(size=5)
    homes, _ = cluster.preference_list(b"k")
    cluster.kill(homes[1])
    cluster.kill(homes[2])
    result = cluster.put(homes[0], b"k", b"v", strict=True)
    assert isinstance(result, Failure)
    assert result.kind == "unavailable"
    assert cluster.hints() == {}
    assert _heal_and_read(cluster, b"k") == []


def test_a_forward_that_arrives_twice_is_judged_once() -> None:
    """The first copy is refused, for too few replicas are in reach, and the asking node passes that on. Then they are
    in reach, and the second copy comes: doing it now would make a lie of the refusal."""
    cluster = SmallCluster(size=5)
    replicas, (outsider, _) = cluster.preference_list(b"k")
    for other in replicas[1:]:
        cluster.cut(replicas[0], other)
    forward = ForwardPut(9, 1_000, 1, PutRequest(b"b", b"k", b"v", w=3, strict=True, operation=7))
    cluster.sent.clear()
    cluster.nodes[replicas[0]].on_message(outsider, forward, 0.0)
    cluster.world.run(10)
    answers = [message for _, _, message in cluster.sent if isinstance(message, ForwardReply)]
    assert [answer.result.kind for answer in answers if isinstance(answer.result, Failure)] == ["unavailable"]
    cluster.heal()
    cluster.nodes[replicas[0]].on_message(outsider, forward, 0.0)
    assert _heal_and_read(cluster, b"k") == []
