"""Hard case 5: a put that was forwarded was coordinated again at its target, one writer made siblings (riak_kv#1046).

A forward says that it is one; its target coordinates it or refuses it, and the node that forwarded never does.
"""

from __future__ import annotations

from quorate.core.messages import ForwardPut, ForwardReply, Write
from quorate.core.store import Admin, Failure, GetResult, PutRequest, PutResult
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
