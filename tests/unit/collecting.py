"""Small clusters in which something is deleted, and sweeps that tests start themselves."""

from __future__ import annotations

from quorate.core.store import GetResult, PutResult
from quorate.node.options import NodeOptions
from quorate.node.steps import run
from tests.unit.small_cluster import SmallCluster

QUIET_MS = 10_000
OPTIONS = NodeOptions(collect_quiet_ms=QUIET_MS, anti_entropy_interval_ms=0)
GRACE_HOURS = OPTIONS.grace_ms / 3_600_000


def sweep(cluster: SmallCluster, *numbers: int) -> None:
    """Let these nodes, or all that run, look through everything once; what they prove is not collected yet."""
    ended: list[None] = []
    swept = [number for number in numbers or cluster.nodes if cluster.ports[number].alive]
    for number in swept:
        run(cluster.nodes[number]._sweep.sweep_once(), ended.append)
    cluster.world.run(1_000)
    assert len(ended) == len(swept), "a pass comes to its end"


def collect(cluster: SmallCluster, *numbers: int) -> None:
    sweep(cluster, *numbers)
    cluster.world.run(QUIET_MS + 1_000)


def deleted(cluster: SmallCluster, key: bytes = b"k") -> list[int]:
    """Put and delete a key; its replicas, the one that collects first."""
    assert isinstance(cluster.put(1, key, b"v"), PutResult)
    read = cluster.get(1, key, r=3)
    assert isinstance(read, GetResult)
    assert isinstance(cluster.delete(1, key, read.context), PutResult)
    cluster.world.run(100)
    return cluster.preference_list(key)[0]


def gone(cluster: SmallCluster, key: bytes = b"k") -> bool:
    return cluster.bodies(key) == [None] * len(cluster.nodes)
