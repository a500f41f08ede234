"""A batch of runs as one document: what was simulated, what was reached, what failed, and how to see it again.

`quorate sim --report FILE` writes it as JSON; whoever judges the store reads it from there and needs nothing else. It
grows with every outcome, so an interrupted batch has the summary of what it has run.

Lists of seeds are bounded: a batch in which everything fails must not make a document without end. Counts are whole.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

import msgspec

from quorate.sim.batch import Difference
from quorate.sim.coverage import idle_reason, injected, states_of, unreached
from quorate.sim.history import Violation
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.replay import replay_command

SEEDS_LISTED_MAX = 1_000
VIOLATIONS_LISTED_MAX = 10
"""Of one failed seed."""
MS_PER_HOUR = 3_600_000


class Count(msgspec.Struct):
    """How often something was counted, and in how many runs at least once."""

    times: int = 0
    runs: int = 0


class FailedRun(msgspec.Struct, frozen=True):
    """A seed that a check has failed; `violations` are the first of them."""

    seed: int
    violations: list[Violation]
    replay: str


class IdleRun(msgspec.Struct, frozen=True):
    """A seed whose run showed nothing."""

    seed: int
    reason: str


class Versions(msgspec.Struct, frozen=True):
    """What ran: equal seeds give equal traces only for equal code."""

    quorate: str
    python: str
    platform: str


class Summary(msgspec.Struct, kw_only=True):
    """Sums over a batch. `seeds` is its range: the first seed, and how many were wanted; `runs` have ended."""

    first_seed: int
    seeds: int
    options: SimOptions
    versions: Versions
    twice: bool = False
    """Did each seed run twice, in processes of different string hashes?"""
    interrupted: bool = False
    elapsed_s: float = 0.0
    runs: int = 0
    passed: int = 0
    cluster_hours: float = 0.0
    """Virtual time of whole clusters."""
    events: int = 0
    faults_injected: int = 0
    operations_total: int = 0
    operations: dict[str, Count] = {}
    faults: dict[str, Count] = {}
    reached: dict[str, Count] = {}
    states: dict[str, Count] = {}
    unreached: list[str] = []
    """Expected states that no run was in, if the batch was long and had every kind of fault."""
    nodes: dict[int, int] = {}
    """Founding members → runs."""
    durability: dict[str, int] = {}
    violations: dict[str, int] = {}
    """Check → violations."""
    failed_runs: int = 0
    failed: list[FailedRun] = []
    idle_runs: int = 0
    idle: list[IdleRun] = []
    different_runs: int = 0
    different: list[Difference] = []

    def add(self, outcome: Outcome, difference: Difference | None = None) -> None:
        """One more run has ended; `difference`: what its second run did otherwise."""
        self.runs += 1
        self.cluster_hours += outcome.virtual_ms / MS_PER_HOUR
        self.events += outcome.events
        self.faults_injected += injected(outcome.faults)
        self.operations_total += sum(times for what, times in outcome.operations.items() if what != "put repeated")
        add_counts(self.operations, outcome.operations)
        add_counts(self.faults, outcome.faults)
        add_counts(self.reached, outcome.reached)
        add_counts(self.states, states_of(outcome))
        self.nodes[outcome.nodes] = self.nodes.get(outcome.nodes, 0) + 1
        self.durability[outcome.durability] = self.durability.get(outcome.durability, 0) + 1
        self.unreached = unreached(self.states, self.runs, self.options)
        self._judge(outcome, difference)

    def _judge(self, outcome: Outcome, difference: Difference | None) -> None:
        for violation in outcome.violations:
            self.violations[violation.check] = self.violations.get(violation.check, 0) + 1
        if difference is not None:
            self.different_runs += 1
            if len(self.different) < SEEDS_LISTED_MAX:
                self.different.append(difference)
        if not outcome.ok:
            self.failed_runs += 1
            if len(self.failed) < SEEDS_LISTED_MAX:
                first = outcome.violations[:VIOLATIONS_LISTED_MAX]
                self.failed.append(FailedRun(outcome.seed, first, replay_command(outcome.seed, self.options)))
        self.passed += outcome.ok and difference is None
        reason = idle_reason(outcome, self.options)
        if reason:
            self.idle_runs += 1
            if len(self.idle) < SEEDS_LISTED_MAX:
                self.idle.append(IdleRun(outcome.seed, reason))

    @property
    def ok(self) -> bool:
        """Has every run that has ended passed? (That some state was not reached makes nothing wrong.)"""
        return self.passed == self.runs


def add_counts(sums: dict[str, Count], counts: Mapping[str, int]) -> None:
    """Add one run's counts."""
    for name, times in counts.items():
        count = sums.setdefault(name, Count())
        count.times += times
        count.runs += times > 0


def versions(quorate: str) -> Versions:
    """`quorate`: the version of this package."""
    return Versions(quorate, platform.python_version(), f"{platform.system()} {platform.machine()}")
