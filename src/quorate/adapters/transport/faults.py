"""Faults between a node and its transport, for tests: outgoing messages are lost or late, by peer and kind.

A wrapper around any transport instead of a hook inside one: without it the hot path is not even a branch longer, and
every adapter can be made faulty. The connections stay up, which makes these *gray* failures (hard cases 11, 33): nobody
is disconnected, messages just do not arrive, or arrive late. For a clean cut, cut the connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from quorate.core.limits import DELAYED_MESSAGES_MAX
from quorate.core.messages import Message
from quorate.core.ports import Scheduler, Transport
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Departed


class Faults(Protocol):
    def delay_ms(self, member: int, message: Message) -> float | None:
        """How long to hold `message` for `member` back: 0 not at all, None for ever (it is lost)."""
        ...


class FaultyTransport:
    """The `Transport` port over `inner`; everything else (start, stop) is done on `inner` itself."""

    def __init__(self, inner: Transport, scheduler: Scheduler, faults: Faults) -> None:
        self._inner = inner
        self._scheduler = scheduler
        self._faults = faults
        self._delayed = 0

    def send(self, member: int, message: Message) -> bool:
        if not self._inner.connected(member):
            return False
        delay_ms = self._faults.delay_ms(member, message)
        if delay_ms is None or self._delayed >= DELAYED_MESSAGES_MAX:
            return True
        if delay_ms <= 0:
            return self._inner.send(member, message)

        def arrive() -> None:
            self._delayed -= 1
            self._inner.send(member, message)

        self._delayed += 1
        self._scheduler.call_later(delay_ms, arrive)
        return True

    def connected(self, member: int) -> bool:
        return self._inner.connected(member)

    def heard_ms(self, member: int) -> float:
        return self._inner.heard_ms(member)

    def set_members(
        self, members: Sequence[Member], departed: Sequence[Departed] = (), lingering: Sequence[int] = ()
    ) -> None:
        self._inner.set_members(members, departed, lingering)
