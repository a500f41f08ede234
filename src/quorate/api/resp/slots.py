"""Slots: the places of replies in a connection's order.

RESP has no request ids: replies leave in the order of the commands. So every command takes a slot at the end of its
connection's queue, and whoever finishes it fills the slot, in whatever order the Store answers. A slot's method *is*
the callback that goes to the Store; there is no future and no task.

Invariant: a slot is filled exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from quorate.api.resp import replies
from quorate.core.store import Failure

if TYPE_CHECKING:
    from quorate.api.resp.connection import RespConnection

Result = TypeVar("Result")


class Slot:
    """The place of one reply."""

    __slots__ = ("body", "connection", "held_bytes", "resp3")

    def __init__(self, connection: RespConnection, resp3: bool, held_bytes: int = 0) -> None:
        self.connection = connection
        self.resp3 = resp3
        """The protocol version when the command was read: HELLO must not change replies that are on their way."""
        self.held_bytes = held_bytes
        """What this slot counts for in the connection's `held_bytes`: the value on its way in, then the reply."""
        self.body: bytes | None = None
        """The reply, as soon as there is one."""

    def fill(self, body: bytes) -> None:
        """Set the reply; it leaves at the end of this turn of the loop if all earlier ones are there."""
        assert self.body is None, "a command is answered once"
        self.body = body
        connection = self.connection
        connection.held_bytes += len(body) - self.held_bytes
        if not connection.flush_due:
            connection.flush_due = True
            connection.server.flush_soon(connection)

    def unless_failed(self, then: Callable[[Result], None]) -> Callable[[Result | Failure], None]:
        """A callback for the Store that goes on with `then`, or answers with the failure."""

        def on_result(result: Result | Failure) -> None:
            if isinstance(result, Failure):
                self.fill(replies.failure(result))
            else:
                then(result)

        return on_result
