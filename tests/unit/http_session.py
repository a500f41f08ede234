"""An `HttpServer` over a `FakeStore`, on a loopback socket; time is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp
import msgspec
import uvloop
from multidict import CIMultiDictProxy
from yarl import URL

from quorate.api.http.server import HttpServer
from tests.unit.fake_store import FakeClock, FakeScheduler, FakeStore

EVENT_TIMEOUT_S = 20.0
VALUE_BYTES_MAX = 1024 * 1024
KEY = "/v1/buckets/carts/keys/alice"


class Reply(NamedTuple):
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Session:
    """One server, and a client that keeps its connections."""

    def __init__(self, server: HttpServer, store: FakeStore, clock: FakeClock, scheduler: FakeScheduler) -> None:
        self.server = server
        self.store = store
        self.clock = clock
        self.scheduler = scheduler
        self.port = 0
        self.client: aiohttp.ClientSession
        self._writers: list[asyncio.StreamWriter] = []
        """A connection ends with its writer."""

    async def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Reply:
        """Send one request. Its target is `path` as it stands."""
        url = URL(f"http://127.0.0.1:{self.port}{path}", encoded=True)
        async with self.client.request(method, url, data=body, headers=headers, allow_redirects=False) as response:
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str = KEY, **headers: str) -> Reply:
        return await self.ask("GET", path, headers=_headers(headers))

    async def put(self, path: str = KEY, body: Any = b"milk", **headers: str) -> Reply:
        return await self.ask("PUT", path, body, _headers(headers))

    async def post(self, path: str, document: Any) -> Reply:
        return await self.ask("POST", path, msgspec.json.encode(document), {"Content-Type": "application/json"})

    async def raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection of its own, on which `data` has been sent."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._writers.append(writer)
        writer.write(data)
        return reader, writer

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the loop turn until `holds`."""
        async with asyncio.timeout(EVENT_TIMEOUT_S):
            while not holds():  # noqa: ASYNC110 - a turn of the loop is what is waited for
                await asyncio.sleep(0)

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and have the server look at its connections."""
        self.clock.monotonic += seconds * 1000
        self.scheduler.fire_timers()


def _headers(given: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in given.items()}


def run(story: Callable[[Session], Awaitable[None]], **options: Any) -> None:
    """Run `story` with a server that has `options`."""

    async def main() -> None:
        clock, scheduler = FakeClock(), FakeScheduler()
        store = FakeStore(clock)
        options.setdefault("value_bytes_max", VALUE_BYTES_MAX)
        server = HttpServer(store, clock, scheduler, **options)
        session = Session(server, store, clock, scheduler)
        listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
        session.port = listener.sockets[0].getsockname()[1]
        async with aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Content-Type"]) as session.client:
            try:
                async with asyncio.timeout(EVENT_TIMEOUT_S):
                    await story(session)
            finally:
                server.abort()
                listener.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
