"""A cluster of real processes for benchmarks that break it: kill, pause, slow down, bring back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from quorate.cli.hints import hints_document
from quorate.cli.link import Link
from quorate.cli.local_cluster import plan_cluster
from quorate.core.errors import QuorateError, StartupError

QUORATE = [sys.executable, "-m", "quorate.cli.main"]


class Nodes:
    """Nodes 1 to `count` on loopback."""

    def __init__(self, path: Path, count: int, engine: str) -> None:
        self.plan = plan_on_free_ports(path, count, engine)
        self.members = self.plan.cluster.ring.members
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, *numbers: int) -> None:
        """Start nodes (default: all), and wait until each serves."""
        numbers = numbers or tuple(member.number for member in self.members)
        for number in numbers:
            member = self.members[number - 1]
            with (self.plan.path / f"{member.name}.log").open("ab") as log:
                self._processes[number] = subprocess.Popen(
                    self.plan.start_command(member), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
                )
        for number in numbers:
            self._wait_ready(self._processes[number])

    def wait_connected(self) -> None:
        """Wait until every node that runs is connected with all that run."""
        running = [number for number, process in self._processes.items() if process.poll() is None]
        while True:
            document = self.status(running[0])
            reports = [member["report"] for member in document["members"] if member["number"] in running]
            if all(len(report.get("connected_to", [])) == len(running) - 1 for report in reports):
                return
            time.sleep(0.1)

    def kill(self, *numbers: int) -> None:
        for number in numbers:
            self._processes[number].kill()
        for number in numbers:
            self._processes[number].wait()

    def stop(self, *numbers: int) -> None:
        """Stop nodes (default: all) cleanly, and wait until they have ended."""
        numbers = numbers or tuple(self._processes)
        for number in numbers:
            self._processes[number].send_signal(signal.SIGTERM)
        for number in numbers:
            self._processes[number].wait()

    def pause(self, number: int) -> None:
        self._processes[number].send_signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        self._processes[number].send_signal(signal.SIGCONT)

    def crawl(self, number: int, seconds: float, run_ms: float, stop_ms: float) -> None:
        """Let a node run `run_ms` of every `run_ms + stop_ms`, for `seconds`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.pause(number)
            time.sleep(stop_ms / 1000)
            self.resume(number)
            time.sleep(run_ms / 1000)

    def pid(self, number: int) -> int:
        return self._processes[number].pid

    def address(self, number: int = 1) -> str:
        return self.members[number - 1].client_address

    def status(self, number: int = 1) -> dict[str, Any]:
        with Link(self.address(number)) as link:
            document: dict[str, Any] = link.document("KV.STATUS")
            return document

    def hints(self, number: int = 1) -> int:
        """Hints that all nodes keep together, as far as they answer."""
        total: int = hints_document(self.status(number))["hints"]
        return total

    def differing(self, bucket: str, keys: list[bytes], number: int = 1) -> int:
        """How many of `keys` are not the same on all their replicas."""
        with Link(self.address(number)) as link:
            documents = [link.document("KV.WHERE", bucket.encode() + b":" + key) for key in keys]
        return sum(
            len({(replica["state"], replica.get("digest")) for replica in document["replicas"]}) != 1
            for document in documents
        )

    def close(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.communicate()

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "ready":
                # A pipe that nobody reads would fill up.
                threading.Thread(target=process.stdout.read, daemon=True).start()
                return
        raise SystemExit(f"a node did not start; see the logs in {self.plan.path}")


def plan_on_free_ports(path: Path, count: int, engine: Any) -> Any:
    for base in range(20_000, 30_000, 300):
        try:
            return plan_cluster(path, count, base, engine)
        except StartupError as error:
            if "is in use" not in str(error):
                raise
    raise SystemExit("no free ports between 20000 and 30000")


@contextmanager
def running(path: Path, count: int = 5, engine: str = "rocksdb") -> Iterator[Nodes]:
    """A running cluster, taken down at the end."""
    nodes = Nodes(path, count, engine)
    try:
        nodes.start()
        nodes.wait_connected()
        yield nodes
    finally:
        nodes.close()


class Load:
    """A `quorate bench` in the background; its lines once it has ended."""

    def __init__(self, address: str, *options: str) -> None:
        command = [*QUORATE, "bench", "--json", "--node", address, *options]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)

    @property
    def pid(self) -> int:
        return self._process.pid

    def finish(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """(the phase's line, the windows' lines)"""
        out, err = self._process.communicate()
        if self._process.returncode != 0:
            raise SystemExit(f"the load failed: {err.decode()}")
        lines = [json.loads(line) for line in out.splitlines()]
        return lines[-1], lines[:-1]


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def wait_for_no_hints(nodes: Nodes, timeout_s: float) -> float:
    """Seconds until no hints are left; infinite if that takes longer than `timeout_s`."""
    began = time.monotonic()
    while (waited_s := time.monotonic() - began) < timeout_s:
        with suppress(QuorateError):
            if nodes.hints() == 0:
                return waited_s
        time.sleep(0.1)
    return float("inf")


def cpu_s(pid: int) -> float:
    """CPU time that a process has used, with all its threads."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        raise SystemExit(f"process {pid} has ended under load") from None
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
