"""The judges of registers against their definition, on small histories of all kinds, and against each other on long
ones."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.sim.history import OK, UNKNOWN, Outcome
from quorate.sim.registers.history import (
    CAS,
    LINEARIZABLE,
    NOT_LINEARIZABLE,
    READ,
    UNDECIDED,
    WRITE,
    Judgement,
    Kind,
    Operation,
    Value,
)
from quorate.sim.registers.search import search
from quorate.sim.registers.zones import judge_zones
from tests.property.register_twin import atomic_history, brute_force

TIMES = 8
"""Few, so that many operations meet in one moment."""


@st.composite
def operations(draw: st.DrawFn, kinds: tuple[Kind, ...], value: int) -> Operation:
    """Any operation at all, about the values None and 1 to 3; a write is of `value`, if that is not 0."""
    kind = draw(st.sampled_from(kinds))
    invoked_us = draw(st.integers(0, TIMES))
    length_us = draw(st.integers(0, TIMES // 2))
    outcome: Outcome = OK if kind == READ else draw(st.sampled_from((OK, OK, OK, UNKNOWN)))
    ends: int | None = invoked_us + length_us
    if outcome == UNKNOWN and draw(st.booleans()):
        ends = None
    any_value = st.sampled_from((None, 1, 2, 3))
    if kind == READ:
        return Operation(READ, draw(any_value), invoked_us, ends)
    written: Value = value or draw(st.sampled_from((1, 2, 3)))
    if kind == WRITE:
        return Operation(WRITE, written, invoked_us, ends, outcome)
    if not value:
        written = draw(any_value)
    swapped = outcome == UNKNOWN or draw(st.sampled_from((True, True, False)))
    return Operation(CAS, written, invoked_us, ends, outcome, draw(any_value), swapped)


@st.composite
def register_histories(draw: st.DrawFn) -> list[Operation]:
    """Reads and writes, each write of a value of its own."""
    writes = [draw(operations((WRITE,), value)) for value in range(1, draw(st.integers(1, 3)) + 1)]
    reads = draw(st.lists(operations((READ,), 0), max_size=4))
    return writes + reads


histories = st.lists(operations((READ, WRITE, CAS, CAS), 0), max_size=6)


def verdict(linearizable: bool) -> str:
    return LINEARIZABLE if linearizable else NOT_LINEARIZABLE


def explained(judgement: Judgement) -> bool:
    """A bad verdict says why."""
    return judgement.verdict != NOT_LINEARIZABLE or bool(judgement.explanation and judgement.offenders)


@settings(max_examples=400)
@given(register_histories())
def test_zones_and_search_agree_with_the_definition_where_values_are_unique(history: list[Operation]) -> None:
    expected = verdict(brute_force(history))
    for judgement in (judge_zones(history), search(history)):
        assert judgement.verdict == expected
        assert explained(judgement)


@settings(max_examples=400)
@given(histories)
def test_the_search_agrees_with_the_definition(history: list[Operation]) -> None:
    judgement = search(history)
    assert judgement.verdict == verdict(brute_force(history))
    assert explained(judgement)


@settings(max_examples=400)
@given(st.integers(0, 1 << 32), st.integers(3, 6), st.sampled_from((5, 15, 30)), st.booleans())
def test_the_search_agrees_with_the_definition_on_what_is_nearly_linearizable(
    seed: int, length: int, spread_us: int, wrong: bool
) -> None:
    """Of operations at random few fit each other; these did, before one was changed."""
    rng = random.Random(seed)
    history = atomic_history(rng, length, kinds=(READ, WRITE, WRITE, CAS), spread_us=spread_us, values=2)
    if wrong:
        index = rng.randrange(length)
        history[index] = msgspec.structs.replace(history[index], value=rng.randint(1, 2))
    assert search(history).verdict == verdict(brute_force(history))


@settings(max_examples=200)
@given(register_histories())
def test_whatever_the_offenders_of_a_zone_are_they_contradict_each_other_alone(history: list[Operation]) -> None:
    """An explanation that needs more than what it shows would explain nothing."""
    judgement = judge_zones(history)
    if judgement.verdict == NOT_LINEARIZABLE:
        shown = [operation for operation in judgement.offenders if operation in history]
        named = {operation.value for operation in shown}
        writes = [one for one in history if one.kind == WRITE and one.value in named]
        assert not brute_force(list(dict.fromkeys([*shown, *writes])))


@given(st.integers(0, 1 << 32), st.integers(1, 60), st.integers(0, 60))
def test_what_an_atomic_register_did_is_linearizable(seed: int, length: int, spread_us: int) -> None:
    history = atomic_history(random.Random(seed), length, spread_us=spread_us)
    assert judge_zones(history).verdict == LINEARIZABLE
    history = atomic_history(random.Random(seed), length, spread_us=spread_us, kinds=(READ, WRITE, CAS), values=4)
    assert search(history).verdict in {LINEARIZABLE, UNDECIDED}


@given(st.integers(0, 1 << 32), st.integers(0, 40))
def test_zones_and_search_agree_on_long_histories_with_one_wrong_answer(seed: int, spread_us: int) -> None:
    rng = random.Random(seed)
    history = atomic_history(rng, 30, spread_us=spread_us)
    reads = [index for index, operation in enumerate(history) if operation.kind == READ]
    if reads:
        wrong = rng.choice(reads)
        old = history[wrong]
        history[wrong] = Operation(READ, rng.choice([None, *range(1, 31)]), old.invoked_us, old.completed_us)
    found = search(history).verdict
    assert found in {judge_zones(history).verdict, UNDECIDED}
