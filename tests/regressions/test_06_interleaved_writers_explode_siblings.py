"""Hard case 6: writers without a context made a key grow without bound, and the cap broke repair (riak_kv#746, #1648).

Siblings are capped towards clients, with an error that says what to do; merging never is.
"""

from __future__ import annotations

from quorate.core.limits import SIBLINGS_MAX
from quorate.core.store import Failure, GetResult, PutResult
from tests.unit.small_cluster import SmallCluster


def test_forty_writers_that_carry_contexts_leave_no_more_siblings_than_writers() -> None:
    cluster = SmallCluster()
    contexts = [None] * 40
    for round_number in range(5):
        for writer in range(40):
            result = cluster.put(1 + writer % 3, b"k", b"%d/%d" % (writer, round_number), contexts[writer])
            assert isinstance(result, PutResult), result
        read = cluster.get(1, b"k", r=3)
        assert isinstance(read, GetResult)
        assert len(read.siblings) <= 40
        contexts = [read.context] * 40


def test_blind_writers_meet_the_cap_with_an_error_that_says_what_to_do() -> None:
    cluster = SmallCluster()
    results = [cluster.put(1, b"k", b"%d" % index) for index in range(SIBLINGS_MAX + 1)]
    assert all(isinstance(result, PutResult) for result in results[:-1])
    last = results[-1]
    assert isinstance(last, Failure)
    assert last.kind == "caller"
    assert "put with the context" in last.message
    read = cluster.get(1, b"k")
    assert isinstance(read, GetResult)
    assert isinstance(cluster.put(1, b"k", b"all of them", read.context), PutResult)
    assert cluster.values(2, b"k") == [b"all of them"]


def test_the_cap_never_stops_repair() -> None:
    cluster = SmallCluster()
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"w": "1", "r": "1"}, reply))
    cluster.world.run(20)
    for one, other in ((1, 2), (1, 3), (2, 3)):
        cluster.cut(one, other)
    for number in cluster.nodes:
        for index in range(SIBLINGS_MAX // 2 + 1):
            assert isinstance(cluster.put(number, b"k", b"%d/%d" % (number, index)), PutResult)
    cluster.heal()
    assert len(cluster.values(1, b"k", r=3)) == 3 * (SIBLINGS_MAX // 2 + 1)
    cluster.world.run(20)
    assert len(set(cluster.bodies(b"k"))) == 1
