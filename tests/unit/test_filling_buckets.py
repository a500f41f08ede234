"""Filling where buckets differ in how many replicas their keys have."""

from __future__ import annotations

import pytest

from quorate.core.store import GetResult, KeysPage, KeysRequest, PutResult
from quorate.node.cluster_view import BucketView
from tests.unit.exchange_cluster import exchange, plant, record_of
from tests.unit.filling_cluster import (
    KEYS,
    come_back_empty,
    filled,
    noted,
    set_bucket,
    stocked,
    trees_equal,
    until_filled,
)
from tests.unit.small_cluster import SmallCluster


def test_a_key_with_one_replica_is_not_held_back() -> None:
    """There is nobody to fill it from."""
    cluster = SmallCluster(size=4, anti_entropy=True)
    set_bucket(cluster, b"one", n="1", r="1", w="1")
    for key in KEYS:
        assert isinstance(cluster.put(1, key, b"v", bucket=b"one"), PutResult)
    come_back_empty(cluster, 2)
    cluster.world.run(10)
    assert not filled(cluster, 2)
    owned = [
        key for key in KEYS if cluster.nodes[2]._coordinator.place(_view(cluster, 2, b"one"), b"one", key)[1].stores
    ]
    assert owned
    for key in owned:
        gone = cluster.get(2, key, bucket=b"one")
        assert isinstance(gone, GetResult) and gone.siblings == []
        assert isinstance(cluster.put(2, key, b"again", bucket=b"one"), PutResult)
        read = cluster.get(1, key, bucket=b"one")
        assert isinstance(read, GetResult) and [sibling.value for sibling in read.siblings] == [b"again"]
    page = cluster.call(lambda reply: cluster.nodes[2].keys(KeysRequest(b"one"), reply))
    assert isinstance(page, KeysPage) and sorted(page.keys) == sorted(KEYS)
    assert not filled(cluster, 2)


def _view(cluster: SmallCluster, number: int, bucket: bytes) -> BucketView:
    return cluster.nodes[number]._shared.view.bucket(bucket)


@pytest.mark.parametrize("n", ["2", "5"])
def test_buckets_with_another_n_are_filled_as_well(n: str) -> None:
    cluster = stocked(size=5)
    set_bucket(cluster, b"special", n=n, r="2", w="2")
    for key in KEYS:
        assert isinstance(cluster.put(1, key, b"special", bucket=b"special", w=2), PutResult)
    cluster.world.run(100)
    for number in cluster.nodes:
        cluster.wipe(number)
        cluster.join(number)
        until_filled(cluster, number)
        assert trees_equal(cluster)
    for key in KEYS:
        read = cluster.get(1, key, r=2, bucket=b"special")
        assert isinstance(read, GetResult) and [sibling.value for sibling in read.siblings] == [b"special"]


def test_what_a_new_disk_is_not_told_of_yet_stays_on_the_list() -> None:
    """Nobody has said yet that there is a bucket for which it holds these partitions."""
    cluster = stocked(size=5)
    set_bucket(cluster, b"wide", n="5", r="2", w="2")
    cluster.wipe(2)
    cluster.boot(2)
    filling = cluster.nodes[2]._shared.filling
    filling.on_exchanged(1, in_vain=True)
    assert len(filling.partitions) == cluster.ring.partitions


def test_a_partition_that_has_no_other_replica_any_more_ends_the_filling() -> None:
    """Held for a bucket with a larger n only, which then gets a smaller one: nobody compares it any more."""
    cluster = stocked(size=5)
    set_bucket(cluster, b"wide", n="5", r="2", w="2")
    come_back_empty(cluster, 2)
    cluster.world.run(20)
    narrow = [p for p, placement in enumerate(cluster.nodes[2]._shared.view.placements_of(3)) if not placement.stores]
    listed = cluster.nodes[2]._shared.filling.partitions
    assert narrow and all(partition in listed for partition in narrow)
    set_bucket(cluster, b"wide", n="3")
    until_filled(cluster, 2)
    assert not noted(cluster, 2)


def test_what_differs_is_found_by_comparing_not_by_asking_once() -> None:
    """A peer that was empty when asked and got something since does not make a store whole that others can fill."""
    cluster = SmallCluster(anti_entropy=True)
    plant(cluster, 2, b"k", record_of(b"v"))
    cluster.world.run(10)
    come_back_empty(cluster, 3)
    cluster.world.run(20)
    assert not filled(cluster, 3)
    until_filled(cluster, 3)
    exchange(cluster, 1, 2)
    assert cluster.values(3, b"k", r=3) == [b"v"]
