"""One client's HTTP connection: the library's protocol object, with the limits of the client port.

The library parses and answers one request after the other. What it does not bound is bounded here:

- the head of a request, request line and fields together, before it is complete (the library bounds each field);
- the time that a head, a body, or the reading of an answer may take: a half-sent request, or an answer that is not
  read, must go on by `COMMAND_PROGRESS_BYTES_MIN` in each `COMMAND_TIMEOUT_MS` (slow loris, hard case 35);
- the time until a client has authenticated, if it has to.

As on the client port no connection has a timer; the server looks at all of them now and then (`overdue`). A client that
is too slow is cut off without an answer: it would not be reading one.

`_waiter` and `_messages` are the library's own. That a connection is between two requests (it waits, and nothing is
queued) cannot be learned otherwise; a test holds us to what they mean.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from quorate.api.http.problems import PROBLEM_TYPE, Problem, raw_answer
from quorate.core import limits

if TYPE_CHECKING:
    from quorate.api.http.server import HttpServer

_END_OF_HEAD = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
log = logging.getLogger("quorate.http")


class HttpConnection(web.RequestHandler):
    """The protocol object of one client."""

    __slots__ = (
        "_body_since_ms",
        "_connected_ms",
        "_head_since_ms",
        "_head_tail",
        "_progress_bytes",
        "_received_ms",
        "_server",
        "_writing_since_ms",
        "authenticated",
        "head_bytes",
    )

    def __init__(self, server: HttpServer, **options: Any) -> None:
        super().__init__(server, **options)
        self._server = server
        self.authenticated = False
        """Has one request on this connection had the password (or needed none)?"""
        self.head_bytes = 0
        """Of a request whose head is not complete."""
        self._head_tail = b""
        self._connected_ms = self._received_ms = server.now_ms
        self._head_since_ms = 0.0
        self._body_since_ms: float | None = None
        self._writing_since_ms: float | None = None
        self._progress_bytes = 0

    # From the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.set_write_buffer_limits(limits.HTTP_PIECE_BYTES // 2)
        if not self._server.admit(self):
            self._end_with(Problem("overloaded", "this node has no room for more connections", {"Retry-After": "1"}))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._server.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received_ms = self._server.now_ms
        self._progress_bytes += len(data)
        if not self.between_requests():
            super().data_received(data)
            return
        if not self.head_bytes:
            self._head_since_ms = self._received_ms
            self._progress_bytes = len(data)
        room = limits.HTTP_HEAD_BYTES_MAX - self.head_bytes
        self.head_bytes += len(data)
        # What is too long is not even parsed. The mark of the head's end may have come in two parts.
        if len(data) > room and _END_OF_HEAD not in self._head_tail + data[: max(room, 0)]:
            self._end_with(_head_too_large())
            return
        self._head_tail = (self._head_tail + data[-3:])[-3:]
        super().data_received(data)
        if self._messages:
            self.head_bytes = 0
            self._head_tail = b""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writing_since_ms = self._server.now_ms

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writing_since_ms = None

    # From the library.

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what could not be parsed. Our own handlers let no exception out."""
        if isinstance(exc, ConnectionError):
            # The client has gone; nobody reads this.
            problem = Problem("bad-request", "the connection was lost")
        elif isinstance(exc, LineTooLong):
            problem = _head_too_large()
        elif status == 400:
            reason = (message or "").partition("\n")[0].rstrip(":")
            problem = Problem("bad-request", f"this is no HTTP request: {reason[:200]}")
        else:
            log.error("a request could not be answered; this is a bug", exc_info=exc)
            problem = Problem("internal", "the node's log says more, under the id of this request")
        request_id = self._server.next_request_id()
        headers = {"Content-Type": PROBLEM_TYPE, "Quorate-Request-Id": request_id}
        response = web.Response(status=problem.status, body=problem.body(request_id), headers=headers)
        response.force_close()
        return response

    # For bodies, and the server.

    def between_requests(self) -> bool:
        """Does this connection wait for a request, or for the rest of one's head?"""
        return self._waiter is not None and not self._messages

    def write_continue(self) -> None:
        """Let a client send its body that asked whether it may."""
        if self.transport is not None:
            self.transport.write(_CONTINUE)

    def body_begins(self) -> None:
        self._body_since_ms = self._server.now_ms

    def body_ends(self) -> None:
        self._body_since_ms = None

    def overdue(self, now_ms: float) -> bool:
        """Has this client used up one of its time limits? (Monotonic milliseconds.)"""
        timeouts = self._server.timeouts
        if self._writing_since_ms is not None:
            return now_ms - self._writing_since_ms > timeouts.request_ms
        if self._body_since_ms is not None:
            if now_ms - self._body_since_ms <= timeouts.request_ms:
                return False
            stopped = self._progress_bytes < limits.COMMAND_PROGRESS_BYTES_MIN
            self._body_since_ms = now_ms
            self._progress_bytes = 0
            return stopped
        if not self.between_requests():
            return False
        if not self.authenticated and now_ms - self._connected_ms > timeouts.authentication_ms:
            return True
        if self.head_bytes:
            return now_ms - self._head_since_ms > timeouts.request_ms
        return now_ms - self._received_ms > timeouts.idle_ms

    def abort(self) -> None:
        """Close at once; what has not left is lost."""
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def _end_with(self, problem: Problem) -> None:
        if self.transport is not None:
            self.transport.write(raw_answer(problem, self._server.next_request_id()))
        self.force_close()


def _head_too_large() -> Problem:
    return Problem(
        "head-too-large",
        f"a request line has at most {limits.HTTP_LINE_BYTES_MAX} bytes, a header field {limits.HTTP_FIELD_BYTES_MAX}, "
        f"both together with all other fields {limits.HTTP_HEAD_BYTES_MAX}",
    )
