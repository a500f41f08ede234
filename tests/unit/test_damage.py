"""A damaged record that no replica has any more: its bytes go once that is certain, and not before."""

from __future__ import annotations

from quorate.core.envelope import digest_of
from quorate.core.errors import DamagedRecord
from quorate.core.ports import Space
from quorate.core.record import encode_record
from tests.unit.exchange_cluster import damage, exchange, plant, record_of, started, stored_key
from tests.unit.small_cluster import SmallCluster

KEY = b"k"


def damaged_at_3(holders: tuple[int, ...]) -> SmallCluster:
    """Node 3 has a damaged copy, and has noticed; `holders` have a whole one."""
    cluster = SmallCluster()
    for number in (*holders, 3):
        plant(cluster, number, KEY, record_of(b"v"))
    cluster.world.run(100)
    damage(cluster, 3, KEY)
    notice(cluster)
    cluster.world.run(2_000)  # The tree is made anew.
    return cluster


def notice(cluster: SmallCluster) -> None:
    try:
        cluster.nodes[3]._shared.records.read(stored_key(cluster, KEY))
    except DamagedRecord:
        return
    raise AssertionError("it is damaged")


def bytes_at_3(cluster: SmallCluster) -> bytes | None:
    cluster.nodes[3]._shared.commits.flush()
    return cluster.engines[3].data.get((Space.DATA, stored_key(cluster, KEY)))


def test_its_bytes_are_removed_after_comparisons_with_all_others() -> None:
    cluster = damaged_at_3(holders=())
    exchange(cluster, 3, 1)
    assert bytes_at_3(cluster) is not None, "node 2 may have it"
    exchange(cluster, 3, 1)
    assert bytes_at_3(cluster) is not None, "node 1 twice is not node 2"
    exchange(cluster, 3, 2)
    assert bytes_at_3(cluster) is None
    assert cluster.nodes[3]._shared.trees.damaged_keys() == []
    assert cluster.get(3, KEY, r=3).siblings == []


def test_it_comes_back_from_whoever_has_it() -> None:
    cluster = damaged_at_3(holders=(2,))
    exchange(cluster, 3, 1)
    exchange(cluster, 3, 2)
    stored = cluster.nodes[3]._shared.records.read(stored_key(cluster, KEY))
    assert stored is not None and stored[2] == encode_record(record_of(b"v"))


def test_an_exchange_that_was_under_way_when_it_was_found_proves_nothing() -> None:
    cluster = SmallCluster()
    for number in (1, 2, 3):
        plant(cluster, number, KEY, record_of(b"v"))
    cluster.world.run(100)
    damage(cluster, 3, KEY)
    under_way = [started(cluster, 3, 1)]
    cluster.world.run(1)
    notice(cluster)
    under_way[0].finish()
    cluster.world.run(2_000)
    for number in (1, 2):
        records = cluster.nodes[number]._shared.records
        place = stored_key(cluster, KEY)
        digest = digest_of(place, encode_record(record_of(b"v")))
        if number == 2:
            assert records.remove(place, digest, lambda argument, durable: None, None)
    exchange(cluster, 3, 2)
    assert bytes_at_3(cluster) is not None, "node 1 has it, and was asked before the damage was known"
    exchange(cluster, 3, 1)
    assert cluster.values(3, KEY, r=2) == [b"v"]
