"""Hosts with several workers, as real processes: one command runs them, one plan joins them, one line shows them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from quorate.cli.local_cluster import base_port
from tests.conftest import EVENT_TIMEOUT_S, QUORATE, MakeCluster, NodeProcess, free_base_port, run_cli
from tests.integration.test_up import Up, wait_until_gone
from tests.settled import eventually

pytestmark = pytest.mark.integration


class Host:
    """`quorate start --workers`, with its data in a folder and its log beside it."""

    def __init__(self, data: Path, *flags: str) -> None:
        self.process = NodeProcess([*QUORATE, "start", "--data", str(data), *flags], data.with_suffix(".log"))
        self.process.start()
        self.pids: dict[str, int] = {}

    def wait_for(self, name: str) -> dict[str, Any]:
        return self.process.wait_for(name)

    def wait_ready(self) -> dict[str, str]:
        """Worker → its address for clients, once all are connected."""
        while True:
            event = self.process._events.get(timeout=EVENT_TIMEOUT_S)
            assert event is not None, self.log()
            if event["event"] == "node":
                self.pids[event["name"]] = event["pid"]
            if event["event"] == "ready":
                nodes: dict[str, str] = event["nodes"]
                return nodes

    def interrupt(self) -> int:
        os.kill(self.process.pid, signal.SIGINT)
        return self.process._gone()

    def log(self) -> str:
        return self.process.log()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Starts `quorate start` in the folder `host`; ends what still runs."""
    started: list[Host] = []

    def start(*flags: str) -> Host:
        started.append(Host(tmp_path / "host", *flags))
        return started[-1]

    yield start
    for each in started:
        each.process.close()


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(port: int | None, *options: str) -> Up:
        started.append(Up(tmp_path / "data", port, *options))
        return started[-1]

    yield start
    for each in started:
        each.end(signal.SIGTERM)


def listen(port: int) -> list[str]:
    flags = []
    for kind, offset in (("client", 1), ("http", 101), ("peer", 201)):
        flags += [f"--{kind}-listen", f"127.0.0.1:{port + offset}"]
    return flags


def get(address: str, key: str) -> bytes:
    return run_cli("get", "b", key, "--node", address).stdout


def put(address: str, key: str, value: str) -> int:
    return run_cli("put", "b", key, value, "--node", address).returncode


def test_workers_are_started_watched_stopped_and_resumed_as_one(host: Callable[..., Host]) -> None:
    port = free_base_port()
    first = host("--name", "n7", "--workers", "3", "--partitions", "16", *listen(port))
    addresses = first.wait_ready()
    assert addresses == {f"n7.{i}": f"127.0.0.1:{port + i}" for i in (1, 2, 3)}
    assert put(addresses["n7.1"], "k", "kept") == 0
    assert get(addresses["n7.3"], "k") == b"kept"

    os.kill(first.pids["n7.2"], signal.SIGKILL)
    ended = first.process.wait_for("exited")
    assert (ended["name"], ended["exit_code"]) == ("n7.2", -signal.SIGKILL)
    assert put(addresses["n7.1"], "later", "too") == 0, "the others go on"
    assert get(addresses["n7.3"], "later") == b"too"
    status = run_cli("status", "--node", addresses["n7.1"])
    assert status.returncode == 1 and "unreachable (2 of 3 up)" in status.stdout.decode()
    assert "n7.2 ended (killed by SIGKILL) and is not restarted; n7.1, n7.3 still running." in first.log()
    assert "Bring it back with: quorate start --name n7.2 --data " in first.log()

    assert first.interrupt() == 0
    for pid in first.pids.values():
        wait_until_gone(pid)
    log = first.log()
    assert "n7.1 │ " in log and "n7.3 │ " in log
    assert log.index("Stopping the workers") < log.index("n7.2: killed by SIGKILL")

    again = host()
    assert again.wait_ready() == addresses
    assert get(addresses["n7.2"], "later") == b"too"
    assert again.process.terminate() == 0
    assert "Stopped cleanly." in again.log()
    refused = run_cli("start", "--data", str(again.process.log_path.with_suffix("")), "--workers", "2")
    assert refused.returncode == 1 and b"holds the 3 workers of n7" in refused.stderr


def test_workers_do_not_outlive_the_process_that_started_them(host: Callable[..., Host]) -> None:
    running = host("--workers", "2", "--partitions", "16", *listen(free_base_port()))
    running.wait_ready()
    running.process.kill()
    for pid in running.pids.values():
        wait_until_gone(pid)


def test_a_host_joins_by_one_plan_and_ends_when_it_has_left(
    make_cluster: MakeCluster, host: Callable[..., Host]
) -> None:
    cluster = make_cluster()
    assert cluster.cli("put", "b", "k", "v").returncode == 0
    port = base_port(cluster.plan.cluster) + 50
    joining = host(
        *("--name", "n4", "--workers", "2", "--cluster", str(cluster.plan.cluster_path)),
        *("--join", cluster.members[0].peer_address, *listen(port)),
    )
    assert {joining.wait_for("waiting")["name"] for _ in range(2)} == {"n4.1", "n4.2"}
    joined = cluster.cli("join", "n4", "--yes")
    assert joined.returncode == 0, joined.stderr
    assert b"done: n4 (n4.1, n4.2) joins (ring version 4)" in joined.stdout
    addresses = joining.wait_ready()
    assert get(addresses["n4.2"], "k") == b"v"
    assert "take them all into the cluster by one plan with: quorate join n4 --node" in joining.log()
    left = cluster.cli("leave", "n4", "--yes")
    assert left.returncode == 0, left.stderr
    assert b"done: n4 (n4.1, n4.2) leaves (ring version 7)" in left.stdout
    assert joining.process._gone() == 0, "it ends by itself"
    assert cluster.cli("get", "b", "k").stdout == b"v"


def test_each_node_of_up_is_a_host_with_its_workers(up: Callable[..., Up]) -> None:
    port = free_base_port()
    running = up(port, "--nodes", "3", "--workers", "2")
    nodes = running.wait_for("ready")["nodes"]
    names = ["n1.1", "n1.2", "n2.1", "n2.2", "n3.1", "n3.2"]
    assert nodes == {name: f"127.0.0.1:{port + i}" for i, name in enumerate(names, start=1)}
    for key in ("a", "b", "c", "d"):
        assert put(nodes["n1.1"], key, "v") == 0
        where = json.loads(run_cli("where", "b", key, "--json", "--node", nodes["n2.2"]).stdout)
        assert sorted(name[:2] for name in where["preference_list"]) == ["n1", "n2", "n3"]
    lines = run_cli("status", "--node", nodes["n1.1"]).stdout.decode().splitlines()
    shown = [line.split() for line in lines if line.startswith(" n") and "127.0.0.1" in line]
    assert [(line[0], " ".join(line[1:6])) for line in shown] == [
        ("n1", "up (2 of 2) itself,"), *((name, "up (2 of 2) up,") for name in ("n2", "n3"))
    ]  # fmt: skip
    assert f"127.0.0.1:{port + 1}-{port + 2}" in shown[0]
    each = run_cli("status", "--workers", "--node", nodes["n1.1"]).stdout.decode()
    assert all(f" {name} " in each for name in names)

    def act(node: str, action: str) -> int:
        address, number = nodes["n1.1"].split(":")
        connection = HTTPConnection(address, int(number) + 100, timeout=EVENT_TIMEOUT_S)
        connection.request("POST", f"/v1/local/{node}/{action}", b"{}", {"Content-Type": "application/json"})
        status = connection.getresponse().status
        connection.close()
        return status

    assert act("n1.2", "kill") == 200, "each process by itself"
    assert running.wait_for("exited")["name"] == "n1.2"
    assert put(nodes["n1.1"], "later", "too") == 0
    assert act("n1.2", "start") == 200
    eventually("it serves again", lambda: get(nodes["n1.2"], "later") == b"too")
    assert running.end() == 0
    resumed = up(None, "--nodes", "3", "--workers", "2")
    assert resumed.wait_for("ready")["nodes"] == nodes
    assert get(nodes["n3.2"], "later") == b"too"


def test_a_cluster_of_one_host_has_its_replicas_on_different_workers(up: Callable[..., Up]) -> None:
    running = up(free_base_port(), "--nodes", "1", "--workers", "3")
    nodes = running.wait_for("ready")["nodes"]
    assert put(nodes["n1.1"], "k", "v") == 0
    where = json.loads(run_cli("where", "b", "k", "--json", "--node", nodes["n1.1"]).stdout)
    assert sorted(where["preference_list"]) == ["n1.1", "n1.2", "n1.3"]
    assert get(nodes["n1.3"], "k") == b"v"
