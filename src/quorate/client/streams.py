"""Connections of the asynchronous client: many requests at once on each, answered in order.

The hot path. A request costs one future and one tuple; what is sent within one turn of the loop leaves in one write;
time limits are kept, and silent nodes noticed, by one sweep over everything in flight, not by a timer per request.

Invariants:
- replies come in the order of the requests, so a request whose caller has gone keeps its place until its reply came,
  and the number in flight counts it;
- every request gets exactly one answer: a reply, or an `AttemptFailure` that says whether it had left;
- a connection that owes a reply for `CONNECTION_SILENCE_MS` past its time limit is closed.

Rejected: `asyncio.wait_for` per request (a timer handle and several calls each), and streams with their buffers
between transport and parser.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Final, cast

import hiredis

from quorate.client.introduction import Introduction
from quorate.client.protocol import AttemptFailure, FailureKind, Reply
from quorate.client.routing import Node
from quorate.core.limits import (
    CALLS_IN_FLIGHT_MAX,
    CALLS_WAITING_MAX,
    CLIENT_OUTPUT_BYTES_HIGH,
    CLIENT_OUTPUT_BYTES_LOW,
    CONNECTION_SILENCE_MS,
    HELD_UP_AFTER_MS,
    NODE_SILENT_AFTER_MS,
    REPLY_BYTES_MAX,
)

_SWEEP_INTERVAL_S: Final = 0.01


def now_ms() -> float:
    """Monotonic milliseconds; finer than the loop's own time, which uvloop keeps in whole ones."""
    return monotonic() * 1000.0


class Traffic:
    """Everything in flight over all connections of a client: its number, its bound, and its time limits."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.in_flight = 0
        self.connections: dict[Connection, None] = {}
        """In the order of their making."""
        self.waiting: deque[asyncio.Future[bool]] = deque()
        self.sweep_planned = False

    async def room(self, timeout_ms: float) -> AttemptFailure | None:
        """Wait until another request may leave; the failure says why it never might."""
        if len(self.waiting) >= CALLS_WAITING_MAX:
            return AttemptFailure(FailureKind.NOT_SENT, f"{CALLS_WAITING_MAX} calls are waiting already")
        turn: asyncio.Future[bool] = self.loop.create_future()
        self.waiting.append(turn)
        timer = self.loop.call_later(timeout_ms / 1000, _resolve, turn, False)
        try:
            admitted = await turn
        except asyncio.CancelledError:
            self.admit()
            raise
        finally:
            timer.cancel()
        if admitted:
            return None
        return AttemptFailure(FailureKind.NOT_SENT, "the client had no room for another call all the time")

    def admit(self) -> None:
        """Let those in that wait, as far as there is room. Who was let in and sends nothing calls this again."""
        free = CALLS_IN_FLIGHT_MAX - self.in_flight
        while free > 0 and self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                free -= 1

    def watch(self) -> None:
        """Keep time limits for as long as something is in flight."""
        if not self.sweep_planned:
            self.sweep_planned = True
            self.loop.call_later(_SWEEP_INTERVAL_S, self._sweep)

    def _sweep(self) -> None:
        self.sweep_planned = False
        now = now_ms()
        for connection in list(self.connections):
            connection.expire(now)
            connection.note_silence(now)
        if self.in_flight:
            self.watch()


def _resolve(turn: asyncio.Future[bool], admitted: bool) -> None:
    if not turn.done():
        turn.set_result(admitted)


class StreamNode(Node):
    """A node and the connections to it."""

    __slots__ = ("connections", "grow_at_ms", "heard_ms", "opening", "retired")

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.connections: list[Connection] = []
        self.grow_at_ms = 0.0
        """Not before this moment is another connection opened beside those there are."""
        self.heard_ms = 0.0
        """When anything last came over any of the connections."""
        self.opening: asyncio.Task[AttemptFailure | None] | None = None
        self.retired = False
        """It takes no more requests, for it is no member any more."""

    def retire(self) -> None:
        """The node is no member any more: what it owes it may still answer, and then its connections are closed."""
        self.retired = True
        if self.opening is not None:
            self.opening.cancel()
        connections, self.connections = self.connections, []
        for connection in connections:
            connection.end()

    def best_connection(self, now: float) -> Connection | None:
        """The connection for the next request; None if there is none that takes another.

        The first one as long as its replies come: what one connection carries, one system call carries. Replies are in
        order, so one that is late holds up all behind it; then another connection is better.
        """
        best: Connection | None = None
        for connection in self.connections:
            if not connection.blocked and len(connection.pending) < CALLS_IN_FLIGHT_MAX:
                if not connection.held_up(now):
                    return connection
                if best is None or len(connection.pending) < len(best.pending):
                    best = connection
        return best


Pending = tuple["asyncio.Future[Reply]", float, float]
"""(future, sent, given up), both monotonic milliseconds."""


class Connection:
    """One connection to a node. Has what `asyncio.Protocol` asks for, and is none by name (see `quorate._compiled`)."""

    def __init__(self, node: StreamNode, traffic: Traffic) -> None:
        self.node = node
        self.pending: deque[Pending] = deque()
        self.blocked = False
        """The socket takes no more for now."""
        self.ending = False
        """Nothing more is sent here; it is closed with the last reply that it owes."""
        self._traffic = traffic
        self._loop = traffic.loop
        self._out: list[bytes] = []
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._unfinished_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(CLIENT_OUTPUT_BYTES_HIGH, CLIENT_OUTPUT_BYTES_LOW)
        self._traffic.connections[self] = None

    def send(self, payload: bytes, attempt_ms: float, now: float) -> asyncio.Future[Reply]:
        """Send at the end of this turn of the loop; the future gets the reply, or an `AttemptFailure`."""
        future: asyncio.Future[Reply] = self._loop.create_future()
        self.pending.append((future, now, now + attempt_ms))
        self.node.in_flight += 1
        traffic = self._traffic
        traffic.in_flight += 1
        if not traffic.sweep_planned:
            traffic.watch()
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(payload)
        return future

    def held_up(self, now: float) -> bool:
        """Is the oldest request here waiting so long that whatever is sent now would wait behind it?"""
        return bool(self.pending) and now - self.pending[0][1] > HELD_UP_AFTER_MS

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is not None and out:
            self._transport.write(b"".join(out) if len(out) > 1 else out[0])

    def data_received(self, data: bytes) -> None:
        node, pending, next_reply = self.node, self.pending, self._reader.gets
        now = monotonic() * 1000.0
        node.heard_ms = now
        node.silent_ms = 0.0
        answered = 0
        try:
            self._reader.feed(data)
            while (reply := next_reply()) is not False:
                future, sent, _ = pending.popleft()
                answered += 1
                node.observe(now - sent)
                if not future.done():
                    future.set_result(reply)
        except (hiredis.ProtocolError, MemoryError, IndexError) as error:
            self._settle(answered)
            self.abort(FailureKind.MALFORMED, f"the node does not speak RESP as it should: {error}")
            return
        if answered:
            self._unfinished_bytes = 0
            self._settle(answered)
            if self.ending and not pending:
                self.end()
        else:
            self._unfinished_bytes += len(data)
            if self._unfinished_bytes > REPLY_BYTES_MAX:
                self.abort(FailureKind.MALFORMED, f"a reply of more than {REPLY_BYTES_MAX} bytes")

    def _settle(self, answered: int) -> None:
        self.node.in_flight -= answered
        traffic = self._traffic
        traffic.in_flight -= answered
        if answered and traffic.waiting:
            traffic.admit()

    def expire(self, now: float) -> None:
        """Answer those whose time is up; close the connection if it is silent for too long."""
        for future, sent, given_up in self.pending:
            if given_up <= now:
                if now - given_up > CONNECTION_SILENCE_MS:
                    self.abort(FailureKind.LOST, "the node stopped answering")
                    return
                if not future.done():
                    message = f"no answer within {given_up - sent:.0f} ms"
                    future.set_result(AttemptFailure(FailureKind.TIMED_OUT, message))

    def note_silence(self, now: float) -> None:
        """Tell the node how long it has been silent, if the oldest request here has waited all that time."""
        if self.pending:
            silent_ms = now - max(self.pending[0][1], self.node.heard_ms)
            if silent_ms >= NODE_SILENT_AFTER_MS:
                self.node.silent_ms = max(silent_ms, self.node.silent_ms)

    def eof_received(self) -> None:
        """Nothing more comes; the loop closes the connection."""

    def pause_writing(self) -> None:
        self.blocked = True

    def resume_writing(self) -> None:
        self.blocked = False
        self._traffic.admit()

    def connection_lost(self, exception: Exception | None) -> None:
        self._fail(FailureKind.LOST, f"the connection was lost ({exception or 'closed by the node'})")

    def end(self) -> None:
        """Close once every reply that is owed has come; a node that stops answering is closed as any other."""
        self.ending = True
        if not self.pending:
            self.abort(FailureKind.LOST, "the node left the cluster")

    def abort(self, kind: FailureKind, message: str) -> None:
        """Close at once; all requests in flight fail with `kind`."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(kind, message)

    def _fail(self, kind: FailureKind, message: str) -> None:
        """Fail what is in flight. What had not yet left for the socket fails as certainly not done."""
        self.blocked = True
        self.node.silent_ms = 0.0
        self._traffic.connections.pop(self, None)
        if self in self.node.connections:
            self.node.connections.remove(self)
        pending, self.pending = self.pending, deque()
        unsent = len(self._out)
        self._out = []
        for index, (future, _, _) in enumerate(pending):
            if not future.done():
                left = index < len(pending) - unsent
                future.set_result(AttemptFailure(kind if left else FailureKind.NOT_SENT, message))
        self._settle(len(pending))


async def open_connection(
    node: StreamNode, traffic: Traffic, introduction: Introduction, timeout_ms: float
) -> AttemptFailure | None:
    """Add a connection to `node` once it has answered the introduction well; a failure says why there is none."""
    connection: Connection | None = None
    ready = False
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            made = Connection(node, traffic)
            await traffic.loop.create_connection(lambda: cast(asyncio.Protocol, made), node.host, node.port)
            connection = made
            now = now_ms()
            answers = [
                connection.send(command.payload(timeout_ms), timeout_ms, now) for command in introduction.commands()
            ]
            objection = introduction.objection([await answer for answer in answers])
            if objection is not None:
                return objection
            if connection not in traffic.connections:
                return AttemptFailure(FailureKind.NOT_SENT, "the node closed the connection at once")
        node.connections.append(connection)
        ready = True
        return None
    except TimeoutError:
        return AttemptFailure(FailureKind.NOT_SENT, f"no connection within {timeout_ms:.0f} ms")
    except (OSError, UnicodeError) as error:
        return AttemptFailure(FailureKind.NOT_SENT, f"no connection: {getattr(error, 'strerror', None) or error}")
    finally:
        if connection is not None and not ready:
            connection.abort(FailureKind.NOT_SENT, "the connection could not be used")
