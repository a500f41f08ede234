"""`quorate up`: a cluster in one command, that says what happens and stops cleanly."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ENVIRONMENT, EVENT_TIMEOUT_S, QUORATE, free_base_port, run_cli
from tests.settled import eventually

pytestmark = pytest.mark.integration

Event = dict[str, Any]


class Up:
    """A running `quorate up --json`."""

    def __init__(self, data: Path, port: int | None, *options: str) -> None:
        command = [*QUORATE, "up", "--json", "--data", str(data), "--partitions", "16", *options]
        command += [] if port is None else ["--port", str(port)]
        self.log_path = data.with_suffix(".log")
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=ENVIRONMENT)
        self.pids: dict[str, int] = {}
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, name: str) -> Event:
        while True:
            event = self._events.get(timeout=EVENT_TIMEOUT_S)
            assert event is not None, f"up ended before it was {name}:\n{self.log()}"
            if event["event"] == "node":
                self.pids[event["name"]] = event["pid"]
            if event["event"] == name:
                return event

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=EVENT_TIMEOUT_S)
        self._reader.join(timeout=EVENT_TIMEOUT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    """Starts `quorate up`; ends what is still running."""
    started: list[Up] = []

    def start(port: int | None, *options: str) -> Up:
        started.append(Up(tmp_path / "data", port, *options))
        return started[-1]

    yield start
    for each in started:
        each.end(signal.SIGTERM)


def wait_until_gone(pid: int) -> None:
    """Wait for the end of a process that is no child of ours."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    with os.fdopen(descriptor) as handle:
        import select

        assert select.select([handle], [], [], EVENT_TIMEOUT_S)[0], f"process {pid} is still there"


def test_a_cluster_starts_serves_stops_and_resumes(up: Callable[..., Up]) -> None:
    port = free_base_port()
    first = up(port)
    ready = first.wait_for("ready")
    assert ready["nodes"] == {f"n{i}": f"127.0.0.1:{port + i}" for i in (1, 2, 3)}
    assert run_cli("put", "b", "k", "kept", "--node", ready["nodes"]["n1"]).returncode == 0
    assert first.end(signal.SIGINT) == 0
    assert "Stopped cleanly." in first.log()
    for pid in first.pids.values():
        wait_until_gone(pid)
    again = up(None)
    ready = again.wait_for("ready")
    assert run_cli("get", "b", "k", "--node", ready["nodes"]["n3"]).stdout == b"kept"
    assert again.end(signal.SIGTERM) == 0
    assert "unclean" not in again.log()


def test_other_options_than_the_cluster_was_made_with_are_refused(up: Callable[..., Up], tmp_path: Path) -> None:
    running = up(free_base_port(), "--nodes", "1", "--engine", "memory")
    running.wait_for("ready")
    for options, words in (
        (("--nodes", "3"), "was created with --nodes 1"),
        (("--port", "7000"), "was created with --port"),
        (("--engine", "rocksdb"), "was created with --engine memory"),
        (("--partitions", "32"), "was created with --partitions 16"),
    ):
        done = run_cli("up", "--data", str(tmp_path / "data"), *options)
        assert (done.returncode, done.stdout) == (1, b"")
        assert words in done.stderr.decode()
        assert b"leave " + options[0].encode() + b" out to resume it" in done.stderr


def test_a_node_that_dies_is_named_and_not_restarted_and_can_be_brought_back(up: Callable[..., Up]) -> None:
    running = up(free_base_port())
    nodes = running.wait_for("ready")["nodes"]
    os.kill(running.pids["n2"], signal.SIGKILL)
    assert running.wait_for("exited") == {"event": "exited", "name": "n2", "exit_code": -signal.SIGKILL}
    assert run_cli("put", "b", "k", "v", "--node", nodes["n1"]).returncode == 0
    revive = re.search(r"Bring it back with: quorate (.*)", running.log())
    assert "n2 ended (killed by SIGKILL) and is not restarted; n1, n3 still running." in running.log()
    assert revive is not None
    node = subprocess.Popen([*QUORATE, *revive[1].split()], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert node.stdout is not None
        assert json.loads(node.stdout.readline())["event"] == "ready"
        # It serves at once, and reads need a second node: its peers connect when they next try.
        for _ in range(30):
            done = run_cli("get", "b", "k", "--node", nodes["n2"])
            if done.returncode != 5:
                break
        assert done.stdout == b"v", done.stderr
    finally:
        node.terminate()
        assert node.wait(timeout=EVENT_TIMEOUT_S) == 0
        assert node.stdout is not None
        node.stdout.close()


def test_when_every_node_is_dead_up_ends_with_1(up: Callable[..., Up]) -> None:
    running = up(free_base_port(), "--nodes", "2")
    running.wait_for("ready")
    for pid in running.pids.values():
        os.kill(pid, signal.SIGKILL)
    assert running.process.wait(timeout=EVENT_TIMEOUT_S) == 1
    assert "No node is left." in running.log()


def test_nodes_do_not_outlive_the_process_that_started_them(up: Callable[..., Up]) -> None:
    running = up(free_base_port())
    running.wait_for("ready")
    pids = list(running.pids.values())
    running.end(signal.SIGKILL)
    for pid in pids:
        wait_until_gone(pid)


def test_a_second_interrupt_kills(up: Callable[..., Up]) -> None:
    running = up(free_base_port())
    running.wait_for("ready")
    os.kill(running.pids["n1"], signal.SIGSTOP)  # It will never stop by itself.
    running.process.send_signal(signal.SIGINT)
    assert running.wait_for("exited")["exit_code"] == 0
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=EVENT_TIMEOUT_S) == 0
    assert "n1: killed by SIGKILL" in running.log()


def test_a_port_in_use_is_named_before_anything_is_made(tmp_path: Path) -> None:
    import socket

    port = free_base_port()
    with socket.create_server(("127.0.0.1", port + 2)):
        done = run_cli("up", "--data", str(tmp_path / "data"), "--port", str(port))
    assert done.returncode == 1
    assert f"cannot listen for clients on 127.0.0.1:{port + 2}: port {port + 2} is in use" in done.stderr.decode()
    assert not (tmp_path / "data").exists()


def test_people_are_told_what_to_try_next(tmp_path: Path) -> None:
    """Without --json: where everything listens, and commands to copy."""
    port = free_base_port()
    command = [*QUORATE, "up", "--data", str(tmp_path / "data"), "--port", str(port), "--nodes", "1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    told = ""
    while "Ctrl-C stops" not in told:
        line = process.stdout.readline()
        assert line, told
        told += line
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=EVENT_TIMEOUT_S)
    assert process.returncode == 0
    assert f"n1  clients 127.0.0.1:{port + 1}  HTTP 127.0.0.1:{port + 101}  peers 127.0.0.1:{port + 201}" in told
    assert f"quorate get carts alice --node 127.0.0.1:{port + 1}" in told
    assert "http" not in told
    assert all(line.startswith("n1 │ ") for line in log.splitlines() if line[:1] == "n")


def test_local_nodes_are_controlled_through_any_of_them(up: Callable[..., Up]) -> None:
    running = up(free_base_port(), "--nodes", "3")
    addresses = running.wait_for("ready")["nodes"]

    def http(node: str, method: str, path: str) -> tuple[int, Any]:
        host, port = addresses[node].split(":")
        connection = HTTPConnection(host, int(port) + 100, timeout=EVENT_TIMEOUT_S)
        connection.request(method, path, b"{}" if method == "POST" else None, {"Content-Type": "application/json"})
        response = connection.getresponse()
        found = response.status, json.loads(response.read() or b"null")
        connection.close()
        return found

    def states(node: str = "n1") -> dict[str, str]:
        status, document = http(node, "GET", "/v1/local")
        assert status == 200
        return {each["name"]: each["state"] for each in document["nodes"]}

    def act(by: str, node: str, action: str) -> int:
        return http(by, "POST", f"/v1/local/{node}/{action}")[0]

    def put(node: str, *options: str) -> int:
        return run_cli("put", "carts", "alice", "milk", "--node", addresses[node], *options).returncode

    def report(seen_by: str, node: str) -> str:
        status, document = http(seen_by, "GET", "/v1/cluster")
        assert status == 200
        return next(str(member["report"]["state"]) for member in document["members"] if member["name"] == node)

    assert states() == dict.fromkeys(["n1", "n2", "n3"], "running")
    assert act("n1", "n2", "pause") == 200
    assert states("n3") == {"n1": "running", "n2": "paused", "n3": "running"}
    assert put("n1") == 0
    assert (act("n1", "n2", "pause"), act("n1", "n1", "kill"), act("n1", "n9", "kill")) == (409, 409, 404)
    assert act("n1", "n2", "resume") == 200
    eventually("the nodes see it", lambda: report("n1", "n2") == "up")
    assert act("n1", "n3", "kill") == 200
    assert (running.wait_for("exited")["name"], states()["n3"]) == ("n3", "ended")
    assert put("n2") == 0
    assert act("n2", "n3", "start") == 200
    eventually("the nodes see it", lambda: report("n1", "n3") == "up")
    assert act("n3", "n3", "cut") == 200
    eventually("the nodes see it", lambda: report("n1", "n3") == "unreachable" and report("n3", "n1") == "unreachable")
    assert put("n3", "--w", "1") == 0, "always writable"
    assert states()["n3"] == "cut"
    assert act("n1", "n3", "heal") == 200
    eventually("the nodes see it", lambda: report("n1", "n3") == "up" and report("n3", "n1") == "up")
    assert act("n1", "n2", "pause") == 200
    assert running.end() == 0, "a paused node is woken so that it can stop"
