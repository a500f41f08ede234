"""Latencies of a run, in bounded memory: an HDR histogram with three digits, from a microsecond to ten minutes."""

from __future__ import annotations

from typing import Any

from hdrh.histogram import HdrHistogram

LATENCY_US_MAX = 600_000_000


class Latencies:
    """Records latencies in seconds; gives percentiles in milliseconds."""

    def __init__(self) -> None:
        histogram: Any = HdrHistogram  # It has no types.
        self._histogram = histogram(1, LATENCY_US_MAX, 3)

    def record(self, seconds: float) -> None:
        self._histogram.record_value(min(LATENCY_US_MAX, max(1, int(seconds * 1e6))))

    @property
    def count(self) -> int:
        return int(self._histogram.get_total_count())

    def percentile_ms(self, percentile: float) -> float:
        """The latency that `percentile` percent of the operations did not exceed."""
        microseconds: int = self._histogram.get_value_at_percentile(percentile)
        return round(microseconds / 1000, 3)
