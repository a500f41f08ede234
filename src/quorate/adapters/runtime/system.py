"""The machine's own clocks and randomness, and the asyncio loop as a scheduler.

The loop's own timers would not do for the port: asyncio runs timers of equal deadline in no fixed order, and libuv
rounds to milliseconds against a clock that stands still within a turn, so a timer that is set late in a long turn fires
early (hard case 30). So `LoopScheduler` keeps a heap of (deadline, order of creation) and wakes up by one loop timer.

Invariants:
- no callback runs before its deadline by the monotonic clock; equal deadlines run in the order they were made;
- a callback made during a wake-up waits for the next one, so a timer that renews itself with no delay cannot hold the
  loop;
- a callback that raises does not keep the others from running;
- cancelled timers are at most about half of the heap: whoever cancels what he makes does not grow it.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from time import monotonic, time_ns
from typing import Final

_RESOLUTION_SECONDS: Final = 0.001
_CANCELLED_MIN_TO_SWEEP: Final = 64


class SystemClock:
    """See `quorate.core.ports.Clock`."""

    __slots__ = ()

    def wall_ms(self) -> int:
        return time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        return monotonic() * 1000.0


class SystemRng:
    """See `quorate.core.ports.Rng`. Fast draws are seeded by the operating system; tokens come from it directly."""

    __slots__ = ("_generator", "random")

    def __init__(self) -> None:
        self._generator = random.Random(secrets.randbits(256))
        self.random = self._generator.random

    def below(self, bound: int) -> int:
        return self._generator.randrange(bound)

    def token_bytes(self, size: int) -> bytes:
        return secrets.token_bytes(size)


class _Timer:
    """One entry of the heap. Comparable by deadline, then by order of creation."""

    __slots__ = ("_scheduler", "callback", "deadline", "order")

    def __init__(self, scheduler: LoopScheduler, deadline: float, order: int, callback: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self.deadline = deadline
        self.order = order
        self.callback: Callable[[], None] | None = callback

    def __lt__(self, other: _Timer) -> bool:
        return (self.deadline, self.order) < (other.deadline, other.order)

    def cancel(self) -> None:
        """Idempotent; harmless after the callback has run."""
        if self.callback is not None:
            self.callback = None
            self._scheduler.count_cancelled()


class LoopScheduler:
    """See `quorate.core.ports.Scheduler`. To be used on the loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._soon: list[Callable[[], None]] = []
        """What runs in the next turn."""
        self._timers: list[_Timer] = []
        self._cancelled = 0
        self._made = 0
        self._wake_up: asyncio.TimerHandle | None = None
        self._wake_up_at = 0.0

    def call_soon(self, callback: Callable[[], None]) -> None:
        # One handle of the loop for all that a turn asks for: a handle costs as much as what most of them call.
        if not self._soon:
            self._loop.call_soon(self._run_soon)
        self._soon.append(callback)

    def _run_soon(self) -> None:
        soon, self._soon = self._soon, []
        for callback in soon:
            try:
                callback()
            except Exception as error:
                self._report(callback, error)

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> _Timer:
        deadline = monotonic() + max(delay_ms, 0.0) / 1000.0
        timer = _Timer(self, deadline, self._made, callback)
        self._made += 1
        heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._arm()
        return timer

    def pending(self) -> int:
        """Timers that have neither run nor been cancelled."""
        return len(self._timers) - self._cancelled

    def count_cancelled(self) -> None:
        """A timer of the heap was cancelled; sweep when such timers prevail."""
        self._cancelled += 1
        if self._cancelled >= _CANCELLED_MIN_TO_SWEEP and self._cancelled * 2 > len(self._timers):
            self._timers = [timer for timer in self._timers if timer.callback is not None]
            heapify(self._timers)
            self._cancelled = 0

    def _arm(self) -> None:
        """See to it that the loop wakes us up for the first timer."""
        if not self._timers:
            return
        deadline = self._timers[0].deadline
        if self._wake_up is not None:
            if self._wake_up_at <= deadline:
                return
            self._wake_up.cancel()
        # Rounded up, lest the loop spin until the millisecond has passed.
        delay_seconds = max(deadline - monotonic() + _RESOLUTION_SECONDS / 2, _RESOLUTION_SECONDS)
        self._wake_up_at = deadline
        self._wake_up = self._loop.call_later(delay_seconds, self._on_wake_up)

    def _on_wake_up(self) -> None:
        self._wake_up = None
        now, made_before = monotonic(), self._made
        try:
            while self._timers:
                timer = self._timers[0]
                if timer.callback is not None and (timer.deadline > now or timer.order >= made_before):
                    break
                heappop(self._timers)
                self._run(timer)
        finally:
            self._arm()

    def _run(self, timer: _Timer) -> None:
        callback, timer.callback = timer.callback, None
        if callback is None:
            self._cancelled -= 1
            return
        try:
            callback()
        except Exception as error:
            self._report(callback, error)

    def _report(self, callback: Callable[[], None], error: Exception) -> None:
        self._loop.call_exception_handler({"message": f"a callback failed: {callback!r}", "exception": error})
