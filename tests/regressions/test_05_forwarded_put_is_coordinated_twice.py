"""Hard case 5: a put that was forwarded was coordinated again at its target, one writer made siblings (riak_kv#1046).

It was seen while partitions were transferred. A forward says that it is one; its target coordinates it or refuses it,
and the node that forwarded never does. A put that is begun again, since the ring has moved on, is the same event.
"""

from __future__ import annotations

import pytest

from quorate.core.messages import ForwardPut, ForwardReply, Write
from quorate.core.record import Context
from quorate.core.ring.transition import Stage
from quorate.core.store import Admin, Failure, GetResult, PutRequest, PutResult, Wish
from tests.regressions.traffic import SlowNetwork
from tests.unit.membership_cluster import KEYS
from tests.unit.small_cluster import SmallCluster


def _outsider_and_replicas(cluster: SmallCluster, key: bytes) -> tuple[int, list[int]]:
    where = cluster.call(lambda reply: cluster.nodes[1].where(b"b", key, reply))
    assert isinstance(where, Admin)
    replicas = [int(name[1:]) for name in where.document["preference_list"]]
    outsider = next(number for number in cluster.nodes if number not in replicas)
    return outsider, replicas


def test_a_single_writer_through_a_forwarding_node_makes_exactly_one_sibling() -> None:
    cluster = SmallCluster(size=5)
    outsider, _ = _outsider_and_replicas(cluster, b"k")
    context = None
    for index in range(20):
        result = cluster.put(outsider, b"k", b"%d" % index, context)
        assert isinstance(result, PutResult)
        assert result.siblings == 1
        context = result.context
    read = cluster.get(outsider, b"k")
    assert isinstance(read, GetResult)
    assert [sibling.value for sibling in read.siblings] == [b"19"]
    assert sum(read.context.clock.values()) == 20, "twenty puts are twenty events"


def test_a_target_that_holds_no_replica_refuses_and_forwards_no_further() -> None:
    cluster = SmallCluster(size=5)
    outsider, replicas = _outsider_and_replicas(cluster, b"k")
    cluster.sent.clear()
    cluster.nodes[outsider].on_message(replicas[0], ForwardPut(9, 1_000, 1, PutRequest(b"b", b"k", b"v")), 0.0)
    cluster.world.run(50)
    answers = [message for _, _, message in cluster.sent if isinstance(message, ForwardReply)]
    assert len(answers) == 1
    assert isinstance(answers[0].result, Failure)
    assert answers[0].result.kind == "unavailable"
    assert not [message for _, _, message in cluster.sent if isinstance(message, ForwardPut | Write)]


@pytest.mark.parametrize("wish", [Wish("join", "n6"), Wish("replace", "n2", by="n6"), Wish("leave", "n3")])
def test_a_single_writer_during_a_transfer_makes_exactly_one_sibling(wish: Wish) -> None:
    """Of each key, through all nodes in turn, from before the plan until after it; nodes hear of it at their times."""
    cluster = SlowNetwork(5)
    cluster.wait_to_join(6)
    contexts: dict[bytes, Context | None] = dict.fromkeys(KEYS)
    stages: dict[Stage | None, int] = {}
    puts = 0

    def write_all() -> None:
        nonlocal puts
        answers: dict[bytes, PutResult | Failure] = {}
        running = cluster.running()
        stages[cluster.stage(1)] = stages.get(cluster.stage(1), 0) + 1
        for index, key in enumerate(KEYS):
            request = PutRequest(b"b", key, b"%d" % puts, context=contexts[key], timeout_ms=10_000)
            node = cluster.nodes[running[(puts + index) % len(running)]]
            node.put(request, lambda answer, key=key: answers.update({key: answer}))  # type: ignore[misc]
        cluster.run_until(lambda: len(answers) == len(KEYS), "all are answered")
        for key, result in answers.items():
            assert isinstance(result, PutResult), (key, result)
            assert result.siblings == 1
            contexts[key] = result.context
        puts += 1

    write_all()
    cluster.begin(1, wish)
    while not cluster.steady():
        write_all()
    write_all()
    assert min(stages.get(stage, 0) for stage in (Stage.READ_OLD, Stage.READ_NEW, None)) >= 2
    assert cluster.counter("forwards") > 50
    assert cluster.counter("requests_begun_again") > 0 and cluster.counter("requests_parked") > 0
    for key in KEYS:
        read = cluster.get(1, key, 3)
        assert isinstance(read, GetResult)
        assert [sibling.value for sibling in read.siblings] == [b"%d" % (puts - 1)]
        assert sum(read.context.clock.values()) == puts, "so many puts are so many events"
