"""Zones on histories that are known to be good or bad, as figures: a letter is an operation, time goes to the right."""

from __future__ import annotations

import pytest

from quorate.sim.history import FAILED, UNKNOWN
from quorate.sim.registers.history import (
    CAS,
    LINEARIZABLE,
    NOT_LINEARIZABLE,
    READ,
    UNDECIDED,
    WRITE,
    Judgement,
    Operation,
)
from quorate.sim.registers.zones import judge_zones


def write(value: object, start: int, end: int) -> Operation:
    return Operation(WRITE, value, start, end)


def read(value: object, start: int, end: int) -> Operation:
    return Operation(READ, value, start, end)


def unknown(value: object, start: int, end: int | None = None) -> Operation:
    """A write that may have happened at any time since, by `end` at last."""
    return Operation(WRITE, value, start, end, UNKNOWN)


GOOD = {
    "nothing happened": [],
    "nothing was there": [read(None, 0, 5), read(None, 3, 8)],
    "one after the other": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "a read that overlaps a write sees the new value": [write(1, 0, 10), read(1, 2, 3)],
    "or the old one": [write(1, 0, 1), write(2, 2, 10), read(1, 3, 4), read(2, 5, 6)],
    "two writes that overlap, seen in the other order": [write(1, 0, 10), write(2, 1, 9), read(2, 11, 12)],
    "a write that is seen before its acknowledgement": [write(1, 0, 100), read(1, 5, 6), read(1, 50, 51)],
    "an unknown write that appears late": [write(1, 0, 1), unknown(2, 2), read(1, 50, 60), read(2, 100, 110)],
    "an unknown write that never appears": [write(1, 0, 1), unknown(2, 2), read(1, 100, 110)],
    "what failed never appears": [write(1, 0, 1), Operation(WRITE, 2, 2, None, FAILED), read(1, 5, 6)],
    "all at one moment": [write(1, 5, 5), write(2, 5, 5), read(1, 5, 5), read(2, 5, 5), read(None, 5, 5)],
    "zones that touch": [write(1, 0, 5), read(1, 10, 15), write(2, 3, 10), read(2, 20, 21), write(3, 10, 10)],
    "a backward zone over a gap": [write(1, 0, 1), read(1, 4, 5), write(2, 0, 20), write(3, 7, 8), read(3, 9, 10)],
}

BAD = {
    "a stale read": [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)],
    "nothing, after something was there": [write(1, 0, 1), read(None, 2, 3)],
    "new and then old": [write(1, 0, 1), write(2, 2, 100), read(2, 10, 11), read(1, 12, 13)],
    "new and then old, by two writes that overlap": [
        write(1, 0, 10),
        write(2, 0, 10),
        read(1, 11, 12),
        read(2, 13, 14),
        read(1, 15, 16),
    ],
    "a value from the future": [read(1, 0, 1), write(1, 2, 3)],
    "a value that nobody wrote": [write(1, 0, 1), read(7, 2, 3)],
    "a value that was not written": [Operation(WRITE, 2, 2, None, FAILED), read(2, 5, 6)],
    "a lost write": [write(1, 0, 1), write(2, 5, 6), read(1, 8, 9)],
    "a write that came and went while another stood": [write(1, 0, 1), write(2, 2, 8), read(1, 9, 10), read(1, 0, 1)],
    "an unknown write that appears and is gone again": [
        write(1, 0, 1),
        unknown(2, 2),
        read(2, 10, 11),
        read(1, 12, 13),
    ],
    "two that saw two unknown writes in different orders": [
        unknown(1, 0),
        unknown(2, 0),
        read(1, 1, 2),
        read(2, 3, 4),
        read(1, 5, 6),
    ],
    "an unknown write that had ended by then": [unknown(1, 0, 10), unknown(2, 0, 10), read(1, 20, 21), read(2, 20, 21)],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_a_good_history_is_linearizable(history: list[Operation]) -> None:
    assert judge_zones(history) == Judgement(LINEARIZABLE)
    assert judge_zones(history[::-1]) == Judgement(LINEARIZABLE), "however it is listed"


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_a_bad_history_is_not_and_the_offenders_are_named(history: list[Operation]) -> None:
    judgement = judge_zones(history)
    assert judgement.verdict == NOT_LINEARIZABLE
    assert all(repr(operation.value) in judgement.explanation for operation in judgement.offenders)
    assert len(judgement.offenders) >= 1
    assert judge_zones(history[::-1]).verdict == NOT_LINEARIZABLE


def test_the_explanation_names_the_two_values_and_when() -> None:
    history = [write("old", 0, 1), write("new", 2, 3), read("old", 4, 5)]
    assert judge_zones(history).explanation == (
        "'new' must come and go while the other is there: 'new' is in write('new') from 2 to 3 µs;"
        " 'old' is in [write('old') from 0 to 1 µs] and in [read('old') from 4 to 5 µs]"
    )


@pytest.mark.parametrize(
    "odd", [Operation(CAS, 2, 2, 3, expected=1), write(1, 5, 6)], ids=["compare-and-set", "a value written twice"]
)
def test_what_zones_cannot_judge_stays_undecided(odd: Operation) -> None:
    judgement = judge_zones([write(1, 0, 1), odd])
    assert judgement.verdict == UNDECIDED
    assert odd in judgement.offenders


@pytest.mark.parametrize(
    "odd",
    [
        Operation(WRITE, 1, 5, 4),
        Operation(READ, 1, 5),
        Operation(WRITE, None, 5, 6),
        Operation(CAS, 1, 5, 6, UNKNOWN, swapped=False),
    ],
)
def test_an_operation_that_cannot_be_is_refused(odd: Operation) -> None:
    with pytest.raises(ValueError, match="µs"):
        judge_zones([odd])


def test_a_long_history_is_judged_as_a_whole() -> None:
    """A single stale read among twenty thousand operations."""
    history = []
    for number in range(10_000):
        history += [write(number, 10 * number, 10 * number + 1), read(number, 10 * number + 2, 10 * number + 3)]
    assert judge_zones(history).verdict == LINEARIZABLE
    history.append(read(4_999, 50_005, 50_006))
    judgement = judge_zones(history)
    assert judgement.verdict == NOT_LINEARIZABLE
    assert {operation.value for operation in judgement.offenders} == {4_999, 5_000}
