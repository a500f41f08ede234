"""One client's conversation with a `RespServer` over a `FakeStore`: no sockets, time moved by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import hiredis

from quorate.api.resp.server import RespServer
from quorate.api.resp.timeouts import RespTimeouts
from tests.unit.fake_store import FakeClock, FakeScheduler, FakeStore


class FakeTransport(asyncio.Transport):
    """What the connection did to its socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.closed = False
        self.aborted = False
        self.high: int | None = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 50_000) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "nothing is written after closing"
        self.written.append(bytes(data))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


def command(*arguments: bytes | str | int) -> bytes:
    """A command as a client sends it."""
    parts = [argument if isinstance(argument, bytes) else str(argument).encode() for argument in arguments]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


class Session:
    """A server and one connection to it."""

    def __init__(
        self,
        password: str | None = None,
        server: RespServer | None = None,
        timeouts: RespTimeouts | None = None,
        **limits: int,
    ) -> None:
        if server is None:
            self.clock = FakeClock()
            self.scheduler = FakeScheduler()
            self.store = FakeStore(self.clock)
            self.server = RespServer(self.store, self.clock, self.scheduler, password, timeouts=timeouts, **limits)
        else:
            self.server = server
            self.clock = server.clock  # type: ignore[assignment]
            self.scheduler = server._scheduler  # type: ignore[assignment]
            self.store = server.store  # type: ignore[assignment]
        self.transport = FakeTransport()
        self.connection = self.server.connect()
        self.connection.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        """Bytes from the client, then turns of the loop until nothing is due."""
        self.connection.data_received(data)
        self.scheduler.run()

    def raw(self, *arguments: bytes | str | int) -> bytes:
        """Send a command; the bytes of what comes back."""
        self.transport.written.clear()
        self.receive(command(*arguments))
        return b"".join(self.transport.written)

    def call(self, *arguments: bytes | str | int) -> Any:
        """Send a command; its one reply, parsed (errors as `hiredis.ReplyError`)."""
        replies = parse_replies(self.raw(*arguments))
        assert len(replies) == 1, f"one command has one reply, not {replies}"
        return replies[0]

    def error(self, *arguments: bytes | str | int) -> str:
        reply = self.call(*arguments)
        assert isinstance(reply, hiredis.ReplyError), reply
        return str(reply)

    def replies(self) -> list[Any]:
        """All replies written since the last call."""
        body = b"".join(self.transport.written)
        self.transport.written.clear()
        return parse_replies(body)

    def pass_time(self, milliseconds: float) -> None:
        """Move both clocks, then let the timers fire."""
        self.clock.monotonic += milliseconds
        self.clock.wall += int(milliseconds)
        self.scheduler.fire_timers()
        self.scheduler.run()


def parse_replies(body: bytes) -> list[Any]:
    reader = hiredis.Reader(notEnoughData=Ellipsis)
    reader.feed(body)
    found = []
    while (reply := reader.gets()) is not Ellipsis:
        found.append(reply)
    assert not reader.has_data(), "replies end where the bytes end"
    return found
