"""The metrics of one node, for Prometheus to scrape: the table of `series`, read at that moment.

A custom collector rather than counters of the library: those take a lock for every increment, which the hot path would
pay for, and they would have to be kept in step with what the node counts for `status` anyway. The library still does
what it is for: names and help texts checked, label values escaped, the text format, and the metrics of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from quorate.adapters.metrics.facts import Facts
from quorate.adapters.metrics.series import SERIES, Series
from quorate.core.measures import BOUNDS_MS, LatencyHistogram

_BOUNDS = [repr(bound / 1000) for bound in BOUNDS_MS]


class NodeCollector(Collector):
    """Gives the series of one node. `facts` is asked once for each scrape."""

    def __init__(self, facts: Callable[[], Facts]) -> None:
        self._facts = facts

    def describe(self) -> list[Metric]:
        """Nothing: the names are known from the table, and the node need not be asked for them."""
        return []

    def collect(self) -> Iterator[Metric]:
        facts = self._facts()
        return (_family(series, facts) for series in SERIES)


class Metrics:
    """What /metrics answers."""

    def __init__(self, facts: Callable[[], Facts]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(NodeCollector(facts))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def scrape(self) -> tuple[str, bytes]:
        """(content type, text)."""
        return CONTENT_TYPE_LATEST, generate_latest(self._registry)


def _family(series: Series, facts: Facts) -> Metric:
    if series.kind == "histogram":
        histograms = HistogramMetricFamily(series.name, series.help, labels=series.labels)
        for labels, histogram in series.read(facts):
            histograms.add_metric(labels, _cumulative(histogram), histogram.sum_ms / 1000)
        return histograms
    kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
    family = kind(series.name, series.help, labels=series.labels)
    for labels, value in series.read(facts):
        family.add_metric(labels, value)
    return family


def _cumulative(histogram: LatencyHistogram) -> list[tuple[str, float]]:
    """The buckets as the text format has them: how many requests took at most so many seconds."""
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip([*_BOUNDS, "+Inf"], histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
