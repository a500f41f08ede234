"""Admission control of background work (SOSP 2007, §6.5).

Hints, repair and transfers compete with clients for the same loop and disk. One controller watches the latency of the
foreground over the last minute and hands out slices of background work: while the recent p99 stays near what the last
minute had, the rate grows; when it exceeds `TOLERANCE` times that, the rate is halved, down to a floor. When there is
no foreground, background work starts from its usual rate at once and gets to full speed.

Pure: observations and time in, slices out. Rejected: a fixed rate (too slow in a quiet night, too much at noon).
"""

from __future__ import annotations

from typing import Final

WINDOW_MS: Final = 250.0
WINDOWS_KEPT: Final = 240
"""One minute."""
TOLERANCE: Final = 1.5
RATE_MIN_PER_S: Final = 250.0
"""Enough for four nodes to bring 10,000 hints home in 10 s, and a few percent of what a node can do. On a busy machine
p99 is often above the usual for reasons that have nothing to do with background work, and that must not starve it."""
RATE_MAX_PER_S: Final = 20_000.0
RATE_FIRST_PER_S: Final = 1_000.0
GROWTH: Final = 1.25
FOREGROUND_MIN: Final = 10
"""Requests in a window below which it says nothing about latency."""
SAMPLES_MAX: Final = 512


class BackgroundAdmission:
    """The rate of background work, in operations a second, shared by everything that is not a client's request."""

    def __init__(self, now_ms: float) -> None:
        self.rate_per_s = RATE_FIRST_PER_S
        self._samples: list[float] = []
        self._wanted = False
        self._history: list[float] = []
        self._window_ends_ms = now_ms + WINDOW_MS
        self._tokens = 0.0
        self._filled_at_ms = now_ms

    def on_foreground(self, latency_ms: float, now_ms: float) -> None:
        """A client's request took this long. Cheap: the first requests of each window stand for all of it.

        The windows go on without background work, so that what is usual is known before the first of it begins.
        """
        if now_ms >= self._window_ends_ms:
            self._roll(now_ms)
        if len(self._samples) < SAMPLES_MAX:
            self._samples.append(latency_ms)

    def take(self, wanted: int, now_ms: float) -> int:
        """How many of `wanted` operations may run now."""
        if now_ms >= self._window_ends_ms:
            self._roll(now_ms)
        self._wanted = True
        elapsed_ms = max(0.0, now_ms - self._filled_at_ms)
        self._filled_at_ms = now_ms
        burst = max(1.0, self.rate_per_s * WINDOW_MS / 1000)
        self._tokens = min(burst, self._tokens + self.rate_per_s * elapsed_ms / 1000)
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted

    def delay_ms(self) -> float:
        """When it is worth asking again."""
        return max(5.0, 8_000.0 / self.rate_per_s)

    def baseline_ms(self) -> float:
        """What p99 usually is: the median of the last minute's windows; 0 if nothing is known."""
        if not self._history:
            return 0.0
        return sorted(self._history)[len(self._history) // 2]

    def _roll(self, now_ms: float) -> None:
        self._window_ends_ms = now_ms + WINDOW_MS
        samples, self._samples = self._samples, []
        wanted, self._wanted = self._wanted, False
        disturbed = False
        if wanted and len(samples) < FOREGROUND_MIN:
            self.rate_per_s = max(self.rate_per_s, RATE_FIRST_PER_S)
        if len(samples) >= FOREGROUND_MIN:
            samples.sort()
            recent_ms = samples[int(len(samples) * 0.99)]
            baseline_ms = self.baseline_ms()
            disturbed = baseline_ms > 0 and recent_ms > TOLERANCE * baseline_ms
            self._history.append(recent_ms)
            del self._history[:-WINDOWS_KEPT]
        if disturbed:
            self.rate_per_s = max(RATE_MIN_PER_S, self.rate_per_s / 2)
        elif wanted:
            # A rate that nobody uses proves nothing and does not grow.
            self.rate_per_s = min(RATE_MAX_PER_S, self.rate_per_s * GROWTH)
