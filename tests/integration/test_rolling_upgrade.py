"""A cluster is upgraded node by node: programs of wire versions N and N+1 serve together, and nobody notices.

The next version is this program with its number raised and a message that has one more field, as the rules of
`quorate.core.messages` allow.
"""

from __future__ import annotations

import json
import sys

import pytest

from tests.conftest import Cluster, MakeCluster, NodeProcess, run_cli
from tests.settled import eventually

pytestmark = pytest.mark.integration

NEXT_VERSION = """
import sys
from quorate.core.wire import version
version.WIRE_VERSION, version.WIRE_VERSION_MIN = version.WIRE_VERSION + 1, version.WIRE_VERSION

from functools import reduce
from operator import or_
from quorate.core import messages

class Write(messages.Write, frozen=True, tag=1):
    added: str = "by the next version"

known = messages.Message.__args__
messages.Write, messages.Message = Write, reduce(or_, [Write if one is messages.Write else one for one in known])
from quorate.cli.main import main
sys.argv = ["quorate", *sys.argv[1:]]
main()
"""


def upgrade(cluster: Cluster, number: int) -> NodeProcess:
    """Stop a node, and start the next version on its data."""
    member = cluster.members[number - 1]
    assert cluster.node(number).terminate() == 0
    command = [sys.executable, "-c", NEXT_VERSION, "start", "--data", str(cluster.plan.data_path(member)), "--attached"]
    process = NodeProcess(command, cluster.plan.path / f"{member.name}-next.log")
    process.start()
    process.wait_for("ready")
    process.wait_connected({other.name for other in cluster.members} - {member.name})
    return process


def wire_versions(cluster: Cluster) -> dict[str, int]:
    done = run_cli("members", "--json", "--node", cluster.address())
    return {member["name"]: member["wire_version"] for member in json.loads(done.stdout)["members"]}


def test_every_node_is_upgraded_in_its_turn(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(3, "rocksdb")
    upgraded: list[NodeProcess] = []
    try:
        for number in (1, 2, 3):
            upgraded.append(upgrade(cluster, number))
            for through in (1, 2, 3):
                put = run_cli("put", "carts", "alice", f"by {number} and {through}", "--node", cluster.address(through))
                assert put.returncode == 0, put.stderr
            for through in (1, 2, 3):
                got = run_cli("get", "carts", "alice", "--r", "3", "--node", cluster.address(through))
                assert got.returncode in (0, 3), got.stderr
                assert f"by {number} and 3".encode() in got.stdout
            expected = {f"n{node}": 2 if node <= number else 1 for node in (1, 2, 3)}
            eventually("gossip tells of the versions", lambda expected=expected: wire_versions(cluster) == expected)  # type: ignore[misc]
    finally:
        for process in upgraded:
            process.close()
