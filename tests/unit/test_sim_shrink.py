"""Making a failing run smaller: what is left fails, is as small as can be, and depends on nothing but the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.core.errors import CallerError
from quorate.sim.history import Violation
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.replay import names_of, ranges_of
from quorate.sim.shrink import RUNS_MAX, SECONDS_MIN, Shrinker

BUG = Violation("D", "a write is lost")
OTHER = Violation("C", "replicas differ")


class World:
    """A made-up simulator: fault i strikes at second i, and the bug needs some of them, and time to show."""

    def __init__(self, faults: int, needed: Iterable[int], begins_s: float = 0.0, clients: int = 1) -> None:
        self.faults = faults
        self.needed = {f"f{number}" for number in needed}
        self.begins_s = max([begins_s, *(float(number) for number in needed)])
        self.clients = clients
        self.runs = 0

    def run(self, options: SimOptions) -> Outcome:
        names = [f"f{number}" for number in range(self.faults) if number < options.seconds]
        occurred = [name for name in names if name not in options.skipped]
        bug = self.needed <= set(occurred) and options.seconds > self.begins_s
        bug = bug and (options.clients or 5) >= self.clients
        counts = {"kill": len(occurred)} if occurred else {}
        return Outcome(1, "", 0, 0, "os", {}, counts, [BUG] if bug else [OTHER], {}, options.nodes or 5, occurred)

    def evaluate(self, candidates: Iterable[SimOptions]) -> Iterator[Outcome]:
        for candidate in candidates:
            self.runs += 1
            yield self.run(candidate)

    def shrinker(self, options: SimOptions, runs_max: int = RUNS_MAX) -> Shrinker:
        return Shrinker(self.run(options), options, self.evaluate, runs_max)


@given(
    st.integers(1, 40).flatmap(lambda faults: st.tuples(st.just(faults), st.sets(st.integers(0, faults - 1)))),
    st.floats(0, 55),
    st.integers(1, 3),
)
def test_only_what_the_bug_needs_is_left(world: tuple[int, set[int]], begins_s: float, clients: int) -> None:
    faults, needed = world
    made = World(faults, needed, begins_s, clients)
    shrunk = made.shrinker(SimOptions(seconds=60)).shrink()
    assert shrunk.complete and shrunk.runs == made.runs
    assert set(shrunk.outcome.occurred) == made.needed
    assert shrunk.outcome.violations == [BUG], "it fails the same check, not just any"
    assert made.run(shrunk.options) == shrunk.outcome
    options = shrunk.options
    assert options.clients == clients and options.nodes == 1 and options.keys == 1 and options.cold_keys == 0
    assert options.seconds <= max(SECONDS_MIN, made.begins_s) + max(1.0, 0.1 * made.begins_s)


def test_a_bound_on_runs_ends_the_search_with_something_that_fails() -> None:
    world = World(40, {3, 17, 30})
    shrunk = world.shrinker(SimOptions(seconds=60), runs_max=7).shrink()
    assert not shrunk.complete and shrunk.runs == 7
    assert world.run(shrunk.options).violations == [BUG]


def test_how_many_run_ahead_changes_nothing() -> None:
    def eager(candidates: Iterable[SimOptions]) -> Iterator[Outcome]:
        yield from [world.run(candidate) for candidate in candidates]

    world = World(30, {5, 21})
    options = SimOptions(seconds=60)
    lazily = world.shrinker(options).shrink()
    assert Shrinker(world.run(options), options, eager).shrink() == lazily


def test_a_run_that_passes_cannot_be_made_smaller() -> None:
    with pytest.raises(AssertionError, match="only a failing run"):
        Shrinker(Outcome(1, "", 0, 0, "os", {}, {}, []), SimOptions(), World(1, ()).evaluate)


@given(st.sets(st.builds("{}{}".format, st.sampled_from(["f", "m", "d", "j"]), st.integers(0, 30))))
def test_ranges_of_names_are_read_back(names: set[str]) -> None:
    text = ranges_of(names)
    assert set(names_of(text)) == names
    assert len(names) < 2 or text.count(",") < len(names)


def test_ranges_are_short_and_wrong_ones_are_refused() -> None:
    assert ranges_of(["f1", "f3", "f2", "m2", "f7"]) == "f1-f3,f7,m2"
    assert names_of("f1-3, m2,,odd") == ("f1", "f2", "f3", "m2", "odd")
    with pytest.raises(CallerError, match="empty range"):
        names_of("f9-f1")
    with pytest.raises(CallerError, match="more than"):
        names_of("f0-f999999")
