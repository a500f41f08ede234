"""Clients that know only Redis Cluster reach a replica at the first try, in a cluster with more nodes than replicas.

With three nodes every node holds every key, so nothing is ever forwarded; five nodes show what routing is worth.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from redis import Redis
from redis.cluster import RedisCluster

from tests.conftest import EVENT_TIMEOUT_S, Cluster, clusters

pytestmark = [pytest.mark.integration, pytest.mark.foreign]

KEYS = 300


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    for make in clusters(tmp_path_factory.mktemp("five")):
        yield make(nodes=5, engine="memory")


def forwards(cluster: Cluster) -> int:
    """Requests that a node handed to another because it has no replica of the key."""
    status = json.loads(cluster.cli("status", "--json").stdout)
    return sum(member["report"]["counters"].get("forwards", 0) for member in status["members"])


def port(cluster: Cluster, node: int) -> int:
    return int(cluster.address(node).rpartition(":")[2])


def test_a_client_without_a_slot_map_has_its_requests_forwarded(five: Cluster) -> None:
    """So the counter that the other tests read does count."""
    before = forwards(five)
    with Redis(port=port(five, 1)) as client:
        for number in range(KEYS):
            assert client.set(f"plain:{number}", number)
    assert KEYS * 0.2 < forwards(five) - before < KEYS * 0.6, "two of five nodes hold no replica"


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_is_never_forwarded(five: Cluster, protocol: int) -> None:
    before = forwards(five)
    with RedisCluster(host="127.0.0.1", port=port(five, 2), protocol=protocol) as client:
        for number in range(KEYS):
            key = f"straight{protocol}:{number}"
            assert client.set(key, number)
            assert client.get(key) == str(number).encode()
            assert client.expire(key, 100)
            assert client.delete(key) == 1
    assert forwards(five) - before < 0.01 * 4 * KEYS


def test_redis_benchmark_is_never_forwarded(five: Cluster) -> None:
    if shutil.which("redis-benchmark") is None:
        pytest.skip("redis-benchmark is not installed")
    before, requests = forwards(five), 2000
    subprocess.run(
        ["redis-benchmark", "--cluster", "-p", str(port(five, 3)), "-t", "set,get", "-n", str(requests), "-c", "10",
         "-r", "1000", "-q"],
        capture_output=True, timeout=EVENT_TIMEOUT_S, check=True,
    )  # fmt: skip
    assert forwards(five) - before < 0.01 * 2 * requests
