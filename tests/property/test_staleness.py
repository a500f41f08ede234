"""Staleness: the trials against brute force and closed forms, and the histograms against the samples they hold."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.limits import STALENESS_GENERATION_MS, STALENESS_PEER_SAMPLES_MIN
from quorate.core.staleness.figures import configurations, links_of, resolution
from quorate.core.staleness.legs import BUCKETS, LOWER_MS, Draw, LegBook, bucket_of, draw_from
from quorate.core.staleness.trials import TIMES_MS, Link, Trials, lags

TRIALS = 20_000
TOLERANCE = 4.5
"""Standard deviations by which a share may differ from the truth: one run in some hundred thousand exceeds it."""

times = st.integers(0, 40)


def off(share: float, truth: float) -> float:
    """How far a share of `TRIALS` is from the truth, in standard deviations."""
    deviation = math.sqrt(max(truth * (1 - truth), 1 / TRIALS) / TRIALS)
    return abs(share - truth) / deviation


def one_of(*values: float) -> Draw:
    return lambda chance: values[int(chance * len(values))]


# --- one trial ---


@given(st.integers(2, 5).flatmap(lambda n: st.tuples(*(st.lists(times, min_size=n, max_size=n) for _ in range(3)))))
def test_a_lag_is_when_a_read_sees_the_write(drawn: tuple[list[int], list[int], list[int]]) -> None:
    """The brute force knows no lags: it looks at every replica at the moment that the read is there."""
    visible, back, arrives = drawn
    n = len(visible)
    commit, others = visible[0], range(1, n)
    acknowledged = [visible[place] + back[place] for place in others]
    found = lags(commit, visible, acknowledged, arrives)
    for r, w, after in itertools.product(range(1, n + 1), range(1, n + 1), range(-45, 90, 5)):
        answered = sorted([commit, *acknowledged])[w - 1]
        seen = any(visible[place] <= answered + after + arrives[place] for place in range(r))
        assert seen == (after >= found[w - 1][r - 1])


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(*(st.lists(times, min_size=n, max_size=n) for _ in range(3)))))
def test_quorums_that_overlap_are_never_late_and_larger_ones_never_later(
    drawn: tuple[list[int], list[int], list[int]],
) -> None:
    visible, back, arrives = drawn
    n = len(visible)
    found = lags(visible[0], visible, [visible[place] + back[place] for place in range(1, n)], arrives)
    for r, w in itertools.product(range(1, n + 1), range(1, n + 1)):
        lag = found[w - 1][r - 1]
        if r + w > n:
            assert lag <= 0
        assert r == 1 or lag <= found[w - 1][r - 2]
        assert w == 1 or lag <= found[w - 2][r - 1]


# --- many of them ---


def exact_shares(
    commits: Sequence[float], legs: Sequence[tuple[Sequence[float], ...]]
) -> dict[tuple[int, int], list[float]]:
    """The true share of fresh reads elsewhere, by every way that it can go. `legs`: of each other replica, the values
    of (write away, write back, read away), equally likely each."""
    n = len(legs) + 1
    pairs = [(r, w) for r in range(1, n + 1) for w in range(1, n + 1)]
    seen = {pair: [0] * len(TIMES_MS) for pair in pairs}
    ways = 0
    for commit, aways, backs in itertools.product(
        commits, itertools.product(*(leg[0] for leg in legs)), itertools.product(*(leg[1] for leg in legs))
    ):
        answered = sorted([commit, *(away + back for away, back in zip(aways, backs, strict=True))])
        for reader, asked in readings(n):
            # From the reader to the writer it takes as long as between these two is measured.
            choices = [legs[reader if replica < 0 else replica][2] for replica in asked]
            for reads in itertools.product(*choices):
                ways += 1
                there = [(aways[reader], 0.0)]
                there += [(commit if k < 0 else aways[k], read) for k, read in zip(asked, reads, strict=True)]
                for r, w in pairs:
                    for place, after in enumerate(TIMES_MS):
                        begun = answered[w - 1] + after
                        seen[r, w][place] += any(visible <= begun + read for visible, read in there[:r])
    return {pair: [count / ways for count in counts] for pair, counts in seen.items()}


def readings(n: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Who coordinates a read, and in which order it asks the others; -1 is the writer."""
    for reader in range(n - 1):
        for asked in itertools.permutations([-1, *(other for other in range(n - 1) if other != reader)]):
            yield reader, asked


LEGS = [
    ((0.5, 4.0, 30.0), (0.1, 8.0), (0.2, 6.0)),
    ((1.0, 15.0), (0.3, 3.0), (0.4, 2.0)),
    ((0.7, 60.0), (0.2,), (1.0, 9.0)),
]


@pytest.mark.parametrize("others", [1, 2, 3])
def test_trials_come_to_what_brute_force_counts(others: int) -> None:
    commits, legs = (0.3, 2.5), LEGS[:others]
    truth = exact_shares(commits, legs)
    links = [Link(one_of(*away), one_of(*back), one_of(*read), one_of(1.0)) for away, back, read in legs]
    trials = Trials(one_of(*commits), [links], random.Random(1).random)
    trials.run(TRIALS)
    found = {(cell["r"], cell["w"]): cell for cell in configurations(trials, 1, 1)}
    assert found.keys() == truth.keys()
    n = others + 1
    for pair, shares in truth.items():
        assert found[pair]["certain"] == (sum(pair) > n)
        assert not found[pair]["certain"] or shares == [1.0] * len(TIMES_MS)
        for share, mixed, true in zip(found[pair]["fresh_elsewhere"], found[pair]["fresh"], shares, strict=True):
            assert off(share, true) < TOLERANCE, (pair, share, true)
            assert mixed == pytest.approx((1 + (n - 1) * share) / n, abs=2e-6)


def test_two_replicas_and_an_exponential_delay_give_the_closed_form() -> None:
    """n = 2, r = w = 1: a read elsewhere misses the write if that is still under way, which is exp(-t / mean)."""
    mean = 4.0
    slow: Draw = lambda chance: -mean * math.log(1.0 - chance)  # noqa: E731
    trials = Trials(one_of(0.0), [[Link(slow, one_of(1.0))]], random.Random(2).random)
    trials.run(TRIALS)
    found = configurations(trials, 1, 1)[0]
    for after, share in zip(TIMES_MS, found["fresh_elsewhere"], strict=True):
        assert off(share, 1.0 - math.exp(-after / mean)) < TOLERANCE
    within = found["fresh_within_ms"]["p99"]
    assert within == pytest.approx(-mean * math.log(0.02), rel=0.15), "one read in two sees it for certain"


def test_replicas_that_are_alike_and_answer_alike_are_seen_alike() -> None:
    """Every message takes 3 ms: the write is visible at 3, answered at 0 (w = 1) or 6; a question arrives 3 later."""
    three = one_of(3.0)
    trials = Trials(one_of(0.0), [[Link(three, three, three, three)] * 4], random.Random(3).random)
    trials.run(50)
    found = {(cell["r"], cell["w"]): cell for cell in configurations(trials, 1, 2)}
    at = {after: place for place, after in enumerate(TIMES_MS)}
    assert found[1, 1]["fresh_elsewhere"][at[2.0]] == 0.0
    assert found[1, 1]["fresh_elsewhere"][at[5.0]] == 1.0
    assert found[2, 1]["fresh_elsewhere"][0] == found[1, 2]["fresh_elsewhere"][0] == 1.0
    assert [found[1, w]["write_wait_ms"]["p99"] for w in (1, 2, 5)] == pytest.approx([0.0, 6.0, 6.0], abs=0.6)
    assert [found[r, 1]["read_wait_ms"]["p999"] for r in (1, 2, 5)] == pytest.approx([0.0, 6.0, 6.0], abs=0.6)
    assert [pair for pair, cell in found.items() if cell["current"]] == [(1, 2)]


@given(st.integers(1, 6), st.integers(0, 1 << 32))
def test_shares_never_fall_with_time_r_or_w(n: int, seed: int) -> None:
    rng = random.Random(seed)

    def link() -> Link:
        return Link(*(one_of(*(rng.expovariate(0.2) for _ in range(3))) for _ in range(4)))

    trials = Trials(one_of(0.1, 3.0), [[link() for _ in range(n - 1)] for _ in range(2)], rng.random)
    trials.run(200)
    fresh = {(cell["r"], cell["w"]): cell["fresh"] for cell in configurations(trials, 1, 1)}
    for (r, w), shares in fresh.items():
        assert shares == sorted(shares)
        for smaller in ((r - 1, w), (r, w - 1)):
            assert all(less <= more for less, more in zip(fresh.get(smaller, shares), shares, strict=True))
        if r + w > n:
            assert shares == [1.0] * len(TIMES_MS)


# --- what was measured ---


@given(st.floats(0, 70_000))
def test_every_time_has_its_bucket(milliseconds: float) -> None:
    bucket = bucket_of(milliseconds)
    assert LOWER_MS[bucket] <= milliseconds
    assert milliseconds < LOWER_MS[bucket + 1] or bucket == BUCKETS - 1
    assert list(LOWER_MS) == sorted(set(LOWER_MS))


@given(st.lists(st.floats(0.02, 5_000), min_size=1, max_size=60), st.floats(0, 0.999999))
def test_a_draw_is_the_quantile_of_the_samples_within_its_bucket(samples: list[float], chance: float) -> None:
    counts = [0] * BUCKETS
    for sample in samples:
        counts[bucket_of(sample)] += 1
    exact = sorted(samples)[int(chance * len(samples))]
    assert draw_from(counts)(chance) == pytest.approx(exact, rel=0.126)
    assert draw_from(counts, 7.0)(chance) == pytest.approx(draw_from(counts)(chance) + 7.0)
    assert draw_from(counts, -1e6)(chance) == 0.0


@given(st.lists(st.tuples(st.floats(0.0, 50), st.floats(0.0, 50)), min_size=1, max_size=50))
def test_ways_there_and_back_add_up_to_the_round_trip(delays: list[tuple[float, float]]) -> None:
    """Delays beyond a millisecond each way: what is measured are round trips, and ages of replies."""
    book = LegBook(0.0)
    for out, back in [(0.0, 0.0), *delays]:
        book.observe(2, False, 2.0 + out + back, back, 1.0)
    leg = book.measured(2.0, [2]).writes[2]
    away, home = leg.draws()
    assert leg.least_ms == pytest.approx(2.0)
    outs, backs = sorted([0.0, *(out for out, _ in delays)]), sorted([0.0, *(back for _, back in delays)])
    for place in range(leg.count):
        chance = (place + 0.5) / leg.count
        assert away(chance) == pytest.approx(1.0 + outs[place], rel=0.26, abs=0.02)
        assert home(chance) == pytest.approx(1.0 + backs[place], rel=0.13, abs=0.02)


def test_what_was_measured_is_forgotten_after_two_generations() -> None:
    book = LegBook(0.0)
    age = STALENESS_GENERATION_MS
    book.observe(2, False, 1.0, 0.0, 10.0)
    book.observe(3, True, 1.0, 0.0, age + 10.0)
    both = book.measured(age + 20.0, [2, 3])
    assert (both.write_count, both.read_count, both.window_ms) == (1, 1, age + 20.0)
    assert (list(both.writes), list(both.reads)) == ([2], [3])
    assert (book.measured(age + 20.0, [3]).writes, book.measured(age + 20.0, [3]).write_count) == ({}, 1)
    later = book.measured(2 * age + 20.0, [2, 3])
    assert (later.write_count, later.read_count) == (0, 1)
    book.observe(2, False, 1.0, 0.0, 9 * age)
    assert book.measured(9 * age, ()).read_count == 0


def test_a_peer_that_little_is_known_of_is_taken_to_be_like_the_others() -> None:
    book = LegBook(0.0)
    for _ in range(STALENESS_PEER_SAMPLES_MIN):
        book.observe(2, False, 8.0, 0.0, 1.0)
    book.observe(3, False, 800.0, 0.0, 1.0)
    links = links_of(book.measured(1.0, [2, 3, 4]), [2, 3, 4])
    assert links[2].write_away(0.5) == pytest.approx(4.0, abs=1.0)
    assert links[3].write_away(0.5) == links[4].write_away(0.5) == pytest.approx(4.0, abs=1.0)
    assert links[3].write_away(0.999) > 500.0, "its own measurement is among all"
    assert links[2].read_away is None


def test_without_reads_nothing_is_said_of_waiting_for_them() -> None:
    trials = Trials(one_of(0.0), [[Link(one_of(5.0), one_of(5.0))] * 2], random.Random(1).random)
    trials.run(100)
    found = {(cell["r"], cell["w"]): cell for cell in configurations(trials, 1, 1)}
    assert found[1, 1]["read_wait_ms"] == {"p50": 0.0, "p99": 0.0, "p999": 0.0}
    assert found[2, 1]["read_wait_ms"] is None
    assert found[2, 1]["fresh_elsewhere"][0] == pytest.approx(0.5, abs=0.2), "a question is taken to arrive at once"
    assert found[1, 2]["write_wait_ms"]["p50"] == pytest.approx(10.0, rel=0.13)


def test_a_read_waits_for_the_slowest_of_those_that_it_asks() -> None:
    """One replica answers after 2 ms and the other after 40: r = 2 asks either, r = 3 both."""
    quick, slow = (Link(one_of(1.0), one_of(1.0), one_of(half), one_of(half)) for half in (1.0, 20.0))
    trials = Trials(one_of(0.0), [[quick, slow]], random.Random(1).random)
    trials.run(1_000)
    short, long = bucket_of(2.0), bucket_of(40.0)
    assert trials.read_waits[1][short] + trials.read_waits[1][long] == 1_000
    assert trials.read_waits[1][short] == pytest.approx(500, abs=75)
    assert trials.read_waits[2][long] == 1_000


def test_a_share_is_no_finer_than_what_it_is_of() -> None:
    trials = Trials(one_of(0.0), [[Link(one_of(0.0), one_of(0.0))]], random.Random(1).random)
    trials.run(300)
    assert resolution(trials, 1_000_000) == 0.01
    assert resolution(trials, 30) == 0.1
