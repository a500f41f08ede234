"""A cluster of real node processes that a trial may kill, stop and start, and that ends with the trial.

Nodes are waited for by the events that they print (`ready`, `peers`, `clock`, `stopped`), never by the clock; every
wait has a bound, and its error names the node and shows the end of its log.

Invariants: a node has at most one process; `close` leaves none, however the trial ends, and a node whose trial is
killed is killed by the kernel (`node.die_with_parent`).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from quorate.core.errors import QuorateError, StartupError
from quorate.core.keyspace import canonical_name, slot_of_name, storage_key
from quorate.core.ring.preference import PreferenceLists
from quorate.core.ring.ring import Member
from quorate.server.cluster_file import ClusterFile, found_cluster, write_cluster_file
from quorate.server.data_directory import new_id
from quorate.server.listeners import bind

NODES: Final = 5
REPLICAS: Final = 3
PARTITIONS: Final = 64
"""Few, since a repair of everything looks at each of them."""
NODE_COMMAND: Final = (sys.executable, "-m", "quorate.trials.node")
BASE_PORTS: Final = range(10_200, 31_000, 300)
"""Below the ports that the kernel gives to outgoing connections."""
WAIT_S: Final = 60.0
LOG_SHOWN_BYTES: Final = 1_500


class TrialError(QuorateError):
    """The trial itself could not go on: a node did not start, or did not come to rest."""


class RealNode:
    """One node, and its process if it runs."""

    def __init__(self, member: Member, data: Path, command: Sequence[str], log: Path, clock: Path) -> None:
        self.member = member
        self.data = data
        self.clock_path = clock
        self._command = list(command)
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self.ready = False
        self.paused = False
        self.connected: frozenset[str] = frozenset()
        self.clock_offset_ms = 0

    @property
    def name(self) -> str:
        return self.member.name

    @property
    def number(self) -> int:
        return self.member.number

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process; `wait_ready` waits until it serves."""
        assert not self.running, f"{self.name} runs already"
        self.ready = self.paused = False
        self.connected = frozenset()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("QUORATE_")}
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                # Ctrl-C is for the trial, which ends its nodes itself.
                start_new_session=True,
            )
        finally:
            os.close(log)
        self._reader = asyncio.create_task(self._read(self._process))

    async def wait_ready(self) -> None:
        await self._wait(lambda: self.ready, "is ready")

    async def wait_connected(self, names: frozenset[str]) -> None:
        """Wait until it serves and is connected with these peers."""
        await self._wait(lambda: names <= self.connected, f"is connected with {', '.join(sorted(names))}")

    async def wait_clock(self, offset_ms: int) -> None:
        await self._wait(lambda: self.clock_offset_ms == offset_ms, f"goes by a clock that is {offset_ms} ms off")

    async def kill(self) -> None:
        """`kill -9`; returns when the process is gone."""
        self._signal(signal.SIGKILL)
        await self._gone()

    async def terminate(self) -> int:
        """SIGTERM; returns the exit code."""
        self._signal(signal.SIGTERM)
        return await self._gone()

    def pause(self) -> None:
        """SIGSTOP: its connections stay, and nobody answers on them."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        self.paused = False

    def signal_clock(self) -> None:
        self._signal(signal.SIGUSR1)

    def log_end(self) -> str:
        data = self._log.read_bytes() if self._log.exists() else b""
        return data[-LOG_SHOWN_BYTES:].decode(errors="replace")

    async def close(self) -> None:
        """End it however it stands."""
        if self.running:
            self._signal(signal.SIGKILL)
            await self._gone()

    def _signal(self, number: int) -> None:
        assert self._process is not None and self.running, f"{self.name} does not run"
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def _gone(self) -> int:
        assert self._process is not None and self._reader is not None
        try:
            async with asyncio.timeout(WAIT_S):
                code = await self._process.wait()
                await self._reader
        except TimeoutError:
            raise TrialError(f"{self.name} did not end within {WAIT_S:g} s:\n{self.log_end()}") from None
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Take in what the process prints until it ends."""
        assert process.stdout is not None
        async for line in process.stdout:
            await self._hear(json.loads(line))
        self.ready = False
        self.connected = frozenset()
        await process.wait()
        async with self._news:
            self._news.notify_all()

    async def _hear(self, event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            self.ready = True
        elif event["event"] == "peers":
            self.connected = frozenset(event["connected"])
        elif event["event"] == "clock":
            self.clock_offset_ms = event["offset_ms"]
        async with self._news:
            self._news.notify_all()

    async def _wait(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(WAIT_S), self._news:
                await self._news.wait_for(lambda: condition() or not self.running)
        except TimeoutError:
            raise TrialError(f"{self.name} was not seen to be so within {WAIT_S:g} s: {what}") from None
        if not condition():
            raise TrialError(f"{self.name} ended before it {what}:\n{self.log_end()}")


class RealCluster:
    """Five nodes in one directory, on loopback or wherever `addresses` says."""

    def __init__(
        self,
        folder: Path,
        node_command: Sequence[str] = NODE_COMMAND,
        addresses: Callable[[int], tuple[str, int]] | None = None,
        launcher: Callable[[int], Sequence[str]] = lambda number: (),
    ) -> None:
        """`addresses`: number → (host, base port), free ones on loopback by default; `launcher`: number → what stands
        before the command that starts this node."""
        self.folder = folder
        self.record = folder / "record"
        self.record.mkdir(parents=True)
        self.cluster = _found(addresses or _free_addresses())
        self.ring = self.cluster.ring
        path = folder / "cluster.json"
        write_cluster_file(path, self.cluster)
        self.nodes: dict[int, RealNode] = {}
        for member in self.ring.members:
            data, clock = folder / member.name, folder / f"{member.name}.clock"
            options = {"name": member.name, "data": data, "cluster": path, "record": self.record, "clock": clock}
            flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
            command = [*launcher(member.number), *node_command, *flags]
            self.nodes[member.number] = RealNode(member, data, command, folder / f"{member.name}.log", clock)
        self._preferences = PreferenceLists(self.ring)

    @property
    def password(self) -> str:
        return self.cluster.password

    @property
    def names(self) -> dict[int, str]:
        return {number: node.name for number, node in self.nodes.items()}

    def addresses(self) -> list[str]:
        return [member.client_address for member in self.ring.members]

    def locate(self, bucket: bytes, key: bytes) -> bytes:
        """The storage key of a key."""
        slot = slot_of_name(canonical_name(bucket, key))
        return storage_key(self.ring.partition_of_slot(slot), bucket, key)

    def replicas(self, stored_key: bytes) -> tuple[int, ...]:
        return self._preferences.of(int.from_bytes(stored_key[:2], "big"), REPLICAS).replicas

    async def start_all(self) -> None:
        """Have every node run, serve, and be connected with all others."""
        down = [node for node in self.nodes.values() if not node.running]
        for node in self.nodes.values():
            if node.paused:
                node.resume()
        for node in down:
            await node.start()
        everybody = frozenset(node.name for node in self.nodes.values())
        for node in self.nodes.values():
            await node.wait_ready()
        for node in self.nodes.values():
            await node.wait_connected(everybody - {node.name})

    async def stop_all(self) -> None:
        """SIGTERM to all; raises `TrialError` unless each ends cleanly."""
        codes = await asyncio.gather(*(node.terminate() for node in self.nodes.values()))
        bad = [f"{node.name}: {code}" for node, code in zip(self.nodes.values(), codes, strict=True) if code]
        if bad:
            raise TrialError(f"nodes did not stop cleanly (exit codes: {', '.join(bad)})")

    async def close(self) -> None:
        """End all processes, whatever they are doing."""
        await asyncio.gather(*(node.close() for node in self.nodes.values()), return_exceptions=True)


def _found(addresses: Callable[[int], tuple[str, int]]) -> ClusterFile:
    members = []
    for number in range(1, NODES + 1):
        host, port = addresses(number)
        client, http, peer = (f"{host}:{port + offset + number}" for offset in (0, 100, 200))
        members.append(Member(number, new_id(), f"n{number}", f"machine{number}", "", 1, peer, client, http))
    return found_cluster(new_id(), members, PARTITIONS, "rocksdb", password=new_id())


def _free_addresses() -> Callable[[int], tuple[str, int]]:
    for base in BASE_PORTS:
        try:
            for number in range(1, NODES + 1):
                bind(f"127.0.0.1:{base + number}", "client").close()
                bind(f"127.0.0.1:{base + 200 + number}", "peer").close()
        except StartupError:
            continue
        return lambda number: ("127.0.0.1", base)
    raise TrialError(f"no free ports between {BASE_PORTS.start} and {BASE_PORTS.stop}")
