"""The search on histories with compare-and-set that are known to be good or bad, and its bound."""

from __future__ import annotations

import pytest

from quorate.sim.history import FAILED, UNKNOWN
from quorate.sim.registers.history import CAS, LINEARIZABLE, NOT_LINEARIZABLE, UNDECIDED, Operation
from quorate.sim.registers.search import search
from tests.unit.test_register_zones import BAD, GOOD, read, unknown, write


def cas(expected: object, value: object, start: int, end: int) -> Operation:
    return Operation(CAS, value, start, end, expected=expected)


def missed(expected: object, value: object, start: int, end: int) -> Operation:
    """A compare-and-set that found something else."""
    return Operation(CAS, value, start, end, expected=expected, swapped=False)


def unsure(expected: object, value: object, start: int, end: int | None = None) -> Operation:
    return Operation(CAS, value, start, end, UNKNOWN, expected)


GOOD_CAS = {
    "a chain": [cas(None, 1, 0, 1), cas(1, 2, 2, 3), cas(2, None, 4, 5), read(None, 6, 7)],
    "a chain that only one order of what overlaps explains": [cas(2, 3, 0, 9), cas(1, 2, 0, 9), cas(None, 1, 0, 9)],
    "one of two wins": [write(1, 0, 1), cas(1, 2, 2, 9), missed(1, 3, 2, 9), read(2, 10, 11)],
    "there and back, and there again": [cas(None, 1, 0, 1), cas(1, None, 2, 3), cas(None, 1, 4, 5)],
    "one that changes nothing": [write(1, 0, 1), cas(1, 1, 2, 3), cas(1, 1, 2, 3), read(1, 4, 5)],
    "an unknown one that appears late": [write(1, 0, 1), unsure(1, 2, 2), read(1, 5, 6), read(2, 90, 91)],
    "an unknown one that never appears": [write(1, 0, 1), unsure(1, 2, 2), cas(1, 3, 90, 91)],
    "an unknown one that only a miss has noticed": [write(1, 0, 1), unknown(2, 2), missed(1, 3, 90, 91)],
    "an unknown one that found something else": [write(1, 0, 1), unsure(7, 2, 2), read(1, 5, 6)],
    "an unknown one before what follows its end": [unsure(None, 1, 0, 5), read(1, 9, 10), cas(1, 2, 11, 12)],
    "a write of what is there, which matters later": [
        cas(None, 1, 0, 1),
        unknown(3, 2),
        write(1, 2, 20),
        read(3, 4, 5),
        read(1, 21, 22),
    ],
    "what failed never happened": [write(1, 0, 1), Operation(CAS, 2, 2, 3, FAILED, 1), cas(1, 3, 4, 5)],
}

BAD_CAS = {
    "two from one value": [write(1, 0, 1), cas(1, 2, 2, 9), cas(1, 3, 2, 9)],
    "a lost update": [write(1, 0, 1), cas(1, 2, 2, 3), read(1, 4, 5)],
    "a miss that had no reason": [write(1, 0, 1), missed(1, 2, 2, 3)],
    "a swap of what was gone": [write(1, 0, 1), write(2, 2, 3), cas(1, 3, 4, 5)],
    "a chain in the wrong order": [cas(1, 2, 0, 1), cas(None, 1, 2, 3)],
    "one that failed and is seen": [write(1, 0, 1), Operation(CAS, 2, 2, 3, FAILED, 1), read(2, 4, 5)],
    "an unknown one that appears twice": [
        unsure(None, 1, 0),
        cas(1, 2, 2, 3),
        cas(2, None, 4, 5),
        cas(1, 3, 6, 7),
    ],
    "an unknown one after its end": [unsure(None, 1, 0, 5), cas(None, 2, 6, 7), cas(2, None, 8, 9), read(1, 10, 11)],
}


@pytest.mark.parametrize("history", [*GOOD.values(), *GOOD_CAS.values()], ids=[*GOOD, *GOOD_CAS])
def test_a_good_history_is_linearizable(history: list[Operation]) -> None:
    assert search(history).verdict == LINEARIZABLE
    assert search(history[::-1]).verdict == LINEARIZABLE


@pytest.mark.parametrize("history", [*BAD.values(), *BAD_CAS.values()], ids=[*BAD, *BAD_CAS])
def test_a_bad_history_is_not_and_says_where_every_order_ends(history: list[Operation]) -> None:
    judgement = search(history)
    assert judgement.verdict == NOT_LINEARIZABLE
    assert judgement.offenders
    assert judgement.offenders[0].text() in judgement.explanation
    assert search(history[::-1]).verdict == NOT_LINEARIZABLE


def test_the_explanation_says_what_the_register_held() -> None:
    judgement = search([write(1, 0, 1), cas(1, 2, 2, 3), read(1, 4, 5)])
    assert "after 2 of 3 operations the register holds 2" in judgement.explanation
    assert judgement.offenders == (read(1, 4, 5),)


def hard(writers: int) -> list[Operation]:
    """Writes that overlap all, and a read of what none of them wrote last: every order of them has to be tried."""
    together = [write(number, 0, 1_000) for number in range(1, writers + 1)]
    return [*together, read(1, 2_000, 2_001), read(2, 2_002, 2_003)]


def test_a_search_that_reaches_its_bound_knows_nothing() -> None:
    judgement = search(hard(12), states_max=500)
    assert judgement.verdict == UNDECIDED
    assert judgement.states == 500
    assert "500 states" in judgement.explanation


def test_the_memo_makes_of_all_orders_all_sets() -> None:
    """Of eight writes that overlap there are 40,320 orders, and 8 · 2⁷ pairs of a set and the last of it."""
    judgement = search(hard(8))
    assert judgement.verdict == NOT_LINEARIZABLE
    assert 128 < judgement.states <= 8 * 2**7 + 1


def test_reads_cost_no_states() -> None:
    history = [write(1, 0, 1), *(read(1, 2, 100) for _ in range(200)), write(2, 101, 102)]
    judgement = search(history)
    assert judgement.verdict == LINEARIZABLE
    assert judgement.states <= 3


def test_a_long_chain_is_no_recursion() -> None:
    history = [cas(number or None, number + 1, 10 * number, 10 * number + 12) for number in range(3_000)]
    assert search(history).verdict == LINEARIZABLE


def test_writes_of_unknown_outcome_that_nobody_noticed_cost_nothing() -> None:
    history = [unknown(number, 0) for number in range(100, 200)]
    history += [write(number, 10 * number, 10 * number + 1) for number in range(1, 50)]
    history += [read(number, 10 * number + 2, 10 * number + 3) for number in range(1, 50)]
    judgement = search(history)
    assert judgement.verdict == LINEARIZABLE
    assert judgement.states < 100
