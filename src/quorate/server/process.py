"""One node process, from its configuration to its exit code: the only place where every part is known.

Start: lock the data directory, settle who this is (for a node that joins a cluster, wait until it is somebody), bind
the ports, and only then write anything; open the store, make the node, serve, say "ready". Whatever refuses on the way
is one line that names the cause and the next step, and exit code 1; nothing is left half made.

Stop (SIGTERM, SIGINT, or the end of `--attached`'s stdin): accept no more clients, answer what is in flight for at most
`DRAIN_MS`, take leave of the peers, close the store so that the next start finds it clean. A second signal ends the
process at once, which is safe too: it is a crash, and the store is made for that.

A node whose cluster has let it go stops by itself. If it has handed over all that it had, its directory is retired, and
the exit code is 0; if it learns that it was removed, the exit code is 1.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import uvloop

from quorate import __version__
from quorate._process import settle_garbage_collector
from quorate.adapters.metrics.facts import Facts
from quorate.adapters.metrics.registry import Metrics
from quorate.adapters.runtime.system import LoopScheduler, SystemClock, SystemRng
from quorate.adapters.transport.tcp import TcpTransport
from quorate.api.http.server import HttpServer
from quorate.api.resp.server import RespServer
from quorate.core.errors import QuorateError, StartupError, StorageError
from quorate.core.limits import CLIENT_CONNECTIONS_MAX, HTTP_CONNECTIONS_MAX, PEER_CONNECTIONS_MAX
from quorate.core.ports import Clock, Engine
from quorate.core.ring.metadata import read_ring
from quorate.core.wire.handshake import Identity as PeerIdentity
from quorate.dashboard.assets import load_assets
from quorate.node.node import Node
from quorate.node.options import NodeOptions
from quorate.server.configuration import NodeConfiguration, decode_secret
from quorate.server.data_directory import RETIRED_FORMAT, DataDirectory, Retirement
from quorate.server.founding import Standing, establish, refuse_retired, settle
from quorate.server.joining import wait_to_be_joined
from quorate.server.listeners import BACKLOG, bind
from quorate.server.loop_lag import LoopLag
from quorate.server.memory import cache_bytes, memory_bytes
from quorate.server.output import EventWriter, log_name, set_up_logging
from quorate.server.stopping import unless_stopped, watch_stop
from quorate.server.supervision import Supervision

DRAIN_MS = 2_000
FILES_WANTED = CLIENT_CONNECTIONS_MAX + HTTP_CONNECTIONS_MAX + PEER_CONNECTIONS_MAX + 2_048
"""Descriptors: all connections that the limits allow, and plenty for the store (hard case 34)."""

log = logging.getLogger("quorate.server")


def run_node(
    configuration: NodeConfiguration,
    attached: bool = False,
    wrap_engine: Callable[[Engine], Engine] | None = None,
    clock: Clock | None = None,
    supervised: bool = False,
) -> int:
    """Run one node in the foreground until it is told to stop; returns the exit code.

    `attached`: also stop when stdin ends, so that a node does not outlive the process that started it, and say on
    stdout which peers are connected, as that changes. `wrap_engine` and `clock` are for trials, which watch the store
    of a production node or set its clock wrong: what stands between it and its store, and the clock it goes by.
    `supervised`: the parent answers what clients ask of local nodes (see `supervision`).
    """
    if not configuration.data:
        raise StartupError("a node needs a data directory; say --data DIR")
    directory = DataDirectory.open(Path(configuration.data))
    try:
        refuse_retired(directory.path)
        joins = bool(configuration.join) and directory.identity() is None
        joined = wait_to_be_joined(configuration, directory, attached) if joins else None
        if joins and joined is None:
            return 0
        standing = settle(configuration, directory, joined)
        log_format = configuration.log_format
        set_up_logging(log_name(standing.identity.name, attached, log_format), log_format)
        for warning in standing.warnings:
            log.warning("%s", warning)
        if configuration.join and not joins:
            log.info("--join is ignored: the node in %s is a member already", directory.path)
        # The transport binds the peer port itself; here it is only asked whether it can. Keeping it would leave peers
        # that connect too early in a queue that nobody answers.
        bind(standing.listen["peer"], "peer").close()
        with bind(standing.listen["client"], "client") as clients, bind(standing.listen["http"], "HTTP client") as web:
            establish(standing, directory)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                process = NodeProcess(configuration, standing, directory, attached, wrap_engine, clock, supervised)
                return runner.run(process.run(clients, web))
    finally:
        directory.close()


class _WatchedNode(Node):
    """A node that also tells its process whenever a peer comes or goes, and of its own removal."""

    on_peers_changed: Callable[[], None] = staticmethod(lambda: None)
    on_told_removed: Callable[[str], None] = staticmethod(lambda reason: None)

    def on_connected(self, member: int) -> None:
        super().on_connected(member)
        self.on_peers_changed()

    def on_disconnected(self, member: int) -> None:
        super().on_disconnected(member)
        self.on_peers_changed()

    def on_removed(self, reason: str) -> None:
        super().on_removed(reason)
        self.on_told_removed(reason)


class NodeProcess:
    """The parts of a running node, in the order in which they are made and (reversed) taken down."""

    def __init__(
        self,
        configuration: NodeConfiguration,
        standing: Standing,
        directory: DataDirectory,
        attached: bool,
        wrap_engine: Callable[[Engine], Engine] | None = None,
        clock: Clock | None = None,
        supervised: bool = False,
    ) -> None:
        self._supervised = supervised
        self._supervision: Supervision | None = None
        self._configuration = configuration
        self._standing = standing
        self._directory = directory
        self._attached = attached
        self._wrap_engine = wrap_engine
        self._clock = clock or SystemClock()
        self._cache_bytes = cache_bytes(configuration.cache_bytes_max, memory_bytes())
        self._events = EventWriter(standing.identity.name)
        self._stopping: asyncio.Event
        self._exit_code = 0

    async def run(self, clients: socket.socket, web: socket.socket) -> int:
        """Serve until told to stop; returns the exit code."""
        self._stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_exception)
        watch_stop(loop, self._stopping, self._attached, self._on_line)
        self._files = raise_file_limit()
        engine = self._open_engine(loop)
        if self._wrap_engine is not None:
            engine = self._wrap_engine(engine)
        try:
            await self._serve(loop, engine, clients, web)
        finally:
            try:
                engine.close()
            except StorageError as error:
                log.error("the store did not close cleanly: %s", error)
                raise
        log.info("stopped")
        self._events.emit("stopped")
        return self._exit_code

    async def _serve(
        self, loop: asyncio.AbstractEventLoop, engine: Engine, clients: socket.socket, web: socket.socket
    ) -> None:
        clock, scheduler, rng = self._clock, LoopScheduler(loop), SystemRng()
        transport = self._make_transport(clock, scheduler, rng)
        node = self._make_node(engine, transport, clock, scheduler, rng)
        transport.attach(node)
        if self._supervised:
            name = self._standing.identity.name
            self._supervision = Supervision(name, self._events.emit, scheduler, transport.cut_off)
        self._check_store(node)
        node.on_told_removed = lambda reason: self._on_told_removed(node, reason)
        ready = asyncio.Event()
        node.start(ready.set)
        if not await unless_stopped(ready, self._stopping):
            return
        if self._attached:
            node.on_peers_changed = lambda: self._report_peers(node)
            node.when_told(node.on_peers_changed)
        resp, http = self._make_interfaces(node, clock, scheduler)
        lag = LoopLag(loop)
        http.metrics = Metrics(lambda: self._facts(node, lag, resp, http)).scrape
        transport.set_members(node.ring().members, node.ring().departed)
        await transport.start()
        connect = cast(Callable[[], asyncio.Protocol], resp.connect)
        client_server = await loop.create_server(connect, sock=clients, backlog=min(BACKLOG, self._files // 4))
        web_server = await loop.create_server(http, sock=web, backlog=min(BACKLOG, self._files // 32))
        settle_garbage_collector()
        self._report_ready()
        await self._stopping.wait()
        client_server.close()
        web_server.close()
        await asyncio.gather(self._drain(resp), self._drain(http))
        lag.stop()
        await transport.stop()
        node.stop()

    def _on_line(self, line: bytes) -> None:
        if self._supervision is not None:
            self._supervision.on_line(line)

    def _make_node(
        self, engine: Engine, transport: TcpTransport, clock: Clock, scheduler: LoopScheduler, rng: SystemRng
    ) -> _WatchedNode:
        node = _WatchedNode(
            member_number=self._standing.identity.number,
            founding=self._standing.cluster.founding(),
            newborn=self._standing.newborn,
            engine=engine,
            transport=transport,
            clock=clock,
            scheduler=scheduler,
            rng=rng,
            own=self._standing.own,
            on_departed=lambda: self._on_departed(node),
            options=NodeOptions(
                value_bytes_max=self._configuration.value_bytes_max,
                clock_skew_max_ms=self._configuration.clock_skew_max_ms,
                grace_ms=self._standing.cluster.grace_s * 1000,
                record_cache_bytes=self._cache_bytes.records,
            ),
        )
        return node

    def _make_interfaces(self, node: Node, clock: Clock, scheduler: LoopScheduler) -> tuple[RespServer, HttpServer]:
        """What clients talk to: the Redis protocol, and HTTP."""
        resp = RespServer(
            node,
            clock,
            scheduler,
            self._standing.cluster.password or None,
            value_bytes_max=self._configuration.value_bytes_max,
            # Of few files clients get half, and those about to be turned away a quarter: never the store's.
            connections_max=min(CLIENT_CONNECTIONS_MAX, self._files // 2),
        )
        http = HttpServer(
            node,
            clock,
            scheduler,
            self._standing.cluster.password or None,
            addresses=[self._standing.listen["http"], self._standing.own.http_address],
            names=self._configuration.http_hosts,
            assets=load_assets(),
            local=self._supervision,
            value_bytes_max=self._configuration.value_bytes_max,
            # Of what the clients of the Redis protocol have left, half is for the store and the peers.
            connections_max=min(HTTP_CONNECTIONS_MAX, self._files // 8),
        )
        return resp, http

    def _facts(self, node: Node, lag: LoopLag, resp: RespServer, http: HttpServer) -> Facts:
        """What one scrape of the metrics reads."""
        identity, ring = self._standing.identity, read_ring(node.ring())
        return Facts(
            report=node.report(),
            measures=node.measures,
            loop_lag=lag.histogram,
            connections={"redis": len(resp.connections), "http": len(http.clients)},
            partitions_owned=ring.owners.count(identity.number),
            members=len(ring.members),
            build={
                "version": __version__,
                "engine": identity.engine,
                "node": identity.name,
                "cluster_id": identity.cluster_id,
            },
        )

    def _make_transport(self, clock: Clock, scheduler: LoopScheduler, rng: SystemRng) -> TcpTransport:
        identity, cluster = self._standing.identity, self._standing.cluster
        return TcpTransport(
            identity=PeerIdentity(identity.cluster_id, identity.number, identity.node_id, identity.name),
            secret=decode_secret(cluster.secret),
            members=cluster.ring.members,
            clock=clock,
            rng=rng,
            scheduler=scheduler,
            bind_address=self._standing.listen["peer"],
            advertised_address=self._standing.own.peer_address,
        )

    def _open_engine(self, loop: asyncio.AbstractEventLoop) -> Engine:
        if self._standing.identity.engine == "memory":
            from quorate.adapters.storage.memory import MemoryEngine  # noqa: PLC0415 - only one engine is paid for

            return MemoryEngine(LoopScheduler(loop))
        from quorate.adapters.storage.rocksdb import RocksDbEngine  # noqa: PLC0415

        return RocksDbEngine(
            self._directory.store_path, loop.call_soon_threadsafe, block_cache_bytes=self._cache_bytes.blocks
        )

    def _check_store(self, node: Node) -> None:
        """The store has a ring of its own, which is, or was, this node's (a store moved between directories is not).

        The ring need not have this node any more: one that has left may still have something to hand over.
        """
        identity, ring = self._standing.identity, node.ring()
        ids = {gone.number: gone.id for gone in ring.departed} | {member.number: member.id for member in ring.members}
        if ring.cluster_id != identity.cluster_id or ids.get(identity.number, identity.node_id) != identity.node_id:
            raise StartupError(
                f"the store in {self._directory.store_path} belongs to another node or cluster than identity.json "
                "says; put back what was moved, or give another --data directory"
            )

    def _on_departed(self, node: Node) -> None:
        """The node is no member any more, and has handed over what it had."""
        identity, ring = self._standing.identity, node.ring()
        left = any(gone.id == identity.node_id for gone in ring.departed)
        reason = f"has left cluster {ring.cluster_id}" if left else "was never joined: its plan was taken back"
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        try:
            self._directory.retire(Retirement(RETIRED_FORMAT, identity.name, reason, at))
        except StartupError as error:
            log.error("%s", error)
            self._exit_code = 1
        log.info("this node %s (ring version %d) and stops for good", reason, ring.version)
        self._events.emit("retired", reason=reason)
        self._stopping.set()

    def _on_told_removed(self, node: Node, reason: str) -> None:
        """A member refuses this node: whatever it still has, nobody will take it."""
        identity = self._standing.identity
        if any(gone.id == identity.node_id for gone in node.ring().departed):
            # It has left in good order, and only its last connection went before it did.
            self._on_departed(node)
            return
        log.error("stopping, because %s", reason)
        self._exit_code = 1
        self._stopping.set()

    async def _drain(self, server: RespServer | HttpServer) -> None:
        """Let the clients have the replies to what they have asked already."""
        empty = asyncio.Event()
        server.on_empty = empty.set
        what = "HTTP clients" if isinstance(server, HttpServer) else "clients"
        clients = server.clients if isinstance(server, HttpServer) else server.connections
        log.info("stopping: %d %s are connected", len(clients), what)
        server.close()
        if clients:
            try:
                await asyncio.wait_for(empty.wait(), DRAIN_MS / 1000)
            except TimeoutError:
                log.warning("%d %s did not take their replies in time", len(clients), what)
        server.abort()

    def _report_ready(self) -> None:
        identity, listen = self._standing.identity, self._standing.listen
        log.info(
            "quorate %s, node %s of cluster %s: clients %s, HTTP %s, peers %s, data %s (%s)",
            *(__version__, identity.name, identity.cluster_id),
            *(listen[what] for what in ("client", "http", "peer")),
            self._directory.path,
            identity.engine,
        )
        self._events.emit(
            "ready",
            pid=os.getpid(),
            node_id=identity.node_id,
            cluster_id=identity.cluster_id,
            data=str(self._directory.path),
            engine=identity.engine,
            **listen,
        )

    def _report_peers(self, node: Node) -> None:
        members = [member for member in node.ring().members if member.number != node.self_number()]
        # Who waits for a cluster waits for nodes that serve, which new ones do when they have told each other so.
        # A suspicion is left out: it goes as it came, without any change of peers that would be told here.
        connected = [member.name for member in members if node.serves and node.connected(member.number)]
        self._events.emit("peers", connected=connected)


def raise_file_limit() -> int:
    """Allow as many open files as the limits of connections and the store may need, or say that they are too few.

    Returns how many may be open.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < FILES_WANTED:
        log.warning("only %d files may be open at once, %d are wanted; raise it with `ulimit -n`", wanted, FILES_WANTED)
    return wanted


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, QuorateError):
        log.error("%s: %s", context.get("message"), error)
    else:
        log.error("%s; this is a bug", context.get("message"), exc_info=error)
