"""A cluster ends, and another one is started on the same ports, while clients of the first live on (hard case 20)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import quorate
from quorate.cli.local_cluster import base_port, plan_cluster
from quorate.core.errors import Unavailable
from tests.conftest import Cluster
from tests.unit.client_flavours import connected

pytestmark = pytest.mark.integration


def on_the_same_ports(cluster: Cluster, path: Path) -> Cluster:
    """A new cluster where `cluster`, which must not run, has been."""
    return Cluster(plan_cluster(path, nodes=3, port=base_port(cluster.plan.cluster), engine="memory", partitions=64))


async def refused(client: Any, ours: str, theirs: str) -> None:
    """Whatever the client does fails as certainly not done, and the cause is named."""
    words = f"belongs to cluster {theirs}, not to {ours}"
    bucket = client.bucket("b")
    # The read comes first: the client may not yet have seen that its connections are gone.
    with pytest.raises(Unavailable, match=words):
        await bucket.get("before")
    for number in range(20):
        with pytest.raises(Unavailable, match=words):
            await bucket.put(f"k{number}", number, timeout_ms=500)


def test_a_client_never_writes_into_the_cluster_that_took_the_ports(cluster: Cluster, tmp_path: Path) -> None:
    ours = cluster.plan.cluster.ring.cluster_id

    async def main() -> None:
        async with (
            connected("async", ",".join(cluster.addresses)) as one,
            connected("sync", ",".join(cluster.addresses)) as two,
        ):
            clients = {"one": one, "two": two}
            for name, client in clients.items():
                await client.bucket("b").put(f"before-{name}", name)
            cluster.kill_all()
            another = on_the_same_ports(cluster, tmp_path / "another")
            try:
                another.start()
                for client in clients.values():
                    await refused(client, ours, another.plan.cluster.ring.cluster_id)
                with quorate.connect(another.address()) as newcomer:
                    assert list(newcomer.bucket("b").keys()) == [], "nothing reached the other cluster"
                    newcomer.bucket("b").put("theirs", 1)
            finally:
                another.close()
            cluster.start()
            for name, client in clients.items():
                await client.bucket("b").put(f"after-{name}", name)
                assert (await client.bucket("b").get(f"before-{name}")).value == name
        with quorate.connect(cluster.address()) as client:
            assert sorted(client.bucket("b").keys()) == ["after-one", "after-two", "before-one", "before-two"]

    asyncio.run(main())
