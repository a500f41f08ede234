"""Latency histograms, against a sorted list; and what "lately" covers."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.measures import (
    BOUNDS_MS,
    BUCKETS,
    GET_RESULTS,
    LOWEST_MS,
    PUT_RESULTS,
    WINDOW_MS,
    LatencyHistogram,
    Measures,
    RecentLatencies,
    quantile_ms,
)

LATENCIES = st.floats(LOWEST_MS, BOUNDS_MS[-1] * 0.999)


@given(st.lists(LATENCIES, min_size=1, max_size=400), st.sampled_from([0.5, 0.9, 0.99, 0.999, 1.0]))
def test_quantiles_are_those_of_a_sorted_list_and_at_most_a_quarter_too_high(
    latencies: list[float], quantile: float
) -> None:
    histogram = LatencyHistogram()
    for latency in latencies:
        histogram.record(latency)
    exact = sorted(latencies)[max(0, ceil(quantile * len(latencies) - 1e-9) - 1)]
    found = quantile_ms(histogram.counts, quantile)
    assert found is not None
    assert exact * (1 - 1e-9) <= found <= exact * 1.25 * (1 + 1e-6)
    assert histogram.count == len(latencies)
    assert histogram.sum_ms == pytest.approx(sum(latencies))


@pytest.mark.parametrize(
    ("latency_ms", "index"),
    [(0.0, 0), (LOWEST_MS / 2, 0), (LOWEST_MS, 0), (BOUNDS_MS[-1] * 0.999, BUCKETS - 2), (1e9, BUCKETS - 1)],
)
def test_what_lies_outside_goes_to_the_ends(latency_ms: float, index: int) -> None:
    histogram = LatencyHistogram()
    histogram.record(latency_ms, 8)
    assert [i for i, count in enumerate(histogram.counts) if count] == [index]
    assert histogram.count == 8


def test_each_bucket_begins_where_the_last_one_ended() -> None:
    for index, bound in enumerate(BOUNDS_MS):
        histogram = LatencyHistogram()
        histogram.record(bound * 0.9999)
        histogram.record(bound * 1.0001)
        assert histogram.counts[index : index + 2] == [1, 1]


def test_no_requests_have_no_latency() -> None:
    assert quantile_ms([0] * BUCKETS, 0.5) is None


def test_lately_forgets_what_is_older_than_two_windows() -> None:
    histogram = LatencyHistogram()
    recent = RecentLatencies(histogram, 0.0)
    histogram.record(100.0)
    assert recent.describe(1_000.0)["count"] == 1
    assert recent.describe(WINDOW_MS)["count"] == 1, "it may be a moment old"
    histogram.record(1.0)
    found = recent.describe(2 * WINDOW_MS)
    assert (found["count"], found["window_s"]) == (1, WINDOW_MS / 1000)
    assert found["p999"] == pytest.approx(1.25)
    assert recent.describe(4 * WINDOW_MS) == {
        "p50": None, "p99": None, "p999": None, "count": 0, "window_s": 2 * WINDOW_MS / 1000,
    }  # fmt: skip


def test_every_result_is_there_from_the_beginning() -> None:
    assert Measures(0.0).requests() == {"get": dict.fromkeys(GET_RESULTS, 0), "put": dict.fromkeys(PUT_RESULTS, 0)}
