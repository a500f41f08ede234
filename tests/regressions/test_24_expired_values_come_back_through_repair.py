"""Hard case 24: expired values came back through repair, or repair minted tombstones for them (basho/riak#981, Swift
launchpad 1652323).

The expiry travels in the version. So a copy that repair brings somewhere is as expired there as it was before, and
nothing that runs in the background ever makes a version.
"""

from __future__ import annotations

from collections.abc import Iterator

from quorate.core.ports import Space
from quorate.core.record import Dot, decode_record
from quorate.core.store import GetResult, KeysPage, KeysRequest, PutResult
from tests.unit.collecting import GRACE_HOURS, OPTIONS, QUIET_MS, collect, gone, sweep
from tests.unit.exchange_cluster import exchange, held
from tests.unit.small_cluster import SmallCluster


def dots(cluster: SmallCluster) -> Iterator[Dot]:
    """Of everything that any node ever coordinated and still remembers."""
    for number in cluster.nodes:
        for body in held(cluster, number).values():
            record = decode_record(body)
            yield from record.clock.items()


def epochs(cluster: SmallCluster) -> list[bytes]:
    return [engine.data[Space.META, b"epochs"] for engine in cluster.engines.values()]


def listed(cluster: SmallCluster, node: int) -> list[bytes]:
    page = cluster.call(lambda reply: cluster.nodes[node].keys(KeysRequest(b"b"), reply))
    assert isinstance(page, KeysPage)
    return page.keys


def test_a_replica_that_missed_the_collection_gives_back_nothing_that_can_be_read() -> None:
    cluster = SmallCluster(options=OPTIONS)
    assert isinstance(cluster.put(1, b"k", b"short", ttl_ms=1_000), PutResult)
    homes = cluster.preference_list(b"k")[0]
    cluster.world.run(1_100)
    cluster.wait(hours=GRACE_HOURS + 1)
    before, ceilings = set(dots(cluster)), epochs(cluster)
    sweep(cluster)
    for other in homes[:2]:
        cluster.cut(other, homes[2])
    cluster.world.run(QUIET_MS + 60_000)
    cluster.heal()
    cluster.world.run(5_000)
    assert cluster.bodies(b"k")[homes[2] - 1] is not None
    exchange(cluster, homes[0], homes[2])
    assert cluster.bodies(b"k")[homes[0] - 1] is not None, "repair copies what there is"
    for number in homes:
        assert cluster.values(number, b"k", r=3) == []
        assert listed(cluster, number) == []
    exchange(cluster, homes[1], homes[2])
    collect(cluster)
    assert gone(cluster)
    assert set(dots(cluster)) <= before
    assert epochs(cluster) == ceilings, "no version was minted"


def test_what_an_expired_value_had_overwritten_stays_overwritten() -> None:
    """A replica missed the value with the lifetime, and still holds the one before it, which has none."""
    cluster = SmallCluster(options=OPTIONS)
    homes = cluster.preference_list(b"k")[0]
    cluster.put(homes[0], b"k", b"old", w=3)
    read = cluster.get(homes[0], b"k", r=3)
    assert isinstance(read, GetResult)
    cluster.kill(homes[2])
    assert isinstance(cluster.put(homes[0], b"k", b"short", context=read.context, ttl_ms=1_000), PutResult)
    cluster.wait(hours=GRACE_HOURS + 1)  # It has expired, and so has the hint for the third.
    collect(cluster)
    cluster.join(homes[2])
    cluster.world.run(15_000)
    assert cluster.bodies(b"k")[homes[2] - 1] != cluster.bodies(b"k")[homes[0] - 1]
    assert cluster.values(homes[0], b"k", r=3) == []
    exchange(cluster, homes[2], homes[0])
    exchange(cluster, homes[2], homes[1])
    collect(cluster)
    assert gone(cluster)
    for number in homes:
        assert cluster.values(number, b"k", r=3) == []


def test_it_is_hidden_at_once_by_the_clock_of_the_node_that_is_asked() -> None:
    cluster = SmallCluster(options=OPTIONS)
    cluster.put(1, b"k", b"short", ttl_ms=1_000)
    cluster.world.run(900)
    assert cluster.values(2, b"k") == [b"short"]
    assert listed(cluster, 2) == [b"k"]
    cluster.ports[2].skew_ms += 200
    assert cluster.values(2, b"k", r=3) == []
    assert listed(cluster, 2) == []
    assert cluster.values(1, b"k") == [b"short"], "by another clock it has not expired yet"


def test_a_listing_goes_by_the_clock_of_the_node_that_is_asked_even_if_it_holds_nothing_itself() -> None:
    cluster = SmallCluster(size=4, options=OPTIONS)
    cluster.put(1, b"k", b"short", ttl_ms=1_000)
    homes, (outsider, *_) = cluster.preference_list(b"k")
    cluster.world.run(500)
    for home in homes:
        cluster.ports[home].skew_ms += 1_000
    assert listed(cluster, outsider) == [b"k"]
    assert listed(cluster, homes[0]) == []
    for home in homes:
        cluster.ports[home].skew_ms -= 2_000
    cluster.world.run(600)
    assert listed(cluster, outsider) == []
    assert listed(cluster, homes[0]) == [b"k"]
