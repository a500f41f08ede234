"""Connections of the synchronous client: one request at a time on each, so nothing has to be kept apart by order.

A connection on which an attempt was given up is closed, because the late reply would be taken for the next one's.
`SocketNode` bounds the sockets of a node; a thread that finds none free waits as long as its attempt lasts.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable
from threading import BoundedSemaphore, Lock
from time import monotonic

import hiredis

from quorate.client.introduction import Introduction
from quorate.client.protocol import AttemptFailure, Command, FailureKind, Reply
from quorate.client.routing import Node
from quorate.core.limits import REPLY_BYTES_MAX, SOCKETS_PER_NODE_MAX

_RECEIVE_BYTES = 65_536


def now_ms() -> float:
    """Monotonic milliseconds."""
    return monotonic() * 1000.0


class Connection:
    """A blocking socket and its parser."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._reader = hiredis.Reader()
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN | select.POLLERR | select.POLLHUP)

    def usable(self) -> bool:
        """Whether the node has kept the connection open; nothing may be waiting to be read.

        Asked before each use: it costs a microsecond, and turns most outcomes that would be unknown, because a
        node's restart had closed the connection, into certain ones.
        """
        return not self._poll.poll(0)

    def exchange(self, payload: bytes, timeout_ms: float) -> Reply:
        """Send a command and receive its reply. After an `AttemptFailure` the connection must be closed."""
        return self.exchange_all(payload, 1, timeout_ms)[-1]

    def exchange_all(self, payload: bytes, count: int, timeout_ms: float) -> list[Reply]:
        """Send `count` commands in one piece and receive their replies.

        If the last item is an `AttemptFailure`, some replies did not come, or more than these came; the connection
        must be closed.
        """
        deadline_ms = now_ms() + timeout_ms
        replies: list[Reply] = []
        try:
            self._socket.settimeout(timeout_ms / 1000)
            self._socket.sendall(payload)
            while len(replies) < count:
                replies.append(self._receive(deadline_ms))
            if self._reader.has_data():
                raise hiredis.ProtocolError("more came than the reply that was asked for")
        except TimeoutError:
            replies.append(AttemptFailure(FailureKind.TIMED_OUT, f"no answer within {timeout_ms:.0f} ms"))
        except OSError as error:
            replies.append(AttemptFailure(FailureKind.LOST, f"the connection was lost ({error.strerror or error})"))
        except (hiredis.ProtocolError, MemoryError) as error:
            message = f"the node does not speak RESP as it should: {error}"
            replies.append(AttemptFailure(FailureKind.MALFORMED, message))
        return replies

    def _receive(self, deadline_ms: float) -> Reply:
        """The next reply; raises `OSError` or `hiredis.ProtocolError` if there is to be none."""
        received = 0
        while (reply := self._reader.gets()) is False:
            remaining_ms = deadline_ms - now_ms()
            if remaining_ms <= 0:
                raise TimeoutError
            self._socket.settimeout(remaining_ms / 1000)
            data = self._socket.recv(_RECEIVE_BYTES)
            if not data:
                raise ConnectionResetError("closed by the node")
            self._reader.feed(data)
            received += len(data)
            if received > REPLY_BYTES_MAX:
                raise hiredis.ProtocolError(f"a reply of more than {REPLY_BYTES_MAX} bytes")
        return reply

    def close(self) -> None:
        self._socket.close()


class SocketNode(Node):
    """A node and the idle connections to it. Safe for threads."""

    __slots__ = ("_closed", "_free", "_idle", "_lock")

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._idle: deque[Connection] = deque()
        self._free = BoundedSemaphore(SOCKETS_PER_NODE_MAX)
        self._lock = Lock()
        self._closed = False

    def exchange(self, command: Command, attempt_ms: float, introduce: Callable[[], Introduction]) -> Reply:
        """One attempt at this node: a reply, or an `AttemptFailure`. `introduce` is asked if it has to connect."""
        started_ms = now_ms()
        if not self._free.acquire(timeout=attempt_ms / 1000):
            return AttemptFailure(FailureKind.NOT_SENT, f"all {SOCKETS_PER_NODE_MAX} connections were in use")
        with self._lock:
            self.in_flight += 1
        try:
            connection = self._idle_connection() or self._open(started_ms + attempt_ms, introduce())
            if isinstance(connection, AttemptFailure):
                return connection
            remaining_ms = attempt_ms - (now_ms() - started_ms)
            if remaining_ms <= 0:
                self._put_back(connection)
                return AttemptFailure(FailureKind.NOT_SENT, f"{attempt_ms:.0f} ms had passed once it was connected")
            reply = connection.exchange(command.payload(attempt_ms), remaining_ms)
            if isinstance(reply, AttemptFailure):
                connection.close()
            else:
                with self._lock:
                    self.observe(now_ms() - started_ms)
                self._put_back(connection)
            return reply
        finally:
            with self._lock:
                self.in_flight -= 1
            self._free.release()

    def close(self) -> None:
        """Close the idle connections; those in use close when they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _put_back(self, connection: Connection) -> None:
        if self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _idle_connection(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.usable():
                return connection
            connection.close()

    def _open(self, deadline_ms: float, introduction: Introduction) -> Connection | AttemptFailure:
        """A connection whose node has answered the introduction well."""
        timeout_ms = max(1.0, deadline_ms - now_ms())
        try:
            connected = socket.create_connection((self.host, self.port), timeout=timeout_ms / 1000)
        except TimeoutError:
            return AttemptFailure(FailureKind.NOT_SENT, f"no connection within {timeout_ms:.0f} ms")
        except (OSError, UnicodeError) as error:
            return AttemptFailure(FailureKind.NOT_SENT, f"no connection: {getattr(error, 'strerror', None) or error}")
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(connected)
        commands = introduction.commands()
        if not commands:
            return connection
        remaining_ms = max(1.0, deadline_ms - now_ms())
        payload = b"".join(command.payload(remaining_ms) for command in commands)
        objection = introduction.objection(connection.exchange_all(payload, len(commands), remaining_ms))
        if objection is None:
            return connection
        connection.close()
        return objection
