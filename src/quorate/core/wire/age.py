"""How long a frame was on the way, without synchronised clocks.

Sender and receiver have monotonic clocks of unknown offset. The difference (received − sent) is that offset plus the
delay of this frame; the smallest difference seen is taken for the offset plus the least possible delay, and what a
frame exceeds it by is its *age*: the time it lay in a buffer, a stalled loop or a slow network. So a request whose
remaining time is shorter than its age is known to be expired (the paper's deadlines, SOSP 2007 §2.2, are the caller's).

Clocks drift apart, so the smallest difference may not stand for ever: it rises by `DRIFT` of the time that passes,
which covers two oscillators and two NTP slews at once. The price is that a queue that stays full is under-reported by
1 ms a second. Rejected: the minimum over a window (two states to explain, and it forgets the truth all at once).
"""

from __future__ import annotations

from math import inf
from typing import Final

DRIFT: Final = 0.001
"""Milliseconds by which the smallest difference rises per millisecond: 1000 ppm."""


class FrameAge:
    """The estimate for one connection. A new connection begins anew, so a peer's restart cannot mislead it."""

    __slots__ = ("_received_ms", "_smallest_ms")

    def __init__(self) -> None:
        self._smallest_ms = inf
        self._received_ms = 0.0

    def of(self, sent_ms: float, received_ms: float) -> float:
        """The age in ms (≥ 0) of a frame sent at `sent_ms` of its sender's clock, received at `received_ms` of ours.

        `received_ms` must not go back from call to call.
        """
        smallest_ms = self._smallest_ms + (received_ms - self._received_ms) * DRIFT
        difference_ms = received_ms - sent_ms
        if difference_ms < smallest_ms:  # noqa: PLR1730 - several times faster than min(), once a frame
            smallest_ms = difference_ms
        self._smallest_ms = smallest_ms
        self._received_ms = received_ms
        return difference_ms - smallest_ms
