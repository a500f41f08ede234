"""The RESP server: what all client connections of one node share.

It hands out connections, flushes those that have replies once at the end of a turn of the loop (one callback and one
write a connection, however many replies), and looks at their time limits with one timer for all.

Rejected: a timer for each connection. It would be set and cancelled with every command, and no limit here needs to be
exact to the millisecond.
"""

from __future__ import annotations

from collections.abc import Callable

from quorate.api.resp import replies
from quorate.api.resp.commands import ALL_COMMANDS, COMMANDS_BEFORE_AUTHENTICATION
from quorate.api.resp.commands.command import Command
from quorate.api.resp.commands.refused import refusal
from quorate.api.resp.connection import RespConnection
from quorate.api.resp.scan_cursors import ScanCursors
from quorate.api.resp.timeouts import RespTimeouts
from quorate.api.resp.topology import Topology
from quorate.core import limits
from quorate.core.ports import Cancellable, Clock, Scheduler
from quorate.core.store import Store


class RespServer:
    """The RESP interface of `store`. `connect` is the protocol factory for `loop.create_server`.

    With a `password` of None every client is authenticated as it arrives. Call `close` to end all connections and the
    timer.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        scheduler: Scheduler,
        password: str | None = None,
        *,
        value_bytes_max: int = limits.VALUE_BYTES_MAX_DEFAULT,
        connections_max: int = limits.CLIENT_CONNECTIONS_MAX,
        timeouts: RespTimeouts | None = None,
    ) -> None:
        assert 0 < value_bytes_max < limits.COMMAND_BYTES_MAX, "a value must fit into a command"
        self.store = store
        self.clock = clock
        self.password = None if password is None else password.encode()
        self.value_bytes_max = value_bytes_max
        self.connections_max = connections_max
        self.timeouts = timeouts or RespTimeouts()
        self.now_ms = clock.monotonic_ms()
        """Monotonic time as of the last sweep: exact enough for time limits, and free."""
        self.started_ms = self.now_ms
        self.topology = Topology(store)
        self.scan_cursors = ScanCursors(limits.SCAN_CURSORS_MAX)
        self.connections: dict[int, RespConnection] = {}
        """By client id, in the order of their arrival."""
        self.on_empty: Callable[[], None] = lambda: None
        """Called when the last client has gone."""
        self._scheduler = scheduler
        self._next_number = 1
        self._flush_due: list[RespConnection] = []
        self._closed = False
        self._timer: Cancellable = scheduler.call_later(self.timeouts.sweep_ms, self._sweep)

    def connect(self) -> RespConnection:
        """A new connection's protocol object."""
        number = self._next_number
        self._next_number += 1
        return RespConnection(self, number, COMMANDS_BEFORE_AUTHENTICATION)

    def close(self) -> None:
        """Read no more commands; each connection closes once its replies have left. Idempotent."""
        self._closed = True
        self._timer.cancel()
        for connection in list(self.connections.values()):
            connection.close_after_replies()

    def abort(self) -> None:
        """Close everything at once."""
        self.close()
        for connection in list(self.connections.values()):
            connection.abort()

    # For the connections.

    def admit(self, connection: RespConnection) -> bool:
        """Count a new connection in, unless there are too many."""
        if self._closed or len(self.connections) >= self.connections_max:
            return False
        self.connections[connection.number] = connection
        connection.set_authenticated(self.password is None)
        return True

    def forget(self, connection: RespConnection) -> None:
        self.connections.pop(connection.number, None)
        if not self.connections:
            self.on_empty()

    def commands_for(self, authenticated: bool) -> dict[bytes, Command]:
        return ALL_COMMANDS if authenticated else COMMANDS_BEFORE_AUTHENTICATION

    def refuse(self, connection: RespConnection, name: bytes) -> None:
        """Answer a command that this client cannot call."""
        if not connection.authenticated and name.upper() in ALL_COMMANDS:
            connection.reply(replies.error("NOAUTH", "Authentication required."))
        else:
            connection.reply(refusal(name))

    def flush_soon(self, connection: RespConnection) -> None:
        """Flush `connection` at the end of this turn."""
        due = self._flush_due
        due.append(connection)
        if len(due) == 1:
            self._scheduler.call_soon(self._flush)

    def _flush(self) -> None:
        due, self._flush_due = self._flush_due, []
        for connection in due:
            connection.flush()

    def _sweep(self) -> None:
        now_ms = self.now_ms = self.clock.monotonic_ms()
        for connection in list(self.connections.values()):
            if connection.overdue(now_ms):
                connection.abort()
        self._timer = self._scheduler.call_later(self.timeouts.sweep_ms, self._sweep)
