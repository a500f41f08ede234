"""The running quantile against sorted samples, and budgets against a count by hand."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.core.admission.budget import TokenBudget
from quorate.core.admission.read_latency import FLOOR_MS, QUANTILE, LatencyQuantile


@settings(max_examples=25, deadline=None)
@given(
    scale_ms=st.sampled_from([0.3, 2.0, 40.0, 900.0]),
    spread=st.floats(0.1, 0.6),
    start_ms=st.sampled_from([0.2, 10.0, 2_000.0]),
    seed=st.integers(0, 1_000),
)
def test_the_estimate_finds_the_95th_percentile_from_wherever_it_starts(
    scale_ms: float, spread: float, start_ms: float, seed: int
) -> None:
    rng = random.Random(seed)
    samples = [scale_ms * rng.lognormvariate(0.0, spread) for _ in range(14_000)]
    quantile = LatencyQuantile(start_ms)
    for sample in samples[:12_000]:
        quantile.observe(sample)
    above = 0
    for sample in samples[12_000:]:
        above += sample > quantile.estimate_ms
        quantile.observe(sample)
    assert 0.3 * (1 - QUANTILE) < above / 2_000 < 2.5 * (1 - QUANTILE)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 60_000.0), max_size=500))
def test_the_estimate_stays_positive_and_below_what_was_seen(samples: list[float]) -> None:
    quantile = LatencyQuantile(10.0)
    for sample in samples:
        quantile.observe(sample)
    assert FLOOR_MS * 0.99 <= quantile.estimate_ms <= max(10.0, *samples, 0.0) * 1.02


@settings(max_examples=100, deadline=None)
@given(
    actions=st.lists(st.booleans(), max_size=400),
    fraction=st.sampled_from([0.05, 0.1, 0.25, 0.5, 1.0]),
    most=st.integers(1, 20),
)
def test_no_stretch_of_time_has_more_extra_requests_than_its_share_and_one_burst(
    actions: list[bool], fraction: float, most: int
) -> None:
    budget = TokenBudget(fraction, float(most))
    taken: list[int] = []
    for regular in actions:
        if regular:
            budget.earn()
            taken.append(0)
        else:
            taken.append(int(budget.take()))
    for begin in range(0, len(actions), 7):
        for end in range(begin, len(actions), 11):
            regular_requests = sum(actions[begin:end])
            assert sum(taken[begin:end]) <= most + fraction * regular_requests + 1e-6
