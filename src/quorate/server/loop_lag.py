"""How late the event loop is: what every request of this process waits for before anything else."""

from __future__ import annotations

import asyncio

from quorate.core.measures import LatencyHistogram

INTERVAL_S = 0.1


class LoopLag:
    """Asks ten times a second to be called, and notes how much later it is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.histogram = LatencyHistogram()
        self._loop = loop
        self._due_s = loop.time() + INTERVAL_S
        self._timer = loop.call_at(self._due_s, self._tick)

    def stop(self) -> None:
        self._timer.cancel()

    def _tick(self) -> None:
        now_s = self._loop.time()
        self.histogram.record(max(0.0, (now_s - self._due_s) * 1000))
        self._due_s = now_s + INTERVAL_S
        self._timer = self._loop.call_at(self._due_s, self._tick)
