"""Hard case 1 by another way: a value that was shown before it was written, and whose dot was issued again.

Found here, on the way to riak_kv#679: a get in the same turn of the loop as a put found the put's record in the commit
queue and showed it. The process was killed before the batch of that turn was written; its next life issued the same
dot for another event, and whoever put with the context of what it had read erased that event.
"""

from __future__ import annotations

import pytest

from quorate.core.errors import StorageError
from quorate.core.record import Context
from quorate.core.store import Failure, GetRequest, GetResult, PutRequest, PutResult
from tests.unit.small_cluster import SmallCluster


def put(cluster: SmallCluster, value: bytes, context: Context | None, w: int) -> list[object]:
    replies: list[object] = []
    found = {} if context is None else {"context": context}
    request = PutRequest(bucket=b"default", key=b"k", value=value, w=w, timeout_ms=1_000, **found)
    cluster.nodes[1].put(request, replies.append)
    cluster.world.run(50)
    return replies


def get(cluster: SmallCluster, at: int, r: int) -> list[object]:
    replies: list[object] = []
    cluster.nodes[at].get(GetRequest(b"default", b"k", r, 1_000), replies.append)
    cluster.world.run(50)
    return replies


def values(replies: list[object]) -> list[bytes]:
    (found,) = replies
    assert isinstance(found, GetResult)
    return sorted(sibling.value or b"" for sibling in found.siblings)


@pytest.mark.parametrize("others_gone", [False, True])
def test_what_a_get_shows_survives_a_kill_in_the_same_turn(others_gone: bool) -> None:
    cluster = SmallCluster(3)
    (first,) = put(cluster, b"first", None, 3)
    assert isinstance(first, PutResult)
    if others_gone:
        for one, other in ((1, 2), (1, 3)):
            cluster.cut(one, other)
    replies: list[object] = []
    request = PutRequest(bucket=b"default", key=b"k", value=b"shown", context=first.context, w=1, timeout_ms=1_000)
    cluster.nodes[1].put(request, replies.append)
    shown: list[object] = []
    cluster.nodes[1].get(GetRequest(b"default", b"k", 1, 1_000), shown.append)
    cluster.kill(1)
    cluster.heal()
    cluster.join(1)
    cluster.world.run(200)
    assert values(shown) == [b"shown"], "the get was answered before the kill"
    (context,) = [found.context for found in shown if isinstance(found, GetResult)]
    put(cluster, b"concurrent", first.context, 3)
    put(cluster, b"third", context, 3)
    assert values(get(cluster, 2, 3)) == [b"concurrent", b"third"], "nobody had seen the concurrent value"


def test_what_the_disk_refused_is_not_shown() -> None:
    cluster = SmallCluster(3)
    (first,) = put(cluster, b"first", None, 3)
    assert isinstance(first, PutResult)
    cluster.engines[1].failure = StorageError("no space")
    assert isinstance(put(cluster, b"refused", first.context, 2)[0], Failure)
    for reply in get(cluster, 1, 1):
        assert isinstance(reply, Failure) or values([reply]) == [b"first"]
