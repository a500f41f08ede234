"""Virtual time: one heap of callbacks for the whole cluster, and a `Scheduler` for each node's process.

Invariants:
- Time is an integer number of microseconds and moves only to the time of the next callback, so a simulated minute
  costs what its events cost.
- Callbacks of equal time run in the order in which they were made, across all nodes.
- A callback belongs to one life of one process. When that process dies, everything that it had scheduled vanishes
  with it; when it is paused, its callbacks wait and then run in their order.

Rejected: an asyncio loop with a patched clock. Its timers of equal deadline are not FIFO, and it would not know which
callbacks die with a node.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

Callback = Callable[[], None]


class Timer:
    """One scheduled callback; `cancel` is idempotent and fine after it ran."""

    __slots__ = ("callback", "process")

    def __init__(self, process: Process | None, callback: Callback) -> None:
        self.process = process
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualLoop:
    """The heap, and the simulated world's own (true) time."""

    def __init__(self) -> None:
        self.now_us = 0
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self.callbacks_run = 0

    def at(self, time_us: int, callback: Callback, process: Process | None = None) -> Timer:
        """Run `callback` at this moment, which must not be past. `process` None: it is the world's own."""
        assert time_us >= self.now_us, "the past is over"
        timer = Timer(process, callback)
        self._sequence += 1  # As `_push`; this is called for everything that ever happens.
        heappush(self._heap, (time_us, self._sequence, timer))
        return timer

    def after_ms(self, delay_ms: float, callback: Callback) -> Timer:
        """Run `callback` of the world's own after this much true time."""
        return self.at(self.now_us + int(delay_ms * 1000), callback)

    def _push(self, time_us: int, timer: Timer) -> None:
        self._sequence += 1
        heappush(self._heap, (time_us, self._sequence, timer))

    def run_until(self, end_us: int) -> None:
        """Run everything due up to and including `end_us`, and leave the time there."""
        heap = self._heap
        while heap and heap[0][0] <= end_us:
            time_us, _, timer = heappop(heap)
            callback = timer.callback
            if callback is None:
                continue
            process = timer.process
            if process is not None:
                if not process.alive:
                    continue
                if process.paused_until_us > time_us:
                    self._push(process.paused_until_us, timer)
                    continue
                if process.fuse:
                    process.fuse -= 1
                    if process.fuse == 0:
                        self.now_us = time_us
                        self._push(time_us, timer)
                        process.explode()
                        continue
            self.now_us = time_us
            timer.callback = None
            self.callbacks_run += 1
            callback()
        self.now_us = max(self.now_us, end_us)


class Process:
    """One life of one node's process: the `Scheduler` port. Its durations follow the machine's own oscillator."""

    __slots__ = ("_explosion", "_loop", "_rate", "alive", "fuse", "paused_until_us")

    def __init__(self, loop: VirtualLoop, rate: float = 1.0) -> None:
        """`rate`: how many of this machine's milliseconds pass in a true one (the drift of its oscillator)."""
        assert 0.5 < rate < 2.0, rate
        self._loop = loop
        self._rate = rate
        self.alive = True
        self.paused_until_us = 0
        self.fuse = 0
        """So many callbacks from now something happens to this process; 0: nothing will."""
        self._explosion: Callback | None = None

    def light_fuse(self, callbacks: int, explosion: Callback) -> None:
        """Call `explosion` right before the callback of this number, counted from 1, that this process would run.

        All turns of one moment take no virtual time, so a crash drawn by time never falls between two of them; one
        drawn by callbacks does.
        """
        assert callbacks >= 1
        self.fuse, self._explosion = callbacks, explosion

    def explode(self) -> None:
        explosion, self._explosion = self._explosion, None
        assert explosion is not None
        explosion()

    def call_soon(self, callback: Callback) -> None:
        self._loop.at(self._loop.now_us, callback, self)

    def call_later(self, delay_ms: float, callback: Callback) -> Timer:
        """Never early by the machine's own clock: the true delay is rounded up."""
        delay_us = int(max(0.0, delay_ms) * 1000 / self._rate) + 1
        return self._loop.at(self._loop.now_us + delay_us, callback, self)

    def at_true_time(self, time_us: int, callback: Callback) -> Timer:
        """For the simulated hardware around this process, which goes by the world's time."""
        return self._loop.at(time_us, callback, self)

    def pause(self, until_us: int) -> None:
        """Run nothing until then, as after SIGSTOP or in a long garbage collection."""
        self.paused_until_us = max(self.paused_until_us, until_us)

    def kill(self) -> None:
        self.alive = False
