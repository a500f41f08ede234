"""Real processes before and after their membership: waiting, joined, moved, gone, and coming back where they must not.

What a change of the ring does to data is tested elsewhere; here it is what becomes of the process.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from quorate.cli.local_cluster import base_port
from tests.conftest import ENVIRONMENT, EVENT_TIMEOUT_S, QUORATE, Cluster, MakeCluster, NodeProcess, run_cli
from tests.settled import eventually

pytestmark = pytest.mark.integration


class Newcomer:
    """A node n<number> beside the members of a cluster, on the ports that belong to its number."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        port = base_port(cluster.plan.cluster)
        self.name = f"n{number}"
        self.data = cluster.plan.path / self.name
        self.client = f"127.0.0.1:{port + number}"
        self.log_path = cluster.plan.path / f"{self.name}.log"
        self.flags = ["--name", self.name, "--cluster", str(cluster.plan.cluster_path)]
        self.flags += ["--join", cluster.members[0].peer_address, "--client-listen", self.client]
        self.flags += ["--peer-listen", f"127.0.0.1:{port + 200 + number}"]
        self.process = NodeProcess([], self.log_path)

    def start(self, *flags: str) -> NodeProcess:
        self.process = start(self.data, self.log_path, *flags)
        return self.process


def start(data: Path, log_path: Path, *flags: str) -> NodeProcess:
    process = NodeProcess([*QUORATE, "start", "--data", str(data), "--attached", *flags], log_path)
    process.start()
    return process


def refused(data: Path, *flags: str) -> str:
    """What a start says that is refused, or ends by itself, with exit code 1."""
    command = [*QUORATE, "start", "--data", str(data), *flags]
    ended = subprocess.run(command, capture_output=True, timeout=EVENT_TIMEOUT_S, check=False, env=ENVIRONMENT)
    assert ended.returncode == 1, ended
    return ended.stderr.decode()


def ring(cluster: Cluster, node: int = 1) -> dict[str, Any]:
    """Name → member, as `quorate members` says."""
    done = cluster.cli("members", "--json", node=node)
    assert done.returncode == 0, done.stderr
    return {member["name"]: member for member in json.loads(done.stdout)["members"]}


def serves(cluster: Cluster, node: int) -> bool:
    return cluster.cli("put", "carts", "bob", "bread", node=node).returncode == 0


@pytest.fixture
def newcomer(make_cluster: MakeCluster) -> Iterator[tuple[Cluster, Newcomer]]:
    cluster = make_cluster(3, "rocksdb")
    node = Newcomer(cluster, 4)
    try:
        yield cluster, node
    finally:
        node.process.close()


def test_a_node_waits_is_joined_serves_leaves_and_never_returns(newcomer: tuple[Cluster, Newcomer]) -> None:
    cluster, node = newcomer
    assert cluster.cli("put", "carts", "alice", "milk").returncode == 0

    waiting = node.start(*node.flags).wait_for("waiting")
    assert waiting["cluster_id"] == cluster.plan.cluster.cluster_id
    assert node.process.terminate() == 0, "whoever waits can be stopped"
    assert not (node.data / "identity.json").exists()
    assert "waits to be joined" in refused(node.data)
    again = node.start(*node.flags).wait_for("waiting")
    assert again["node_id"] == waiting["node_id"]

    joined = cluster.cli("join", "n4", "--yes", "--json", node=2)
    assert joined.returncode == 0, joined.stderr
    ready = node.process.wait_for("ready")
    assert (ready["node_id"], ready["client"]) == (waiting["node_id"], node.client)
    assert run_cli("get", "carts", "alice", "--node", node.client).stdout == b"milk"
    assert ring(cluster)["n4"]["number"] == 4

    assert node.process.terminate() == 0
    node.start("--join", cluster.members[0].peer_address).wait_for("ready")
    assert "--join is ignored" in node.process.log()

    left = cluster.cli("leave", "n4", "--yes", "--json")
    assert left.returncode == 0, left.stderr
    node.process.wait_for("retired")
    node.process.wait_for("stopped")
    assert json.loads((node.data / "retired.json").read_text())["name"] == "n4"
    for flags in ((), tuple(node.flags)):
        assert "has left cluster" in refused(node.data, *flags)
    assert "n4" not in ring(cluster)


def test_a_node_that_was_removed_while_it_was_away_is_told_and_stops(make_cluster: MakeCluster) -> None:
    """Hard case 16. n1, that is: all the others should have dialled it, and nobody does any more."""
    cluster = make_cluster(4, "rocksdb")
    # A node serves once it has asked all others whether anything was decided; from then on it votes as well.
    for number in range(1, 5):
        eventually(f"n{number} serves", partial(serves, cluster, number))
    cluster.node(1).kill()
    left = cluster.cli("leave", "n1", "--stopped", "--yes", "--json", node=2)
    assert left.returncode == 0, left.stderr
    said = refused(cluster.plan.data_path(cluster.members[0]))
    assert "n1 (member 1, " in said and "was removed from the cluster" in said and "empty data directory" in said


def test_a_member_that_is_started_elsewhere_is_found_there(make_cluster: MakeCluster) -> None:
    """Hard case 21. It has the lowest number, so the others would have to dial it, and do not know where."""
    cluster = make_cluster(3, "rocksdb")
    assert cluster.node(1).terminate() == 0
    port = base_port(cluster.plan.cluster)
    client, peer = f"127.0.0.1:{port + 11}", f"127.0.0.1:{port + 211}"
    data, log_path = cluster.plan.data_path(cluster.members[0]), cluster.plan.path / "n1-moved.log"
    moved = start(data, log_path, "--client-listen", client, "--peer-listen", peer)
    try:
        moved.wait_for("ready")
        moved.wait_connected({"n2", "n3"})
        assert run_cli("put", "carts", "alice", "milk", "--node", client).returncode == 0
        eventually("n2 knows where n1 is", lambda: ring(cluster, node=2)["n1"]["peer_address"] == peer)
        cluster.node(3).kill()
        cluster.node(3).start()
        cluster.node(3).wait_connected({"n1", "n2"})
        assert moved.terminate() == 0
        moved = start(data, log_path)
        assert moved.wait_for("ready")["peer"] == peer, "it remembers"
        moved.wait_connected({"n2", "n3"})
    finally:
        moved.close()
