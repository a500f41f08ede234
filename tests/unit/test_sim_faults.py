"""Faults have names, and a run without one of them differs by nothing but what follows from that."""

from __future__ import annotations

import re

import pytest

from quorate.sim.faults import DAYS, KINDS, MEMBERSHIP
from quorate.sim.run import Outcome, SimOptions, Simulation, run

LINE = re.compile(r"FAULT  ([fdmj]\d+) (.*?): (.*)$")
FREE_OF_STATE = ("partition", "one way", "isolate", "reset", "slow link", "slow node", "loss", "ring", "clock jump")
"""What they do is drawn, and depends on nothing that happens in the run."""


def faults_of(seed: int, options: SimOptions) -> tuple[Outcome, list[tuple[str, str, str]]]:
    """(the outcome, (name, kind, what it did) of each line of a fault)"""
    lines: list[str] = []
    outcome = run(seed, options, lines.append)
    return outcome, [found.groups() for line in lines if (found := LINE.search(line))]  # type: ignore[misc]


def options_for(kinds: tuple[str, ...], skipped: tuple[str, ...] = (), seconds: float = 12) -> SimOptions:
    return SimOptions(nodes=5, seconds=seconds, clients=1, faults=kinds, skipped=skipped)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_without_some_faults_the_others_are_the_same(seed: int) -> None:
    outcome, lines = faults_of(seed, options_for(FREE_OF_STATE))
    assert len(outcome.occurred) >= 4, "there is something to leave out"
    assert outcome.occurred == [name for name, _, _ in lines]
    skipped = tuple(outcome.occurred[::2])
    without, left = faults_of(seed, options_for(FREE_OF_STATE, skipped))
    assert left == [line for line in lines if line[0] not in skipped]
    assert without.occurred == outcome.occurred[1::2]


@pytest.mark.parametrize("seed", [1, 4, 6])
def test_what_depends_on_the_run_keeps_its_name_and_its_kind(seed: int) -> None:
    """Whom a fault meets, and whether it is allowed, may follow from those before; when and what it is may not."""
    kinds = tuple(kind for kind in KINDS if kind != MEMBERSHIP)
    outcome, lines = faults_of(seed, options_for(kinds))
    skipped = tuple(outcome.occurred[::2])
    _, left = faults_of(seed, options_for(kinds, skipped))
    named = {name: kind.removesuffix(" withheld") for name, kind, _ in reversed(lines)}
    for name, kind, _ in left:
        assert name not in skipped
        if name in named and kind.removesuffix(" withheld") in kinds:
            assert named[name] == kind.removesuffix(" withheld")
    assert {name for name, _, _ in left} & set(named), "some are left"


def test_the_operator_and_the_stories_of_days_can_be_left_out_too() -> None:
    for kind, letter in ((MEMBERSHIP, "m"), (DAYS, "d")):
        outcome, _ = faults_of(5, options_for((kind,), seconds=25))
        assert outcome.occurred and outcome.occurred[0].startswith(letter)
        without, lines = faults_of(5, options_for((kind,), (*outcome.occurred,), 25))
        assert not {*outcome.occurred} & {name for name, _, _ in lines}
        assert not {*outcome.occurred} & {*without.occurred}


def test_a_fault_that_is_withheld_has_not_occurred() -> None:
    """A single node holds what nobody else holds: its disk is never taken."""
    outcome = run(2, SimOptions(nodes=1, seconds=12, faults=("wipe",)))
    assert outcome.faults["wipe withheld"] >= 1 and outcome.occurred == []


def test_bits_flip_in_records_in_hints_and_in_saved_trees() -> None:
    options = SimOptions(nodes=5, seconds=25, faults=("bit flip", "restart", "isolate"))
    everything = [seed for seed in range(60) if len(Simulation(seed, options).faults.enabled) == 3]
    what: list[str] = []
    damaged = 0
    for seed in everything[:5]:
        outcome, lines = faults_of(seed, options)
        assert outcome.violations == []
        what += [said for _, kind, said in lines if kind == "bit flip"]
        damaged += outcome.reached.get("hints_damaged", 0)
    assert any("the hint" in said for said in what) and any("tree:" in said for said in what)
    assert any("the hint" not in said and "tree:" not in said for said in what) and damaged
