"""kill -9 while members change, on real processes: whoever dies, the plan comes to its end, or is taken back, and every
acknowledged write is there (hard cases 13, 19)."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

import quorate
from tests.conftest import ENVIRONMENT, QUORATE, Cluster, MakeCluster, run_cli
from tests.integration.test_join import Newcomer
from tests.settled import eventually

pytestmark = pytest.mark.integration

KEYS = 1_000
VALUE_BYTES = 2_000
PLAN_TIMEOUT_S = 90.0


class Writer:
    """Puts numbers under keys, and remembers which were acknowledged."""

    def __init__(self, seeds: list[str]) -> None:
        self._client = quorate.connect(seeds, timeout_ms=5_000)
        self._bucket = self._client.bucket("counted")
        self.acknowledged: dict[str, int] = {}
        self._number = 0

    def put(self, key: str) -> None:
        self._number += 1
        value = str(self._number).rjust(VALUE_BYTES).encode()
        got = self._bucket.get(key)
        self._bucket.put(key, value, context=got.context or None)
        self.acknowledged[key] = self._number

    def missing(self) -> list[str]:
        """Keys that show less than what was acknowledged."""
        return [key for key, number in self.acknowledged.items() if self._newest(key) < number]

    def _newest(self, key: str) -> int:
        return max((int(sibling.data) for sibling in self._bucket.get(key).siblings), default=0)

    def close(self) -> None:
        self._client.close()


@pytest.fixture
def joining(make_cluster: MakeCluster) -> Iterator[tuple[Cluster, Newcomer, Writer]]:
    """Three nodes with data, and a fourth that waits to be joined."""
    cluster = make_cluster(3, "rocksdb")
    node = Newcomer(cluster, 4)
    writer = Writer([member.client_address for member in cluster.members])
    try:
        for number in range(KEYS):
            writer.put(f"key{number}")
        node.start(*node.flags).wait_for("waiting")
        yield cluster, node, writer
    finally:
        writer.close()
        node.process.close()


def begin(cluster: Cluster, node: int) -> subprocess.Popen[bytes]:
    """`quorate join n4`, under way."""
    address = cluster.members[node - 1].client_address
    command = [*QUORATE, "join", "n4", "--yes", "--json", "--node", address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)


def transfers(cluster: Cluster, node: int) -> dict[str, Any]:
    done = run_cli("transfers", "--json", "--node", cluster.members[node - 1].client_address)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def under_way(cluster: Cluster, node: int) -> dict[str, Any]:
    """The plan, as soon as it has begun."""
    eventually("the plan has begun", lambda: transfers(cluster, node)["plan"] is not None)
    return transfers(cluster, node)


def finished(cluster: Cluster, node: int) -> None:
    deadline = time.monotonic() + PLAN_TIMEOUT_S
    while time.monotonic() < deadline:
        document = transfers(cluster, node)
        if document["plan"] is None:
            return
    raise AssertionError(f"the plan does not come to its end: {document}")


def names(cluster: Cluster, node: int) -> list[str]:
    """The members, as a node says; none if it does not answer."""
    done = run_cli("members", "--json", "--node", cluster.members[node - 1].client_address)
    return [member["name"] for member in json.loads(done.stdout)["members"]] if done.returncode == 0 else []


def test_the_newcomer_dies_and_goes_on_where_it_was(joining: tuple[Cluster, Newcomer, Writer]) -> None:
    cluster, node, writer = joining
    command = begin(cluster, 1)
    under_way(cluster, 2)
    node.process.wait_for("ready")
    node.process.kill()
    for number in range(20):
        writer.put(f"key{number}")
    waits = transfers(cluster, 2)
    if waits["plan"] is not None and waits["stage"] == "read old":
        assert any("n4" in text for text in waits["waiting"]), waits
    node.start()
    finished(cluster, 2)
    assert command.wait() == 0
    assert names(cluster, 3) == ["n1", "n2", "n3", "n4"]
    assert writer.missing() == []


def test_a_newcomer_that_dies_is_taken_back_and_may_try_again(joining: tuple[Cluster, Newcomer, Writer]) -> None:
    cluster, node, writer = joining
    node.process.stop()  # It is known as a candidate, and hears of nothing any more.
    command = begin(cluster, 1)
    under_way(cluster, 2)
    node.process.kill()
    for number in range(20):
        writer.put(f"key{number}")
    document = transfers(cluster, 2)
    assert document["stage"] == "read old"
    assert any("n4" in text for text in document["waiting"]), document
    aborted = cluster.cli("abort", "--json", node=2)
    assert aborted.returncode == 0, aborted.stderr
    assert command.wait() != 0, "the join was not done, and says so"
    assert names(cluster, 1) == ["n1", "n2", "n3"]
    node.start(*node.flags).wait_for("waiting")
    assert begin(cluster, 3).wait() == 0
    assert names(cluster, 1) == ["n1", "n2", "n3", "n4"]
    assert writer.missing() == []


@pytest.mark.parametrize("victim", [1, 2])
def test_whoever_proposed_the_plan_or_fills_it_dies(joining: tuple[Cluster, Newcomer, Writer], victim: int) -> None:
    """n1 is the node that the command was given to, n2 one of the sources."""
    cluster, _, writer = joining
    begin(cluster, 1)
    under_way(cluster, 3)
    cluster.node(victim).kill()
    for number in range(20):
        writer.put(f"key{number}")
    cluster.node(victim).start()
    finished(cluster, 3)
    eventually("all go by the same ring", lambda: names(cluster, victim) == ["n1", "n2", "n3", "n4"])
    assert writer.missing() == []


def test_a_node_dies_between_the_stages(joining: tuple[Cluster, Newcomer, Writer]) -> None:
    cluster, _, writer = joining
    begin(cluster, 1)
    under_way(cluster, 3)
    deadline = time.monotonic() + PLAN_TIMEOUT_S
    while time.monotonic() < deadline and transfers(cluster, 3).get("stage") == "read old":
        pass
    cluster.node(1).kill()
    for number in range(20):
        writer.put(f"key{number}")
    finished(cluster, 3)
    cluster.node(1).start()
    eventually("it has learned of it", lambda: names(cluster, 1) == ["n1", "n2", "n3", "n4"])
    assert writer.missing() == []
