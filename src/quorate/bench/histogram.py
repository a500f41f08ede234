"""Latencies of a run, in bounded memory: an HDR histogram with three digits, from a microsecond to ten minutes.

While the load runs, a latency is only appended to an array: the load generator shares the machine with what it
measures, and a histogram in Python costs as much for each operation as a replica does.
"""

from __future__ import annotations

from array import array
from typing import Any

from hdrh.histogram import HdrHistogram

LATENCY_US_MAX = 600_000_000
RECENT_MAX = 4_000_000
"""Latencies kept as they are, 32 MB at most."""


class Latencies:
    """Records latencies in seconds; gives percentiles in milliseconds."""

    def __init__(self) -> None:
        histogram: Any = HdrHistogram  # It has no types.
        self._histogram = histogram(1, LATENCY_US_MAX, 3)
        self._recent = array("d")

    def record(self, seconds: float) -> None:
        recent = self._recent
        recent.append(seconds)
        if len(recent) >= RECENT_MAX:
            self._fold()

    def _fold(self) -> None:
        """Move what was recorded lately into the histogram."""
        for seconds in self._recent:
            self._histogram.record_value(min(LATENCY_US_MAX, max(1, int(seconds * 1e6))))
        self._recent = array("d")

    @property
    def count(self) -> int:
        self._fold()
        return int(self._histogram.get_total_count())

    def percentile_ms(self, percentile: float) -> float:
        """The latency that `percentile` percent of the operations did not exceed."""
        self._fold()
        microseconds: int = self._histogram.get_value_at_percentile(percentile)
        return round(microseconds / 1000, 3)
