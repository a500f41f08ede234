"""Keeps one peer dialled: one attempt at a time, each bounded, with growing and jittered pauses in between.

Of two members the one with the higher number dials. One connection a pair carries both directions, and since only one
side dials there are no crossing connections to choose between: of two that do cross, each side may keep another one,
and both are lost.

The other side dials as well, but *reluctantly*, once in a few seconds and only while there is no connection: for where
connections can be opened in one direction alone, the wrong one; for a peer that does not know this node's address; and
because a removed node that comes back (hard case 16) must meet somebody who tells it, though nobody dials it any more.
A node that is not where the ring says is eager towards all (see `tcp.py`), since most peers cannot dial it.

The pause doubles with every attempt that led to nothing, up to `RECONNECT_DELAY_MAX_MS`; a connection that lasted
longer than that counts as a success. Jitter keeps the nodes of a cluster that restarts from dialling in step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from quorate.core.errors import CallerError
from quorate.core.limits import (
    HANDSHAKE_TIMEOUT_MS,
    PEER_DIAL_BACK_INTERVAL_MS,
    RECONNECT_DELAY_MAX_MS,
    RECONNECT_DELAY_MIN_MS,
)
from quorate.core.ports import Cancellable, Rng, Scheduler
from quorate.core.ring.ring import Member
from quorate.core.wire.address import split_address

_DOUBLINGS_MAX = (RECONNECT_DELAY_MAX_MS // RECONNECT_DELAY_MIN_MS).bit_length()


class Connect(Protocol):
    async def __call__(self, member: Member, host: str, port: int) -> None:
        """Open a connection to `member`, unless there is one; its end is reported to `Dialer.connection_ended`.

        Raises `OSError`.
        """
        ...


def reconnect_delay_ms(failures: int, random: float) -> float:
    """The pause after `failures` attempts in a row that led to nothing; `random` is in [0, 1)."""
    ceiling_ms = min(RECONNECT_DELAY_MAX_MS, RECONNECT_DELAY_MIN_MS << min(failures, _DOUBLINGS_MAX))
    return max(RECONNECT_DELAY_MIN_MS, ceiling_ms * (0.5 + random / 2))


class Dialer:
    """See the module. `on_failure(member, cause)` hears of attempts that did not even connect."""

    def __init__(
        self,
        member: Member,
        connect: Connect,
        scheduler: Scheduler,
        rng: Rng,
        on_failure: Callable[[Member, Exception], None],
        eager: bool = True,
    ) -> None:
        self.member = member
        """May be replaced when the member's address changes; the next attempt uses it."""
        self._connect = connect
        self._scheduler = scheduler
        self._rng = rng
        self._on_failure = on_failure
        self._eager = eager
        self._failures = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: Cancellable | None = None
        self._stopped = False

    def start(self) -> None:
        """Dial now (eager) or soon, and from now on whenever there is no connection."""
        if self._eager:
            self._attempt()
        else:
            self._retry()

    def set_eager(self, eager: bool) -> None:
        """Whether to dial at once, or only if the peer does not."""
        if eager and not self._eager and self._timer is not None:
            self._timer.cancel()
            self._timer = self._scheduler.call_later(0, self._attempt)
        self._eager = eager

    def stop(self) -> None:
        """Dial no more; an attempt under way is given up."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def connection_ended(self, lasted_ms: float) -> None:
        """The connection with the member is over, whichever side had opened it."""
        self._failures = 0 if lasted_ms > RECONNECT_DELAY_MAX_MS else self._failures + 1
        self._retry()

    def _retry(self) -> None:
        if self._stopped or self._timer is not None:
            return
        random = self._rng.random()
        delay_ms = (
            reconnect_delay_ms(self._failures, random)
            if self._eager
            else PEER_DIAL_BACK_INTERVAL_MS * (0.5 + random / 2)
        )
        self._timer = self._scheduler.call_later(delay_ms, self._attempt)

    def _attempt(self) -> None:
        self._timer = None
        if self._task is not None and not self._task.done():
            return  # What comes of it will be heard of.
        self._task = asyncio.get_running_loop().create_task(self._dial(self.member))

    async def _dial(self, member: Member) -> None:
        task = asyncio.current_task()
        assert task is not None
        timed_out = False

        def give_up() -> None:
            nonlocal timed_out
            timed_out = True
            task.cancel()

        deadline = self._scheduler.call_later(HANDSHAKE_TIMEOUT_MS, give_up)
        try:
            host, port = split_address(member.peer_address)
            await self._connect(member, host, port)
        except (OSError, CallerError) as error:
            self._failed(member, error)
        except asyncio.CancelledError:
            if not timed_out:
                raise
            self._failed(member, TimeoutError(f"no connection within {HANDSHAKE_TIMEOUT_MS} ms"))
        finally:
            deadline.cancel()

    def _failed(self, member: Member, error: Exception) -> None:
        self._failures += 1
        if not self._stopped:
            self._on_failure(member, error)
        self._retry()
