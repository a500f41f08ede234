"""How long a get usually takes: the running quantile after which a hedge is worth sending.

The estimate moves up by a step for each observation above it and down for each below, in the proportion that balances
at the quantile; steps are relative, so it works for microseconds and seconds alike (Frugal streaming: Ma,
Muthukrishnan, Sandler, 2013). Constant memory, two operations an observation, and it follows a change of load within
a few hundred requests. Rejected: a histogram with decay (a hundred times the work for each request).
"""

from __future__ import annotations

from typing import Final

QUANTILE: Final = 0.95
STEP: Final = 0.02
FLOOR_MS: Final = 0.1


class LatencyQuantile:
    """A running estimate of the 95th percentile, in milliseconds."""

    __slots__ = ("estimate_ms",)

    def __init__(self, estimate_ms: float) -> None:
        self.estimate_ms = estimate_ms

    def observe(self, latency_ms: float) -> None:
        if latency_ms > self.estimate_ms:
            self.estimate_ms *= 1.0 + STEP * QUANTILE
        elif self.estimate_ms > FLOOR_MS:
            self.estimate_ms *= 1.0 - STEP * (1.0 - QUANTILE)
