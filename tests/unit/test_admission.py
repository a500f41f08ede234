"""Budgets, background admission and the concurrency limit: bounds that hold and controllers that come back."""

from __future__ import annotations

import pytest

from quorate.core.admission.background import (
    RATE_FIRST_PER_S,
    RATE_MAX_PER_S,
    RATE_MIN_PER_S,
    WINDOW_MS,
    WINDOWS_KEPT,
    BackgroundAdmission,
)
from quorate.core.admission.budget import TokenBudget
from quorate.core.admission.concurrency import LIMIT_MIN, ConcurrencyLimit
from quorate.core.admission.concurrency import WINDOW_MS as LIMIT_WINDOW_MS


def test_extra_requests_stay_below_their_fraction_after_the_first_burst() -> None:
    budget = TokenBudget(0.05, 50.0)
    extra = sum(budget.take() for _ in range(1_000))
    assert extra == 50
    for _ in range(10_000):
        budget.earn()
        extra += budget.take()
    assert extra <= 50 + 500
    assert extra >= 50 + 499


def test_a_budget_saves_no_more_than_its_maximum() -> None:
    budget = TokenBudget(0.5, 2.0)
    for _ in range(100):
        budget.earn()
    assert [budget.take() for _ in range(3)] == [True, True, False]


class Load:
    """Windows of foreground requests over a controller, with background work that always wants more."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self.admission = BackgroundAdmission(0.0)

    def window(self, latency_ms: float, requests: int = 100, wanted: int = 10**6) -> int:
        for _ in range(requests):
            self.admission.on_foreground(latency_ms, self.now_ms)
        self.now_ms += WINDOW_MS
        return self.admission.take(wanted, self.now_ms) if wanted else 0


def test_without_foreground_background_work_gets_to_full_speed() -> None:
    load = Load()
    granted = [load.window(0.0, requests=0) for _ in range(40)]
    assert load.admission.rate_per_s == RATE_MAX_PER_S
    assert granted[-1] == RATE_MAX_PER_S * WINDOW_MS / 1000
    assert sum(granted[:20]) >= 10_000, "ten thousand hints within five seconds"


def test_the_rate_halves_while_p99_is_above_one_and_a_half_times_the_usual_and_recovers() -> None:
    load = Load()
    for _ in range(50):
        load.window(2.0)
    before = load.admission.rate_per_s
    load.window(2.9)
    assert load.admission.rate_per_s >= before, "within tolerance"
    before = load.admission.rate_per_s
    load.window(3.1)
    assert load.admission.rate_per_s == before / 2
    for _ in range(15):
        load.window(10.0)
    assert load.admission.rate_per_s == RATE_MIN_PER_S
    for _ in range(40):
        load.window(2.0)
    assert load.admission.rate_per_s == RATE_MAX_PER_S


@pytest.mark.parametrize(("slow", "halves"), [(1, False), (2, False), (3, True)])
def test_it_is_the_99th_percentile_that_counts(slow: int, halves: bool) -> None:
    load = Load()
    for _ in range(50):
        load.window(2.0, requests=300)
    before = load.admission.rate_per_s
    for _ in range(slow):
        load.admission.on_foreground(50.0, load.now_ms)
    load.window(2.0, requests=300 - slow)
    assert (load.admission.rate_per_s < before) is halves


def test_what_is_usual_is_known_before_background_work_begins_and_an_idle_rate_does_not_grow() -> None:
    load = Load()
    for _ in range(20):
        load.window(2.0, wanted=0)
    assert load.admission.baseline_ms() == 2.0
    assert load.admission.rate_per_s == RATE_FIRST_PER_S
    load.window(10.0)
    assert load.admission.rate_per_s == RATE_FIRST_PER_S / 2, "its first second already is judged by the minute before"


def test_a_noisy_machine_does_not_starve_background_work() -> None:
    """Two windows in five are disturbed by something else: a cluster's 10,000 hints are home in 10 s all the same."""
    load = Load()
    for number in range(200):
        load.window(10.0 if number % 5 < 2 else 2.0)
    granted = sum(load.window(10.0 if number % 5 < 2 else 2.0) for number in range(40))
    assert 4 * granted >= 10_000, "four nodes keep the hints of a fifth"


def test_when_the_foreground_ends_background_work_need_not_climb_from_the_bottom() -> None:
    load = Load()
    for _ in range(40):
        load.window(2.0)
    for _ in range(15):
        load.window(50.0)
    assert load.admission.rate_per_s == RATE_MIN_PER_S
    load.window(0.0, requests=0)
    assert load.admission.rate_per_s >= RATE_FIRST_PER_S


def test_history_and_samples_are_bounded() -> None:
    load = Load()
    for _ in range(2 * WINDOWS_KEPT):
        load.window(1.0, requests=20, wanted=0)
    for _ in range(5_000):
        load.admission.on_foreground(1.0, load.now_ms - 1)
    assert len(load.admission._history) == WINDOWS_KEPT
    assert len(load.admission._samples) <= 512


def test_no_more_is_granted_than_wanted_nor_than_one_burst_after_a_long_pause() -> None:
    admission = BackgroundAdmission(0.0)
    assert admission.take(0, 3_600_000.0) == 0
    assert admission.take(3, 3_600_000.0) == 3
    assert admission.take(10**9, 7_200_000.0) <= RATE_MAX_PER_S * WINDOW_MS / 1000
    assert admission.take(10, 7_200_000.0) == 0
    assert admission.delay_ms() > 0


def serve(limit: ConcurrencyLimit, begin_ms: float, latency_ms: float, in_flight: int, requests: int = 50) -> float:
    """One window of requests; returns when it ended."""
    end_ms = begin_ms + LIMIT_WINDOW_MS
    for index in range(requests):
        limit.on_done(latency_ms, begin_ms if index < requests - 1 else end_ms, in_flight)
    return end_ms


def test_the_limit_shrinks_to_what_is_in_flight_when_most_are_late_and_recovers() -> None:
    limit = ConcurrencyLimit(8_192, 0.0)
    now_ms = serve(limit, 0.0, 500.0, in_flight=1_000)
    assert limit.limit == 800
    for _ in range(40):
        now_ms = serve(limit, now_ms, 500.0, in_flight=limit.limit)
    assert limit.limit == LIMIT_MIN
    for _ in range(100):
        now_ms = serve(limit, now_ms, 5.0, in_flight=10)
    assert limit.limit == 8_192


@pytest.mark.parametrize("in_flight", [1, LIMIT_MIN])
def test_a_few_slow_requests_on_an_idle_node_do_not_shrink_the_limit(in_flight: int) -> None:
    limit = ConcurrencyLimit(8_192, 0.0)
    serve(limit, 0.0, 900.0, in_flight, requests=1)
    assert limit.limit == 8_192


def test_half_of_the_requests_being_late_is_not_most() -> None:
    limit = ConcurrencyLimit(1_000, 0.0)
    for latency_ms in (500.0, 1.0):
        limit.on_done(latency_ms, 0.0 if latency_ms > 1 else LIMIT_WINDOW_MS, 900)
    assert limit.limit == 1_000
