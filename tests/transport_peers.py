"""Transports on real sockets, for the tests of the peer port: with a handler that records, and peers spoken by hand.

A test waits for what a handler is told or a log says, never for time to pass.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from quorate.adapters.runtime.system import LoopScheduler, SystemClock
from quorate.adapters.transport.tcp import TcpTransport
from quorate.core.limits import (
    FRAME_BYTES_MAX,
)
from quorate.core.ring.ring import Member
from quorate.core.wire.framing import FrameReader, frame_header
from quorate.core.wire.handshake import Handshake, Role
from tests.free_ports import free_ports
from tests.peer_cluster import SECRET, RecordingHandler, SeededRng, make_identity, make_member

WAIT_SECONDS = 15.0


class Peer:
    """A transport with a handler that records, and the means to wait for what it is told."""

    def __init__(self, number: int, members: list[Member], **changes: Any) -> None:
        self.handler = RecordingHandler()
        self.changed = asyncio.Event()
        self.handler.wake = self.changed.set
        self.member = members[number - 1]
        self.transport = TcpTransport(
            identity=changes.get("identity", make_identity(number)),
            secret=changes.get("secret", SECRET),
            members=changes.get("knows", members),
            handler=self.handler,
            clock=SystemClock(),
            rng=SeededRng(number),
            scheduler=changes.get("scheduler") or LoopScheduler(asyncio.get_running_loop()),
            bind_address=self.member.peer_address,
            advertised_address=changes.get("advertised", ""),
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_connected(self, number: int) -> None:
        await self.until(lambda: self.transport.connected(number))


class LogLines(logging.Handler):
    """What the peer port logs, and an event for each line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.changed = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.changed.set()

    async def until(self, words: str) -> str:
        async with asyncio.timeout(WAIT_SECONDS):
            while not (found := [line for line in self.lines if words in line]):
                self.changed.clear()
                await self.changed.wait()
        return found[0]


def members(count: int = 2) -> list[Member]:
    ports = free_ports(count)
    return [make_member(number, f"127.0.0.1:{port}") for number, port in enumerate(ports, 1)]


@asynccontextmanager
async def started(*peers: Peer) -> AsyncIterator[LogLines]:
    """Start them, stop them at the end, and see that no exception has escaped into the loop meanwhile."""
    lines, log, escaped = LogLines(), logging.getLogger("quorate.peer"), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: escaped.append(context))
    log.addHandler(lines)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        for peer in peers:
            await peer.transport.start()
        yield lines
    finally:
        for peer in peers:
            await peer.transport.stop()
        log.removeHandler(lines)
        log.setLevel(level)
    assert escaped == []


class RawPeer:
    """Member `number`, spoken by hand over a socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.reader, self.writer = reader, writer
        self.handshake = Handshake(
            Role.DIALER, make_identity(number), SECRET, {1: make_member(1)}, os.urandom(32), expected=1
        )
        self._frames = FrameReader(FRAME_BYTES_MAX)

    @classmethod
    async def dial(cls, address: str, number: int) -> RawPeer:
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port)), number)

    async def bodies(self) -> list[bytes]:
        """The frames in the next chunk; empty at the end of the stream."""
        async with asyncio.timeout(WAIT_SECONDS):
            found: list[bytes] = []
            while not found:
                chunk = await self.reader.read(65_536)
                if not chunk:
                    return []
                found = [bytes(body) for _, body in self._frames.frames(chunk)]
            return found

    def write(self, body: bytes) -> None:
        self.writer.write(frame_header(len(body), time.monotonic() * 1000) + body)

    async def shake_hands(self) -> None:
        body = self.handshake.start()
        while body is not None:
            self.write(body)
            body = self.handshake.receive((await self.bodies())[0])

    async def until_closed(self) -> None:
        while await self.bodies():
            pass
