"""The HTTP server: what all connections of one node share, and the life of a request.

A request goes through the same steps whatever it is: the name it asks for, its route, the password, the page it comes
from, its parameters, and then its handler. Each step may refuse it with a `Problem`; every answer has a request id.

On stopping, connections without a request end at once, the others with the answer to the one they have begun.

Rejected: the library's application with its router and middlewares. It decodes paths before they are taken apart, which
loses keys with slashes, and costs a third of what the server can do (docs/decisions/0019-http.md).
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
from aiohttp import web

from quorate.api.http.call import Call
from quorate.api.http.connection import HttpConnection
from quorate.api.http.dashboard import Asset
from quorate.api.http.guard import Guard
from quorate.api.http.parameters import parse_query, unescape
from quorate.api.http.problems import PROBLEM_TYPE, Problem, overloaded
from quorate.api.http.routes import ROUTES
from quorate.api.http.routing import Compiled, Router
from quorate.core import limits
from quorate.core.errors import CallerError
from quorate.core.local_control import LocalControl
from quorate.core.ports import Cancellable, Clock, Scheduler
from quorate.core.store import Store

FAILURES_LOGGED_MAX = 10
"""Requests that failed and are logged, each second."""
_REQUEST_ID = re.compile(r"[0-9A-Za-z._:@+-]{1,64}")
LINGERING_S = 2.0
"""How long the rest of a body that was refused is read and dropped, so that its sender gets to see why."""
log = logging.getLogger("quorate.http")


class HttpTimeouts(msgspec.Struct, frozen=True):
    """How long a client may take, in milliseconds."""

    authentication_ms: float = limits.AUTHENTICATION_TIMEOUT_MS
    request_ms: float = limits.COMMAND_TIMEOUT_MS
    """For a head to arrive, a body to go on, and an answer to be read."""
    idle_ms: float = limits.CLIENT_IDLE_TIMEOUT_MS
    sweep_ms: float = limits.CLIENT_SWEEP_INTERVAL_MS


class HttpServer(web.Server):
    """The HTTP interface of `store`. It is the protocol factory for `loop.create_server`.

    `addresses`: where the node listens for HTTP and what others are told (host:port); `names`: other names that it is
    asked by; `assets`: the files of the dashboard. With a `password` of None nobody has to authenticate. Made within
    the running loop.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        scheduler: Scheduler,
        password: str | None = None,
        *,
        addresses: Sequence[str] = (),
        names: Sequence[str] = (),
        local: LocalControl | None = None,
        assets: Mapping[str, Asset] = MappingProxyType({}),
        value_bytes_max: int = limits.VALUE_BYTES_MAX_DEFAULT,
        connections_max: int = limits.HTTP_CONNECTIONS_MAX,
        timeouts: HttpTimeouts | None = None,
    ) -> None:
        super().__init__(self._handle)
        self.store = store
        self.clock = clock
        self.guard = Guard(addresses, names, password)
        self.value_bytes_max = value_bytes_max
        self.timeouts = timeouts or HttpTimeouts()
        self.assets = assets
        self.local = local
        """Who started this node, if that controls the nodes of this machine."""
        self.now_ms = clock.monotonic_ms()
        """Monotonic time as of the last sweep."""
        self.clients: dict[HttpConnection, None] = {}
        """Connections, in the order of their arrival."""
        self.held_bytes = 0
        self.closing = False
        self.metrics: Callable[[], tuple[str, bytes]] = lambda: ("text/plain; charset=utf-8", b"")
        """What /metrics answers: content type and text."""
        self.on_empty: Callable[[], None] = lambda: None
        """Called when the last connection has gone."""
        self._router = Router(ROUTES)
        self._connections_max = connections_max
        self._scheduler = scheduler
        self._life = secrets.token_hex(4)
        self._requests = 0
        self._failures = 0
        self._failures_until_ms = 0.0
        self._timer: Cancellable = scheduler.call_later(self.timeouts.sweep_ms, self._sweep)

    def __call__(self) -> HttpConnection:
        """A new connection's protocol object."""
        return HttpConnection(
            self,
            loop=self._loop,
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=2 * self.timeouts.idle_ms / 1000,
            max_line_size=limits.HTTP_LINE_BYTES_MAX,
            max_field_size=limits.HTTP_FIELD_BYTES_MAX,
            max_headers=limits.HTTP_FIELDS_MAX,
            lingering_time=LINGERING_S,
        )

    def close(self) -> None:
        """Take no more requests; each connection ends with the answer to the one that it has begun. Idempotent."""
        self.closing = True
        self._timer.cancel()
        for connection in list(self.clients):
            if connection.between_requests() and not connection.head_bytes:
                connection.force_close()

    def abort(self) -> None:
        """Close everything at once."""
        self.close()
        for connection in list(self.clients):
            connection.abort()

    # For the connections and calls.

    def admit(self, connection: HttpConnection) -> bool:
        """Count a new connection in, unless there are too many."""
        if self.closing or len(self.clients) >= self._connections_max:
            return False
        self.clients[connection] = None
        connection.authenticated = self.guard.password is None
        return True

    def forget(self, connection: HttpConnection) -> None:
        if connection in self.clients:
            del self.clients[connection]
            if not self.clients:
                self.on_empty()

    def hold(self, size: int) -> None:
        """Count `size` bytes as held; raises a `Problem` if there is no room. `Call.hold` gives them back."""
        if self.held_bytes + size > limits.HTTP_HELD_BYTES_MAX:
            self.store.count("http_sheds")
            raise overloaded("bodies and values of other requests take all the room there is; ask again", 1000)
        self.held_bytes += size

    def next_request_id(self) -> str:
        """Unique in the life of this process, and among the lives of all nodes as far as 32 bits go."""
        self._requests += 1
        return f"{self._life}-{self._requests:x}"

    # Inside.

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        request_id = self._id_of(request)
        try:
            response = await self._answer(request, request_id)
        except Problem as problem:
            if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._note_failure(request, problem, request_id)
            response = _problem_answer(problem, request_id)
        except CallerError as error:
            response = _problem_answer(Problem("bad-request", str(error)), request_id)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except Exception:
            log.exception("a %s could not be answered; this is a bug", request.method, extra={"request_id": request_id})
            bug = Problem("internal", "the node's log says more, under the id of this request", close=True)
            response = _problem_answer(bug, request_id)
        if not response.prepared:
            response.headers["Quorate-Request-Id"] = request_id
            response.headers["Server"] = "Quorate"
            if self.closing:
                response.force_close()
        return response

    def _id_of(self, request: web.BaseRequest) -> str:
        """The id that the client gave the request, if it is one, so that its logs and these can be told together."""
        given = request.headers.get("X-Request-Id")
        if given is None or not _REQUEST_ID.fullmatch(given):
            return self.next_request_id()
        return given

    def _note_failure(self, request: web.BaseRequest, problem: Problem, request_id: str) -> None:
        """Log a request that failed, unless there are too many of them to read."""
        now_ms = self.clock.monotonic_ms()
        if now_ms >= self._failures_until_ms:
            if self._failures > FAILURES_LOGGED_MAX:
                log.warning("%d more requests failed, which are not logged", self._failures - FAILURES_LOGGED_MAX)
            self._failures, self._failures_until_ms = 0, now_ms + 1_000
        self._failures += 1
        if self._failures <= FAILURES_LOGGED_MAX:
            extra = {"request_id": request_id}
            log.warning("%s failed with %d: %s", request.method, problem.status, problem.detail[:256], extra=extra)

    async def _answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, HttpConnection)
        headers = request.headers
        # As it was sent: the library's own idea of a path is decoded.
        path, _, query = request.raw_path.partition("?")
        compiled, segments = self._find(connection, request, path)
        route = compiled.route
        if route.changes:
            self.guard.check_origin(headers.get("Origin"), headers.get("Host", ""))
        values = {
            parameter.name: parameter.convert(unescape(segment))
            for parameter, segment in zip(compiled.path, segments, strict=True)
        }
        options = parse_query(query, compiled.query)
        for parameter in compiled.headers:
            _take_header(parameter.name, request, parameter.convert, options)
        call = Call(self, connection, request, request_id, values, options)
        try:
            return await route.handler(call)
        finally:
            self.held_bytes -= call.held_bytes

    def _find(self, connection: HttpConnection, request: web.BaseRequest, path: str) -> tuple[Compiled, list[str]]:
        """The route of a request that is let in. Who is not let in does not learn which routes there are."""
        try:
            found = self._router.find(request.method, path)
        except Problem:
            self._let_in(connection, request)
            raise
        if not found[0].route.open:
            self._let_in(connection, request)
        return found

    def _let_in(self, connection: HttpConnection, request: web.BaseRequest) -> None:
        self.guard.check_host(request.headers.get("Host"))
        self.guard.check_password(request.headers.get("Authorization"))
        connection.authenticated = True

    def _sweep(self) -> None:
        now_ms = self.now_ms = self.clock.monotonic_ms()
        for connection in list(self.clients):
            if connection.overdue(now_ms):
                connection.abort()
        self._timer = self._scheduler.call_later(self.timeouts.sweep_ms, self._sweep)


def _take_header(name: str, request: web.BaseRequest, convert: Callable[[bytes], Any], options: dict[str, Any]) -> None:
    """Put the header's value into `options`, if it is there; raises `CallerError` if it is wrong or there twice."""
    found = request.headers.getall(name, ())
    if not found:
        return
    if len(found) > 1 and name != "If-None-Match":
        raise CallerError(f"the header {name} is given twice")
    options[name] = convert(", ".join(found).encode("utf-8", "surrogateescape"))


def _problem_answer(problem: Problem, request_id: str) -> web.Response:
    headers = {"Content-Type": PROBLEM_TYPE, "Cache-Control": "no-store", **problem.headers}
    response = web.Response(status=problem.status, body=problem.body(request_id), headers=headers)
    if problem.close:
        response.force_close()
    return response
