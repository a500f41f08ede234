"""The choosers draw what their formulas say, to within the chance of the fixed seeds.

The twin here computes the exact probability of every rank by inverting the formula: the ranks that a random number
leads to are an interval of numbers, and the interval's length is the probability.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from math import sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.bench.distributions import (
    SCRAMBLED_ITEMS,
    SCRAMBLED_ZETA,
    THETA,
    fnv_64,
    latest,
    scrambled_zipfian,
    uniform,
    zeta,
)

DRAWS = 100_000


def exact_ranks(items: int) -> list[float]:
    """The probability of each rank."""
    total = sum(1 / (rank + 1) ** THETA for rank in range(items))
    eta = (1 - (2 / items) ** (1 - THETA)) / (1 - (1 + 0.5**THETA) / total)
    tail_from = (1 + 0.5**THETA) / total

    def number_of(rank: float) -> float:
        """The random number that leads to exactly this rank in the tail."""
        return ((rank / items) ** (1 - THETA) - 1 + eta) / eta

    shares = [max(0.0, number_of(rank + 1) - max(number_of(rank), tail_from)) for rank in range(items)]
    shares[0] += 1 / total
    shares[1] += 0.5**THETA / total
    assert sum(shares) == pytest.approx(1)
    return shares


def assert_drawn_from(expected: list[float], counts: Counter[int], draws: int) -> None:
    """Chi-square, five standard deviations above its mean at most; rare outcomes are counted together."""
    assert set(counts) <= set(range(len(expected)))
    common = [outcome for outcome, share in enumerate(expected) if share * draws >= 10]
    cells = [(expected[outcome] * draws, counts[outcome]) for outcome in common]
    rest = draws - sum(mean for mean, _ in cells)
    if rest >= 10:
        cells.append((rest, draws - sum(count for _, count in cells)))
    freedom = len(cells) - 1
    assert sum((count - mean) ** 2 / mean for mean, count in cells) < freedom + 5 * sqrt(2 * freedom)


def test_uniform() -> None:
    counts = Counter(islice(uniform(40, Random(1)), DRAWS))
    assert_drawn_from([1 / 40] * 40, counts, DRAWS)


@pytest.mark.parametrize("items", [3, 100, 5000])
def test_latest_is_zipfian_over_ages(items: int) -> None:
    expected = exact_ranks(items)
    assert_drawn_from(expected, Counter(islice(latest(lambda: items, Random(2)), DRAWS)), DRAWS)
    # The formula approximates the law of Zipf; it may be this far from it, all ranks together, and is exact for two.
    law = [1 / (rank + 1) ** THETA / zeta(items) for rank in range(items)]
    assert sum(abs(a - b) for a, b in zip(expected, law, strict=True)) / 2 < 0.07
    assert expected[0] == pytest.approx(law[0], rel=0.02)


@pytest.mark.parametrize(("keys", "items"), [(10, 1000), (333, 2000)])
def test_scrambled_zipfian_folds_hashed_ranks_onto_the_keys(keys: int, items: int) -> None:
    expected = [0.0] * keys
    for rank, share in enumerate(exact_ranks(items)):
        expected[fnv_64(rank) % keys] += share
    counts = Counter(islice(scrambled_zipfian(keys, Random(3), items, zeta(items)), DRAWS))
    assert_drawn_from(expected, counts, DRAWS)


def test_the_hottest_keys_are_those_of_ycsb() -> None:
    """Over 10^10 ranks the first two have 3.8% and 1.9% of all requests, however many keys there are."""
    keys = 20_000
    counts = Counter(islice(scrambled_zipfian(keys, Random(4)), DRAWS))
    (first, often), (second, less) = counts.most_common(2)
    assert (first, second) == (fnv_64(0) % keys, fnv_64(1) % keys)
    assert often / DRAWS == pytest.approx(1 / SCRAMBLED_ZETA, rel=0.1)
    assert less / DRAWS == pytest.approx(0.5**THETA / SCRAMBLED_ZETA, rel=0.1)
    # The sum over so many ranks is an integral beyond the first few.
    head = zeta(1000)
    rest = (SCRAMBLED_ITEMS ** (1 - THETA) - 1000.5 ** (1 - THETA)) / (1 - THETA)
    assert pytest.approx(head + rest, rel=1e-4) == SCRAMBLED_ZETA


@given(st.integers(0, SCRAMBLED_ITEMS - 1))
def test_the_fast_hash_of_a_rank_is_the_hash(rank: int) -> None:
    """A draw that leads to `rank` as nearly as floats can say it; the twin computes the rank from the same draw."""
    items, total = SCRAMBLED_ITEMS, SCRAMBLED_ZETA
    eta = (1 - (2 / items) ** (1 - THETA)) / (1 - zeta(2) / total)

    class Fixed(Random):
        def random(self) -> float:
            return chance

    chance = min(max(((rank / items) ** (1 - THETA) - 1 + eta) / eta, 0.0), 1 - 2**-53)
    share = chance * total
    if share < 1 + 0.5**THETA:
        reached = 0 if share < 1 else 1
    else:
        reached = int(items * (eta * chance + (1 - eta)) ** (1 / (1 - THETA)))
    keys = 1 << 62
    assert next(scrambled_zipfian(keys, Fixed())) == fnv_64(reached) % keys


@pytest.mark.parametrize(
    ("number", "name"),
    [(0, 6284781860667377211), (1, 8517097267634966620), (2, 1820151046732198393)],
)
def test_hashes_are_those_of_ycsb(number: int, name: int) -> None:
    """The names of its first keys, as anyone finds them who loads a store with YCSB."""
    assert fnv_64(number) == name


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.integers(1, 50), st.integers())
def test_a_chooser_that_saw_keys_come_chooses_like_one_that_begins_with_them(
    growth: list[int], items: int, seed: int
) -> None:
    count = items
    grown_rng, fresh_rng = Random(seed), Random()
    grown = latest(lambda: count, grown_rng)
    for new in growth:
        assert next(grown) < count
        count += new
    next(grown)
    fresh_rng.setstate(grown_rng.getstate())
    fresh = latest(lambda: count, fresh_rng)
    assert list(islice(grown, 50)) == list(islice(fresh, 50))


def test_the_newest_key_may_be_the_only_one() -> None:
    assert set(islice(latest(lambda: 1, Random(5)), 1000)) == {0}
    assert set(islice(latest(lambda: 2, Random(5)), 1000)) == {0, 1}


def test_a_random_number_just_below_one_leads_to_a_key() -> None:
    class Highest(Random):
        def random(self) -> float:
            return 1 - 2**-53

    for items in (3, 1000, 123_457):
        assert next(latest(lambda: items, Highest())) == items - 1  # noqa: B023
        assert 0 <= next(scrambled_zipfian(items, Highest())) < items
        assert next(uniform(items, Highest())) == items - 1
