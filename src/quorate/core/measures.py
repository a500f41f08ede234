"""What a node measures of its clients' requests: how many ended how, and how long they took.

Latencies are judged at the 99.9th percentile (SOSP 2007, §2.2), so they are kept in a histogram and never as a mean.
Its buckets are log-linear: each power of two of milliseconds is cut into `STEPS` equal parts, so that the end of a
bucket is at most a quarter above any latency in it, from `LOWEST_MS` to over a minute, with 84 numbers in a plain list.
Recording is a `frexp` and an addition; that is what the hot path can pay.

Histograms only grow. What happened lately is the difference to an earlier copy (`RecentLatencies`), taken when somebody
looks, so that nobody pays while nobody does.

Rejected: an HDR histogram (three digits cost twenty times as much for each record in Python, and scrapes could not use
them); a sample of the last requests (loses exactly the rare slow ones that p99.9 is about).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp
from typing import Final

STEPS: Final = 4
"""Buckets for each power of two."""
LOWEST_EXPONENT: Final = -5
HIGHEST_EXPONENT: Final = 16
LOWEST_MS: Final = 2.0**LOWEST_EXPONENT
BOUNDS_MS: Final[tuple[float, ...]] = tuple(
    2.0**exponent * (STEPS + step + 1) / STEPS
    for exponent in range(LOWEST_EXPONENT, HIGHEST_EXPONENT)
    for step in range(STEPS)
)
"""Upper ends of the buckets. Exclusive, but for a latency that is one to the last digit. What lies above the last one
has a bucket of its own."""
BUCKETS: Final = len(BOUNDS_MS) + 1
WINDOW_MS: Final = 10_000.0
"""How much time "lately" covers at least."""
QUANTILES: Final = {"p50": 0.5, "p99": 0.99, "p999": 0.999}

GET_RESULTS: Final = ("ok", "siblings", "not_found", "caller", "unavailable", "overloaded", "unknown")
"""How gets end: one value, several, none; or a `core.store.Failure` of that kind."""
PUT_RESULTS: Final = ("ok", "caller", "unavailable", "overloaded", "unknown")


class LatencyHistogram:
    """Latencies in milliseconds, by bucket."""

    __slots__ = ("counts", "sum_ms")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.sum_ms = 0.0

    def record(self, latency_ms: float, weight: int = 1) -> None:
        """Count `weight` requests with this latency (≥ 0)."""
        # A little is added since 0 has no exponent.
        mantissa, exponent = frexp(latency_ms + 1e-9)
        # mantissa is in [0.5, 1): its step within the power of two, counted from STEPS to 2·STEPS - 1.
        index = (exponent - 2 - LOWEST_EXPONENT) * STEPS + int(mantissa * (2 * STEPS))
        self.counts[0 if index < 0 else index if index < BUCKETS else -1] += weight
        self.sum_ms += latency_ms * weight

    @property
    def count(self) -> int:
        return sum(self.counts)


def quantile_ms(counts: Sequence[int], quantile: float) -> float | None:
    """The latency that this share of the requests did not exceed, up to the width of its bucket; None without any.

    The upper end of the bucket is given: never too good. Above the last bound, that bound.
    """
    total = sum(counts)
    if not total:
        return None
    left = quantile * total
    for index, count in enumerate(counts):
        left -= count
        if count and left <= 1e-9 * total:
            return BOUNDS_MS[min(index, len(BOUNDS_MS) - 1)]
    return BOUNDS_MS[-1]


class RecentLatencies:
    """The quantiles of a histogram over the last `WINDOW_MS` to twice that, or since somebody last looked."""

    def __init__(self, histogram: LatencyHistogram, now_ms: float) -> None:
        self._histogram = histogram
        self._older = self._newer = (now_ms, [0] * BUCKETS)

    def describe(self, now_ms: float) -> dict[str, float | None]:
        """`p50`, `p99`, `p999` in milliseconds (None: no requests), `count`, and `window_s`, the time they are of."""
        if now_ms - self._newer[0] >= WINDOW_MS:
            self._older, self._newer = self._newer, (now_ms, self._histogram.counts.copy())
        since_ms, before = self._older
        counts = [now - then for now, then in zip(self._histogram.counts, before, strict=True)]
        quantiles = {name: quantile_ms(counts, share) for name, share in QUANTILES.items()}
        return {**quantiles, "count": sum(counts), "window_s": round((now_ms - since_ms) / 1000, 1)}


class Measures:
    """Of the requests that this node coordinated, or refused to.

    Latency is the coordinator's: from the moment it takes the request up until it has its quorum and answers. Under
    load one request in a few is timed and stands for as many (`node.evidence`); results are counted one by one.
    """

    __slots__ = ("get_latency", "gets", "put_latency", "puts", "recent")

    def __init__(self, now_ms: float) -> None:
        self.gets = dict.fromkeys(GET_RESULTS, 0)
        self.puts = dict.fromkeys(PUT_RESULTS, 0)
        self.get_latency = LatencyHistogram()
        self.put_latency = LatencyHistogram()
        self.recent = {
            "get": RecentLatencies(self.get_latency, now_ms),
            "put": RecentLatencies(self.put_latency, now_ms),
        }

    def requests(self) -> dict[str, dict[str, int]]:
        """Kind → result → how many."""
        return {"get": self.gets.copy(), "put": self.puts.copy()}
