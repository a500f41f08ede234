"""The two clocks of a simulated machine: wrong in the ways in which real ones are.

The wall clock is off by a constant skew, gains or loses with the oscillator's drift, and jumps when a fault says so.
The monotonic clock starts anywhere, follows the same oscillator, and never goes back (hard cases 29 and 30).
"""

from __future__ import annotations

from quorate.sim.loop import VirtualLoop

WALL_START_MS = 1_750_000_000_000
"""What a true wall clock says when a simulation begins."""


class MachineClock:
    """The `Clock` port. It outlives the node's process, as a machine's clock does."""

    __slots__ = ("_loop", "_monotonic_offset_ms", "rate", "wall_offset_ms")

    def __init__(self, loop: VirtualLoop, rate: float, wall_offset_ms: float, monotonic_offset_ms: float) -> None:
        """`rate`: milliseconds of this machine in one true millisecond."""
        self._loop = loop
        self.rate = rate
        self.wall_offset_ms = wall_offset_ms
        self._monotonic_offset_ms = monotonic_offset_ms

    def wall_ms(self) -> int:
        return int(WALL_START_MS + self.wall_offset_ms + self._loop.now_us * self.rate / 1000)

    def monotonic_ms(self) -> float:
        return self._monotonic_offset_ms + self._loop.now_us * self.rate / 1000

    def jump(self, by_ms: float) -> None:
        """Move the wall clock at once, in either direction; the monotonic one does not notice."""
        self.wall_offset_ms += by_ms
