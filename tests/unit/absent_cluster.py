"""Small clusters of which nodes go away for long, and come back."""

from __future__ import annotations

from quorate.core.ports import Space
from quorate.core.store import PutResult
from quorate.node.absence import ALIVE_INTERVAL_MS, ALIVE_KEY, COLLECTED_KEY, stamp
from quorate.node.options import NodeOptions
from tests.unit.collecting import GRACE_HOURS, QUIET_MS
from tests.unit.exchange_cluster import held
from tests.unit.small_cluster import SmallCluster

OPTIONS = NodeOptions(collect_quiet_ms=QUIET_MS)
KEYS = [b"k%d" % index for index in range(10)]


def aged(size: int = 3, **more: object) -> SmallCluster:
    """A cluster that holds something, and whose nodes have given signs of life."""
    cluster = SmallCluster(size=size, options=OPTIONS, anti_entropy=True, **more)  # type: ignore[arg-type]
    for key in KEYS:
        assert isinstance(cluster.put(1, key, b"v"), PutResult)
    cluster.world.run(ALIVE_INTERVAL_MS + 1_000)
    return cluster


def waits(cluster: SmallCluster, number: int) -> bool:
    return cluster.nodes[number]._absence.waits()


def held_keys(cluster: SmallCluster, number: int) -> int:
    return len(held(cluster, number))


def has_collected(cluster: SmallCluster, number: int, ago_ms: int = 0) -> None:
    """Let node `number` have collected something `ago_ms` ago."""
    at_ms = cluster.ports[number].wall_ms() - ago_ms
    cluster.engines[number].data[Space.META, COLLECTED_KEY] = stamp(at_ms)


def sign_of_life(cluster: SmallCluster, number: int) -> bytes | None:
    return cluster.engines[number].data.get((Space.META, ALIVE_KEY))


def away(cluster: SmallCluster, number: int, hours: float = GRACE_HOURS + 1) -> None:
    """Node `number` goes and `hours` pass, in which the others live on."""
    cluster.kill(number)
    cluster.wait(hours=hours)
    cluster.world.run(ALIVE_INTERVAL_MS + 1_000)
