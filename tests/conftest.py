"""Clusters of real processes for the tests that need them, always taken down again.

A node is started as `quorate up` starts it, and waited for by its events, never by sleeping. What the nodes logged is
shown when a test fails.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import hypothesis
import pytest

from quorate._compiled import COMPILED
from quorate.cli.local_cluster import LocalCluster, plan_cluster
from quorate.core.errors import StartupError
from quorate.core.ring.ring import Member
from tests.free_ports import locked_blocks

hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=2_000, deadline=None)
# A property that fails once in a hundred runs must be found by looking for it, not by whoever happens to run the tests:
# `make test ARGS="tests/property --hypothesis-profile=explore"` looks.
hypothesis.settings.load_profile("fixed")

# Who starts the tests in the background may have them ignore Ctrl-C, and every process under test would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

EVENT_TIMEOUT_S = 60.0
QUORATE = [sys.executable, "-m", "quorate.cli.main"]
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith("QUORATE_") or name == "QUORATE_PURE"
}
"""Of processes under test: what the one who runs the tests has set for other clusters must not reach them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """An extension module cannot be patched: what has to do that is left to the run upon the sources."""
    if COMPILED:
        skip = pytest.mark.skip(reason="replaces what is compiled; run with QUORATE_PURE=1")
        for item in items:
            if item.get_closest_marker("sources"):
                item.add_marker(skip)


class NodeProcess:
    """One node of a cluster under test."""

    def __init__(self, command: list[str], log_path: Path) -> None:
        self._command = command
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.connected: set[str] = set()

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Start the process; `wait_for("ready")` waits until it serves."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self.connected = set()
        self._events = queue.Queue()
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=ENVIRONMENT
            )
        self._reader = threading.Thread(target=self._read, args=(self._process, self._events), daemon=True)
        self._reader.start()

    def wait_for(self, name: str, check: Callable[[dict[str, Any]], bool] = lambda event: True) -> dict[str, Any]:
        """The next event of this name that passes `check`; fails if the process ends first."""
        while True:
            event = self._events.get(timeout=EVENT_TIMEOUT_S)
            assert event is not None, f"the node ended before it was {name}:\n{self.log()}"
            if event["event"] == "peers":
                self.connected = set(event["connected"])
            if event["event"] == name and check(event):
                return event

    def wait_connected(self, names: set[str]) -> None:
        """Wait until it is connected with these peers."""
        if not names <= self.connected:
            self.wait_for("peers", lambda event: names <= set(event["connected"]))

    def kill(self) -> None:
        """`kill -9`; returns when the process is gone."""
        self._running().kill()
        self._gone()

    def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self._running().terminate()
        return self._gone()

    def stop(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self._running().send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it however it stands."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
        if self._process is not None:
            self._gone()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def memory_bytes(self) -> int:
        """Resident set size."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None and self._process.poll() is None, "it does not run"
        return self._process

    def _gone(self) -> int:
        assert self._process is not None
        assert self._reader is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        code = self._process.wait(timeout=EVENT_TIMEOUT_S)
        self._reader.join(timeout=EVENT_TIMEOUT_S)
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        return code

    @staticmethod
    def _read(process: subprocess.Popen[bytes], events: queue.Queue[dict[str, Any] | None]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            events.put(json.loads(line))
        events.put(None)


class Cluster:
    """A cluster of real processes on loopback. Nodes are numbered from 1."""

    def __init__(self, plan: LocalCluster) -> None:
        self.plan = plan
        self.members: list[Member] = plan.cluster.ring.members
        self._nodes = {
            member.number: NodeProcess(plan.start_command(member), plan.path / f"{member.name}.log")
            for member in self.members
        }

    def node(self, number: int) -> NodeProcess:
        return self._nodes[number]

    def address(self, number: int = 1) -> str:
        """host:port for clients of node `number`."""
        return self.members[number - 1].client_address

    @property
    def addresses(self) -> list[str]:
        return [member.client_address for member in self.members]

    def start(self) -> None:
        """Start every node that does not run, and wait until all are connected with all."""
        for node in self._nodes.values():
            node.start()
        self.wait_ready(*self._nodes)

    def wait_ready(self, *numbers: int) -> None:
        """Wait until the nodes just started are ready and connected with each other."""
        for number in numbers:
            self.node(number).wait_for("ready")
        for number in numbers:
            self.node(number).wait_connected({f"n{other}" for other in numbers if other != number})

    def restart(self, number: int) -> None:
        """Start a node that has ended, and wait until it is connected with all that run."""
        running = {member.name for member in self.members if self._runs(member.number)}
        self.node(number).start()
        self.node(number).wait_for("ready")
        self.node(number).wait_connected(running)

    def kill_all(self) -> None:
        """`kill -9` all nodes at once, as if the machine's power were cut without its disk losing anything."""
        for number in self._nodes:
            os.kill(self.node(number).pid, signal.SIGKILL)
        for node in self._nodes.values():
            node.close()

    def cli(self, *arguments: str, node: int = 1, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command of the CLI against node `node`."""
        return run_cli(*arguments, "--node", self.address(node), stdin=stdin)

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()
        if self.plan.path in _port_locks:
            _port_locks.pop(self.plan.path).close()

    def logs(self) -> str:
        return "\n".join(f"--- {number}\n{node.log()}" for number, node in self._nodes.items())

    def _runs(self, number: int) -> bool:
        process = self._nodes[number]._process
        return process is not None and process.poll() is None


class MakeCluster(Protocol):
    def __call__(self, nodes: int = 3, engine: str = "rocksdb", password: str | None = None) -> Cluster: ...


def run_cli(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command of the CLI."""
    return subprocess.run(
        [*QUORATE, *arguments], input=stdin, capture_output=True, timeout=EVENT_TIMEOUT_S, check=False, env=ENVIRONMENT
    )


_port_locks: dict[Path, BinaryIO] = {}
"""By the cluster's directory: held until the cluster is closed, or this process ends."""


def plan_on_free_ports(path: Path, **options: Any) -> LocalCluster:
    """A plan for a new cluster on ports that are free now, and that no other test process will use.

    Free is not enough: another process may choose the same ports before the nodes have bound them, or while they are
    being restarted.
    """
    for base, lock in locked_blocks():
        try:
            plan = plan_cluster(path, port=base, **options)
        except StartupError as error:
            lock.close()
            if "is in use" not in str(error):
                raise
        else:
            _port_locks[path] = lock
            return plan
    raise AssertionError("no free ports")


def free_base_port() -> int:
    """A base port for `quorate up` whose ports are free now."""
    with tempfile.TemporaryDirectory() as folder:
        plan = plan_on_free_ports(Path(folder) / "x", nodes=3, partitions=16)
        return int(plan.cluster.ring.members[0].client_address.rpartition(":")[2]) - 1


def clusters(path: Path) -> Iterator[MakeCluster]:
    """Makes clusters under `path`; closes all of them."""
    made: list[Cluster] = []

    def make(nodes: int = 3, engine: str = "rocksdb", password: str | None = None) -> Cluster:
        folder = path / f"cluster{len(made)}"
        plan = plan_on_free_ports(folder, nodes=nodes, engine=engine, partitions=64, password=password)
        cluster = Cluster(plan)
        made.append(cluster)
        cluster.start()
        return cluster

    try:
        yield make
    finally:
        for cluster in made:
            cluster.close()
            sys.stderr.write(cluster.logs())


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """A function that starts a cluster: (nodes=3, engine="rocksdb", password=None)."""
    yield from clusters(tmp_path)


@pytest.fixture
def cluster(make_cluster: MakeCluster) -> Cluster:
    """A running cluster of three nodes, for one test, which may do to it what it likes."""
    return make_cluster()


@pytest.fixture(scope="module")
def shared_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A running cluster of three nodes, for all tests of a module; leave it as you found it."""
    for make in clusters(tmp_path_factory.mktemp("shared")):
        yield make()
