"""How many requests a node takes on at once, so that an overloaded one serves some clients well and not all too late.

The bound follows what the node can do: while requests come back quickly the limit grows, and when most of them take
longer than `TARGET_MS` it shrinks. What is above it is shed at once, before any work, with a time to come back at.
Without this a node at three times its capacity spends itself on requests whose clients have given up (hard case 32).

Rejected: a fixed bound. The right one differs by a factor of a hundred between machines and between values of 10
bytes and of a megabyte.
"""

from __future__ import annotations

from typing import Final

TARGET_MS: Final = 200.0
WINDOW_MS: Final = 100.0
LIMIT_MIN: Final = 32
SHRINK: Final = 0.8
GROWTH: Final = 1.1


class ConcurrencyLimit:
    """The number of requests that may be in flight at this node."""

    __slots__ = ("_above", "_ends_ms", "_peak", "_total", "limit", "limit_max")

    def __init__(self, limit_max: int, now_ms: float) -> None:
        self.limit_max = limit_max
        self.limit = limit_max
        self._above = 0
        self._total = 0
        self._peak = 0
        self._ends_ms = now_ms + WINDOW_MS

    def on_done(self, latency_ms: float, now_ms: float, in_flight: int) -> None:
        """A request was answered after `latency_ms`, well or not, one of `in_flight` at that time."""
        self._total += 1
        self._peak = max(self._peak, in_flight)
        if latency_ms > TARGET_MS:
            self._above += 1
        if now_ms >= self._ends_ms:
            self._roll(now_ms)

    def _roll(self, now_ms: float) -> None:
        if self._above * 2 <= self._total:
            self.limit = min(self.limit_max, int(self.limit * GROWTH) + 1)
        elif self._peak > LIMIT_MIN:
            # From what was really in flight, not from a bound that was never reached. And a few requests that are
            # slow are not slow because there are so many.
            self.limit = max(LIMIT_MIN, int(min(self.limit, self._peak) * SHRINK))
        self._above = self._total = self._peak = 0
        self._ends_ms = now_ms + WINDOW_MS
