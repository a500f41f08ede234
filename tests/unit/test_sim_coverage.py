"""What a batch has come through: states, those that were missed, and runs that show nothing."""

from __future__ import annotations

import msgspec
import pytest

from quorate.sim.batch import Difference
from quorate.sim.coverage import (
    EXPECTED,
    LONG_BATCH_RUNS,
    OPERATIONS_MIN,
    RARE,
    RARE_BATCH_RUNS,
    idle_reason,
    injected,
    states_of,
    unreached,
)
from quorate.sim.faults import KINDS
from quorate.sim.history import Violation
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.run import run
from quorate.sim.summary import SEEDS_LISTED_MAX, Count, Summary, versions

OPTIONS = SimOptions()


def outcome_of(
    seed: int = 1,
    operations: dict[str, int] | None = None,
    faults: dict[str, int] | None = None,
    reached: dict[str, int] | None = None,
    violations: list[Violation] | None = None,
) -> Outcome:
    operations = {"put ok": 90} if operations is None else operations
    faults = {"kill": 2, "heal": 1} if faults is None else faults
    reached = {"hints_delivered": 3} if reached is None else reached
    return Outcome(seed, "00", 10, 3_600_000, "os", operations, faults, violations or [], reached, 5)


def summary_of(*outcomes: Outcome, options: SimOptions = OPTIONS) -> Summary:
    summary = Summary(first_seed=1, seeds=len(outcomes), options=options, versions=versions("1"))
    for outcome in outcomes:
        summary.add(outcome)
    return summary


@pytest.mark.parametrize(
    ("operations", "faults", "reached", "reason"),
    [
        ({"get ok": OPERATIONS_MIN - 1, "put unknown": 99}, None, None, "only 49 operations were acknowledged"),
        (None, {"heal": 1, "kill withheld": 9}, None, "no fault happened"),
        (
            None,
            None,
            {"forwards": 7, "exchanges": 3, "hints_delivered": 0},
            "no node counted anything but plain requests",
        ),
        (None, None, None, ""),
    ],
)
def test_a_run_that_shows_nothing_is_told_with_its_reason(
    operations: dict[str, int] | None, faults: dict[str, int] | None, reached: dict[str, int] | None, reason: str
) -> None:
    outcome = outcome_of(7, operations, faults, reached)
    assert (reason in idle_reason(outcome, OPTIONS)) and bool(idle_reason(outcome, OPTIONS)) == bool(reason)
    idle = summary_of(outcome).idle
    assert [(one.seed, reason in one.reason) for one in idle] == ([(7, True)] if reason else [])


def test_without_faults_quiet_nodes_are_no_surprise() -> None:
    outcome = outcome_of(faults={"heal": 1}, reached={"forwards": 1})
    assert idle_reason(outcome, SimOptions(faults=())) == ""


def test_only_what_happened_counts_as_injected() -> None:
    assert injected({"kill": 2, "kill withheld": 5, "heal": 1, "wipe": 1}) == 3


def test_a_state_is_reached_by_any_of_its_counters() -> None:
    assert states_of(outcome_of(reached={"forwards_repeated": 2, "forwards_taken_over": 1, "hints_kept": 0})) == {
        "a forward is taken over or repeated": 3
    }


def test_a_long_batch_tells_which_states_it_missed() -> None:
    every = {counters[0]: 1 for state, counters in EXPECTED.items() if state != "a hint expires"}
    assert summary_of(*[outcome_of(reached=every)] * (LONG_BATCH_RUNS - 1)).unreached == []
    long = [outcome_of(reached=every)] * LONG_BATCH_RUNS
    assert summary_of(*long).unreached == ["a hint expires"]
    assert summary_of(*long, options=SimOptions(faults=KINDS[:3])).unreached == [], "not all can be expected"
    assert set(EXPECTED) - set(unreached((), LONG_BATCH_RUNS, OPTIONS)) == RARE < set(EXPECTED)
    assert unreached((), RARE_BATCH_RUNS, OPTIONS) == list(EXPECTED)


def test_a_summary_adds_up() -> None:
    lost, odd = Violation("D", "lost"), Violation("W", "odd")
    first = outcome_of(1, {"put ok": 60, "put repeated": 2}, {"kill": 1}, {"reads_hedged": 2})
    second = outcome_of(2, {"put ok": 50}, {"kill": 2, "wipe": 0}, {"reads_hedged": 0}, [lost, odd, lost])
    summary = summary_of(first, second)
    assert (summary.runs, summary.passed, summary.failed_runs, summary.ok) == (2, 1, 1, False)
    assert (summary.cluster_hours, summary.events) == (2.0, 20)
    assert (summary.operations_total, summary.faults_injected) == (110, 3)
    assert summary.operations["put ok"] == Count(110, 2) and summary.operations["put repeated"] == Count(2, 1)
    assert summary.faults == {"kill": Count(3, 2), "wipe": Count(0, 0)}
    assert summary.states == {"a read is hedged": Count(2, 1)} and summary.violations == {"D": 2, "W": 1}
    assert [(failed.seed, failed.violations) for failed in summary.failed] == [(2, [lost, odd, lost])]
    assert summary.failed[0].replay == "quorate sim --seed 2 --trace"
    assert msgspec.json.decode(msgspec.json.encode(summary), type=Summary) == summary


def test_a_difference_between_two_runs_of_a_seed_is_a_failure() -> None:
    summary = summary_of(outcome_of(1))
    summary.add(outcome_of(2), Difference(2, "00", "01", "event 3"))
    assert (summary.passed, summary.runs, summary.failed) == (1, 2, [])
    assert [difference.seed for difference in summary.different] == [2]


def test_lists_of_seeds_are_bounded() -> None:
    bad = [Violation("D", str(number)) for number in range(50)]
    failed = [outcome_of(seed, operations={}, violations=bad) for seed in range(SEEDS_LISTED_MAX + 5)]
    summary = summary_of(*failed)
    assert summary.failed_runs == summary.idle_runs == SEEDS_LISTED_MAX + 5
    assert len(summary.failed) == len(summary.idle) == SEEDS_LISTED_MAX
    assert len(summary.failed[0].violations) == 10 and summary.violations == {"D": 50 * len(failed)}


def test_what_is_expected_is_what_a_real_run_counts() -> None:
    """Names of counters change; a state whose counter nobody counts would be reported missing for ever."""
    reached: set[str] = set()
    for seed in range(6):
        reached |= set(states_of(run(seed, SimOptions(seconds=30))))
    assert len(reached) > len(EXPECTED) // 2, sorted(set(EXPECTED) - reached)
