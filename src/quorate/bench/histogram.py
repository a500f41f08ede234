"""Latencies of a run, in bounded memory: an HDR histogram with three digits, from a microsecond to ten minutes.

While the load runs, a latency is only appended to an array: the load generator shares the machine with what it
measures, and a histogram in Python costs as much for each operation as a replica does.

A histogram travels between processes, and lies in result files, in the encoding that all HDR libraries share. Adding
histograms up loses nothing: the sum of those of several processes is the one that a single process would have made.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from hdrh.histogram import HdrHistogram

LATENCY_US_MAX: Final = 600_000_000
DIGITS: Final = 3
RECENT_MAX: Final = 4_000_000
"""Latencies kept as they are, 32 MB at most."""


class Latencies:
    """Records latencies in seconds; gives percentiles in milliseconds."""

    __slots__ = ("_histogram", "_recent")

    def __init__(self) -> None:
        self._histogram: Any = None  # It has no types. Made when there is something to fold: it takes 170 KB.
        self._recent = array("d")

    def record(self, seconds: float) -> None:
        recent = self._recent
        recent.append(seconds)
        if len(recent) >= RECENT_MAX:
            self._fold()

    def _fold(self) -> Any:
        """Move what was recorded lately into the histogram."""
        histogram = self._histogram
        if histogram is None:
            made: Any = HdrHistogram
            histogram = self._histogram = made(1, LATENCY_US_MAX, DIGITS)
        counts = Counter([int(seconds * 1e6) for seconds in self._recent])
        for microseconds, count in counts.items():
            histogram.record_value(min(LATENCY_US_MAX, max(1, microseconds)), count)
        self._recent = array("d")
        return histogram

    @property
    def count(self) -> int:
        recorded = len(self._recent)
        return recorded if self._histogram is None else recorded + int(self._histogram.get_total_count())

    def percentile_ms(self, percentile: float) -> float:
        """The latency that `percentile` percent of the operations did not exceed."""
        microseconds: int = self._fold().get_value_at_percentile(percentile)
        return round(microseconds / 1000, 3)

    def encoded(self) -> str:
        """All of it as text; empty if nothing was recorded."""
        return self._fold().encode().decode("ascii") if self.count else ""


def decoded(texts: Iterable[str]) -> Latencies:
    """The sum of encoded histograms; raises `ValueError` for what is none."""
    total = Latencies()
    histogram = total._fold()
    for text in texts:
        if not text:
            continue
        try:
            histogram.decode_and_add(text)
        except Exception as error:  # The library raises whatever its parts raise, zlib.error among them.
            raise ValueError(f"not an HDR histogram: {error}") from error
    return total
