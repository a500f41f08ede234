"""A scripted cluster that speaks RESP, for the tests of the clients: real sockets on loopback, no node behind them.

Every fake node answers from one shared dictionary, unless its `script` says otherwise. A script gets the command's
arguments and gives the bytes of a reply, or `HANG` (never answer), `CLOSE` (drop the connection), or None (answer as
usual). The servers run on a loop of their own in a thread, so that blocking clients can be tested as well.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Sequence

import hiredis
import msgspec

from quorate.core.keyspace import slot_of_name
from quorate.core.ring.ring import Member, Ring

HANG = object()
CLOSE = object()
Script = Callable[[list[bytes]], object]

CLUSTER_ID = "c" * 32


def bulk(data: bytes | str | None) -> bytes:
    if data is None:
        return b"$-1\r\n"
    data = data.encode() if isinstance(data, str) else data
    return b"$%d\r\n%b\r\n" % (len(data), data)


def array(*items: bytes) -> bytes:
    return b"*%d\r\n%b" % (len(items), b"".join(items))


def got(context: str, *rows: tuple[bytes, str, int]) -> bytes:
    encoded = [array(bulk(value), bulk(kind), b":%d\r\n" % time_ms) for value, kind, time_ms in rows]
    return array(bulk(context), array(*encoded))


def options(arguments: list[bytes], first: int) -> dict[bytes, bytes]:
    """The options of a command: name → value (STRICT has none)."""
    found, index = {}, first
    while index < len(arguments):
        if arguments[index] == b"STRICT":
            found[b"STRICT"] = b""
            index += 1
        else:
            found[arguments[index]] = arguments[index + 1]
            index += 2
    return found


class _Session(asyncio.Protocol):
    def __init__(self, node: "FakeNode") -> None:
        self.node = node
        self.reader = hiredis.Reader()
        self.authenticated = node.cluster.password is None

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.node.sessions.append(transport)
        self.node.connections_made += 1

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while not self.transport.is_closing() and (arguments := self.reader.gets()) is not False:
            reply = self.node.answer(self, arguments)
            if reply is CLOSE:
                self.transport.abort()
                return
            if reply is not HANG:
                self.transport.write(reply)


class FakeNode:
    """One node: `commands` lists what it was sent, `script` changes what it says."""

    def __init__(self, cluster: "FakeCluster", number: int) -> None:
        self.cluster = cluster
        self.number = number
        self.script: Script | None = None
        self.commands: list[list[bytes]] = []
        self.sessions: list = []
        self.connections_made = 0
        self.port = 0
        self.server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def sent(self, verb: bytes) -> list[list[bytes]]:
        return [arguments for arguments in self.commands if arguments[0] == verb]

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self.server = await loop.create_server(lambda: _Session(self), "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        self.server.close()
        for transport in self.sessions:
            transport.abort()
        self.sessions.clear()

    def answer(self, session: _Session, arguments: list[bytes]) -> object:
        self.commands.append(arguments)
        if arguments[0] == b"AUTH":
            if self.cluster.password is None:
                return b"-ERR AUTH <password> called without any password configured for the default user\r\n"
            session.authenticated = arguments[1].decode() == self.cluster.password
            return b"+OK\r\n" if session.authenticated else b"-WRONGPASS wrong password\r\n"
        if not session.authenticated:
            return b"-NOAUTH Authentication required.\r\n"
        scripted = self.script(arguments) if self.script is not None else None
        return self.cluster.answer(arguments) if scripted is None else scripted


class FakeCluster:
    """`with FakeCluster(3) as cluster:`; `cluster.kill(i)` and `cluster.revive(i)` stop and restart a listener."""

    def __init__(
        self,
        nodes: int = 3,
        partitions: int = 16,
        password: str | None = None,
        cluster_id: str = CLUSTER_ID,
        ports: Sequence[int] = (),
    ) -> None:
        self.password = password
        self.cluster_id = cluster_id
        self.values: dict[bytes, tuple[bytes, str, int]] = {}
        self.buckets: dict[str, dict] = {}
        self.nodes = [FakeNode(self, number) for number in range(1, nodes + 1)]
        for node, port in zip(self.nodes, ports, strict=False):
            node.port = port
        self.partitions = partitions
        self.version = 1
        self.context = 0

    def __enter__(self) -> "FakeCluster":
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        for node in self.nodes:
            self.run(node.listen())
        self.ring = self.ring_of(self.nodes)
        return self

    def __exit__(self, *_: object) -> None:
        for node in self.nodes:
            self.run(node.shut())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    def kill(self, index: int) -> None:
        self.run(self.nodes[index].shut())

    def revive(self, index: int) -> None:
        self.run(self.nodes[index].listen())

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    @property
    def seeds(self) -> str:
        return ",".join(node.address for node in self.nodes)

    def ring_of(self, nodes: list[FakeNode], version: int = 1) -> Ring:
        members = [
            Member(n.number, f"{n.number:032x}", f"n{n.number}", f"h{n.number}", "z", 1, "", n.address, "")
            for n in nodes
        ]
        owners = [members[partition % len(members)].number for partition in range(self.partitions)]
        return Ring(self.cluster_id, version, members, owners)

    def owner(self, name: bytes) -> FakeNode:
        number = self.ring.owners[self.ring.partition_of_slot(slot_of_name(name))]
        return next(node for node in self.nodes if node.number == number)

    def sent(self, verb: bytes) -> list[list[bytes]]:
        return [arguments for node in self.nodes for arguments in node.sent(verb)]

    def answer(self, arguments: list[bytes]) -> bytes:
        verb = arguments[0].decode().replace("KV.", "").lower()
        return getattr(self, f"_{verb}")(arguments)

    def _ping(self, _: list[bytes]) -> bytes:
        return b"+PONG\r\n"

    def _ring(self, arguments: list[bytes]) -> bytes:
        if len(arguments) > 1 and int(arguments[1]) >= self.ring.version:
            return bulk(None)
        return bulk(msgspec.json.encode(self.ring))

    def _cluster(self, _: list[bytes]) -> bytes:
        return bulk(self.cluster_id)

    def _buckets(self, _: list[bytes]) -> bytes:
        return bulk(json.dumps(self.buckets))

    def _bucket(self, arguments: list[bytes]) -> bytes:
        row = self.buckets.setdefault(arguments[1].decode(), {"n": 3, "r": 2, "w": 2})
        for change in arguments[2:]:
            name, _, value = change.decode().partition("=")
            row[name] = int(value)
        return bulk(json.dumps(row))

    def _status(self, _: list[bytes]) -> bytes:
        return bulk(json.dumps({"nodes": len(self.nodes)}))

    def _where(self, arguments: list[bytes]) -> bytes:
        return bulk(json.dumps({"slot": slot_of_name(arguments[1])}))

    def _next_context(self) -> str:
        self.context += 1
        return f"c{self.context}"

    def _get(self, arguments: list[bytes]) -> bytes:
        rows = [self.values[arguments[1]]] if arguments[1] in self.values else []
        return got(f"c{self.context}", *rows)

    def _put(self, arguments: list[bytes]) -> bytes:
        kind = options(arguments, 3).get(b"TYPE", b"").decode()
        self.values[arguments[1]] = (arguments[2], kind, 1_700_000_000_123)
        return bulk(self._next_context())

    def _del(self, arguments: list[bytes]) -> bytes:
        self.values.pop(arguments[1], None)
        return bulk(self._next_context())

    def _keys(self, arguments: list[bytes]) -> bytes:
        given = options(arguments, 2)
        start = arguments[1] + b":" + given.get(b"PREFIX", b"")
        names = sorted(name[len(arguments[1]) + 1 :] for name in self.values if name.startswith(start))
        begin, limit = int(given.get(b"CURSOR", b"0")), int(given[b"LIMIT"])
        cursor = str(begin + limit) if begin + limit < len(names) else ""
        return array(bulk(cursor), array(*map(bulk, names[begin : begin + limit])))
