"""Hard case 27: the disk had become read-only; the node stayed up, counted as well, and failed every put (riak_kv
PR1717).

EIO, EROFS, ENOSPC, a failing fsync: the node is fenced at once, acknowledges nothing any more, shows it in its status,
and its peers put elsewhere. Reads of what it holds go on. Only a restart lifts it, since nobody knows what was stored.
"""

from __future__ import annotations

from typing import Any

import pytest

from quorate.core.errors import StorageError
from quorate.core.store import Failure, PutResult
from tests.unit.collecting import OPTIONS
from tests.unit.small_cluster import SmallCluster

FENCED_WITHIN_MS = 5_000
ERRORS = ["EIO: input/output error", "EROFS: read-only file system", "ENOSPC: no space left on device"]


def report_of(cluster: SmallCluster, number: int, asked: int) -> dict[str, Any]:
    document = cluster.call(cluster.nodes[asked].status).document
    report: dict[str, Any] = document["members"][number - 1]["report"]
    return report


@pytest.mark.parametrize("text", ERRORS)
@pytest.mark.parametrize(("durability", "only_sync"), [("os", False), ("fsync", False), ("fsync", True)])
def test_it_is_fenced_visibly_and_others_take_the_writes(text: str, durability: str, only_sync: bool) -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"durability": durability}, reply))
    cluster.put(1, b"before", b"v")
    cluster.world.run(100)
    engine = cluster.engines[1]
    if only_sync:
        engine.sync = lambda done: cluster.world.at(0, lambda: done(StorageError(text)))  # type: ignore[method-assign]
    else:
        engine.failure = StorageError(text)
    begin_ms = cluster.world.now_ms
    cluster.put(2, b"k", b"w")  # Its write arrives at node 1 like any other.
    while not cluster.nodes[1]._shared.fenced_because:
        cluster.world.run(10)
        assert cluster.world.now_ms - begin_ms < FENCED_WITHIN_MS
    report = report_of(cluster, 1, asked=2)
    assert report["state"] == "fenced"
    assert text in report["reason"]
    engine.failure = None  # The disk recovers; what it lost in between nobody knows.
    for index in range(20):
        for node in cluster.nodes:
            assert isinstance(cluster.put(node, b"k%d" % index, b"v"), PutResult), "not one put fails"
    assert cluster.values(1, b"before", r=3) == [b"v"], "reads go on"
    assert report_of(cluster, 1, asked=1)["state"] == "fenced"


def test_what_could_not_be_stored_was_not_acknowledged() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.engines[1].failure = StorageError(ERRORS[0])
    cluster.kill(3)
    result = cluster.put(1, b"k", b"v", w=2)
    assert isinstance(result, Failure)
    assert result.kind == "unknown"


def test_a_restart_on_a_good_disk_lifts_it() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.engines[1].failure = StorageError(ERRORS[1])
    cluster.put(1, b"k", b"v")
    cluster.world.run(100)
    assert report_of(cluster, 1, asked=2)["state"] == "fenced"
    cluster.engines[1].failure = None
    cluster.kill(1)
    cluster.join(1)
    cluster.world.run(1_000)
    assert report_of(cluster, 1, asked=2)["state"] == "up"
