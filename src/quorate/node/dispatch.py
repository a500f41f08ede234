"""Messages of peers to their handlers: replies to the operation whose number they carry, the rest by their type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from quorate.core.messages import Message
from quorate.node.requests import Operation

Handler = Callable[[int, Any, float], None]
"""handler(member, message, age_ms)"""


class Dispatch:
    """What a node does with each message that arrives."""

    __slots__ = ("_handlers", "_pending", "reply_age_ms")

    def __init__(self, pending: Mapping[int, Operation]) -> None:
        """`pending`: the requests in flight by number (`requests.RequestTable`)."""
        self._pending = pending
        self._handlers: dict[type, Handler] = {}
        self.reply_age_ms = 0.0
        """How long the reply that is being handled was under way beyond the least (see `core.wire.age`)."""

    def register(self, handlers: Mapping[type, Handler]) -> None:
        """Message type → handler; a type is handled by one."""
        assert self._handlers.keys().isdisjoint(handlers)
        self._handlers.update(handlers)

    def deliver(self, member: int, message: Message, age_ms: float) -> None:
        """`message` came from `member` and was `age_ms` on its way."""
        self._handlers[type(message)](member, message, age_ms)

    def on_reply(self, member: int, message: Any, age_ms: float) -> None:
        """The handler of replies; one that nobody waits for any more is dropped."""
        operation: Any = self._pending.get(message.id)
        if operation is not None:
            self.reply_age_ms = age_ms
            operation.on_reply(member, message)
