"""Hard case 20, for clients: a cluster ends, another one is started at its addresses, and long-lived clients go over.

Nodes of two clusters refuse each other by the cluster's id. A client that only reconnects would not notice: any node
takes any key, and acknowledges what the client's own cluster never sees (as with scylladb#14448, silently).
"""

import asyncio
from typing import Any

import pytest

from quorate.core.errors import Unavailable
from tests.unit.client_fakes import CLUSTER_ID, FakeCluster
from tests.unit.client_flavours import connected

ANOTHER_ID = "d" * 32
pytestmark = pytest.mark.parametrize("flavour", ["sync", "async"])


def verbs(cluster: FakeCluster) -> set[bytes]:
    return {arguments[0] for node in cluster.nodes for arguments in node.commands}


async def refused(bucket: Any, words: str) -> None:
    """Reads and writes fail as certainly not done, and the message has `words`."""
    # The read comes first: the client may not yet have seen that the old connections are gone.
    with pytest.raises(Unavailable, match=words):
        await bucket.get("k", timeout_ms=300)
    for index in range(5):
        with pytest.raises(Unavailable, match=words):
            await bucket.put(f"k{index}", index, timeout_ms=300)
    with pytest.raises(Unavailable, match=words):
        await bucket.delete("k", timeout_ms=300)


@pytest.mark.parametrize(
    ("password", "their_password", "words"),
    [
        (None, None, f"belongs to cluster {ANOTHER_ID}, not to {CLUSTER_ID}"),
        ("same", "same", f"belongs to cluster {ANOTHER_ID}, not to {CLUSTER_ID}"),
        ("ours", None, f"belongs to cluster {ANOTHER_ID}, not to {CLUSTER_ID}"),
        (None, "theirs", f"does not show that it belongs to cluster {CLUSTER_ID}: Authentication required"),
        ("ours", "theirs", f"does not show that it belongs to cluster {CLUSTER_ID}: wrong password"),
    ],
)
def test_nothing_reaches_the_cluster_that_took_the_addresses(
    flavour: str, password: str | None, their_password: str | None, words: str
) -> None:
    async def main(ours: FakeCluster) -> None:
        async with connected(flavour, ours.seeds, password=password) as db:
            bucket = db.bucket("b")
            await bucket.put("k", 1)
            for index in range(3):
                ours.kill(index)
            with FakeCluster(3, password=their_password, cluster_id=ANOTHER_ID, ports=ours.ports) as theirs:
                await refused(bucket, words)
                assert verbs(theirs) <= {b"AUTH", b"KV.CLUSTER"}, "nothing was sent but the question who they are"
                assert theirs.sent(b"KV.CLUSTER") and theirs.values == {}
            for index in range(3):
                ours.revive(index)
            await bucket.put("back", 2)
            assert (await bucket.get("k")).value == 1, "the same client goes on with its own cluster"

    with FakeCluster(3, password=password) as ours:
        asyncio.run(main(ours))


def test_one_address_that_was_taken_is_worked_around(flavour: str) -> None:
    async def main(ours: FakeCluster) -> None:
        async with connected(flavour, ours.seeds) as db:
            bucket = db.bucket("b")
            ours.kill(1)
            with FakeCluster(1, password="theirs", cluster_id=ANOTHER_ID, ports=ours.ports[1:2]) as theirs:
                for index in range(30):
                    await bucket.put(f"k{index}", index)
                assert len(ours.values) == 30
                assert verbs(theirs) <= {b"KV.CLUSTER"}

    with FakeCluster(3) as ours:
        asyncio.run(main(ours))


def test_a_plain_redis_that_took_the_addresses_is_refused_too(flavour: str) -> None:
    async def main(ours: FakeCluster) -> None:
        async with connected(flavour, ours.seeds) as db:
            await db.bucket("b").put("k", 1)
            ours.kill(0)
            ours.nodes[0].script = lambda arguments: b"-ERR unknown command '%b'\r\n" % arguments[0]
            ours.nodes[0].commands.clear()
            ours.revive(0)
            await refused(db.bucket("b"), "does not show that it belongs to cluster .*: unknown command 'KV.CLUSTER'")
            assert verbs(ours) == {b"KV.CLUSTER"}

    with FakeCluster(1) as ours:
        asyncio.run(main(ours))
