"""Hybrid logical clock: times that follow the wall clock as far as it can be trusted, and causality always.

A time is one integer, Unix milliseconds << 16 | logical, so that it compares, packs and sorts as one. When the wall
clock stands still or goes back, the logical part counts on; its overflow simply carries into the milliseconds.

Invariants (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014; hard case 29):
- a tick is later than the `after` it was given, whatever any wall clock says or said: so an event is always later
  than what its writer had seen, and last-write-wins cannot undo a write that saw the other;
- ticks of one clock only grow, except those that had to follow an `after` from beyond the trusted skew;
- only this machine's own wall clock can ever bring the clock further than `skew_max_ms` ahead of that wall clock: a
  peer or a context with a wild time is answered, not believed.

Rejected: refusing a put whose context lies far ahead: the key was then unwritable for as long as the skew lasts.
Following it: one machine with a wrong year would set everybody's clock for good.
"""

from __future__ import annotations

from typing import Final

LOGICAL_BITS: Final = 16


class HybridLogicalClock:
    """One node's source of event times."""

    __slots__ = ("_last", "_skew_max_ms")

    def __init__(self, skew_max_ms: int) -> None:
        self._skew_max_ms = skew_max_ms
        self._last = 0

    def tick(self, wall_ms: int, after: int = 0) -> int:
        """A time for a new event, greater than `after` (the time of the writer's context) and than all earlier ticks.

        If `after` is more than the trusted skew ahead of `wall_ms`, the result is just after it, and the clock itself
        stays where it is; it may then give the same time twice, which the dots of the events tell apart.
        """
        time = wall_ms << LOGICAL_BITS
        if time <= self._last:
            time = self._last + 1
        if after >= time:
            following = after + 1
            if following >> LOGICAL_BITS > wall_ms + self._skew_max_ms:
                return following
            time = following
        self._last = time
        return time

    def observe(self, time: int, wall_ms: int) -> bool:
        """Follow a peer's `time`, so that ticks from here on are later. False, and nothing done, if it is not
        believable: more than the trusted skew ahead of `wall_ms`."""
        if time >> LOGICAL_BITS > wall_ms + self._skew_max_ms:
            return False
        self._last = max(self._last, time)
        return True
