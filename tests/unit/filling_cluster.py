"""Small clusters in which a node comes back with an empty disk."""

from __future__ import annotations

from quorate.core.ports import Space
from quorate.core.store import PutResult
from quorate.node.filling import FILLING_KEY
from tests.unit.small_cluster import SmallCluster

KEYS = [b"k%d" % index for index in range(20)]


def stocked(size: int = 3, **more: object) -> SmallCluster:
    cluster = SmallCluster(size=size, anti_entropy=True, **more)  # type: ignore[arg-type]
    for key in KEYS:
        assert isinstance(cluster.put(1, key, b"v-" + key), PutResult)
    cluster.world.run(100)
    return cluster


def filled(cluster: SmallCluster, number: int) -> bool:
    return not cluster.nodes[number]._shared.filling.partitions


def come_back_empty(cluster: SmallCluster, number: int) -> None:
    cluster.wipe(number)
    cluster.join(number)
    cluster.world.run(10)  # It is told the buckets' properties.


def noted(cluster: SmallCluster, number: int) -> bool:
    """Does the disk say that the node is being filled?"""
    return (Space.META, FILLING_KEY) in cluster.engines[number].data


def until_filled(cluster: SmallCluster, number: int, limit_ms: float = 20_000) -> float:
    """Milliseconds that it took."""
    begin_ms = cluster.world.now_ms
    while not filled(cluster, number):
        cluster.world.run(10)
        assert cluster.world.now_ms - begin_ms < limit_ms, "a node is filled in the end"
    return cluster.world.now_ms - begin_ms


def trees_equal(cluster: SmallCluster) -> bool:
    """Have all replicas of every partition the same root, for every n?"""
    nodes = cluster.nodes.values()
    for n in cluster.nodes[1].trees.n_values():
        for partition in range(cluster.ring.partitions):
            roots = [
                node.trees.root(partition, n)
                for node in nodes
                if node._shared.view.placements_of(n)[partition].stores and node.trees.ready(partition, n)
            ]
            assert len(roots) == min(n, len(cluster.nodes)), "every tree is ready"
            if len(set(roots)) > 1:
                return False
    return True


def set_bucket(cluster: SmallCluster, bucket: bytes, **changes: str) -> None:
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(bucket, changes, reply))
    cluster.world.run(100)
