"""Many runs, on several cores, with their outcomes in the order of the seeds.

Each run is a process-wide affair (it owns its virtual time and nothing else), so runs share nothing and processes that
take one seed after the other are enough (`workers.py`). A seed whose process dies or never ends is a failed seed, not
the end of the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import zip_longest

import msgspec

from quorate.sim.history import Violation
from quorate.sim.mutants.registry import planted
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.replay import replay_command
from quorate.sim.run import Simulation, quiet_logs, run
from quorate.sim.workers import WorkerLost, Workers

__all__ = ["Difference", "Task", "replay_command", "run_batch", "run_task", "run_tasks", "run_twice"]

HASH_SEEDS = (1, 4242)
"""Of the two groups of processes that run each seed twice."""
LINE_LENGTH_MAX = 300
"""What is kept of a line where two runs are compared event by event."""

Task = tuple[int, SimOptions]
"""A seed, and the options of its run."""


class Difference(msgspec.Struct, frozen=True):
    """One seed whose two runs were not the same."""

    seed: int
    first_hash: str
    second_hash: str
    where: str
    """The first event that differs, as each of the two tells it."""


def run_task(task: Task) -> Outcome:
    """`run`, as workers call it."""
    return run(*task)


def limit_s(options: SimOptions) -> float:
    """What one run may take in true seconds: a hundred times what it takes, so that nothing but a run that goes round
    in circles meets this."""
    return 120.0 + 10.0 * options.seconds


def run_tasks(tasks: Iterable[Task], workers: Workers[Task, Outcome]) -> Iterator[Outcome]:
    """The outcome of each, in order. Nothing else may use `workers` meanwhile."""
    given: list[Task] = []

    def remembered() -> Iterator[Task]:
        for task in tasks:
            given.append(task)
            yield task

    for result in workers.results(remembered()):
        seed, _ = given.pop(0)
        yield lost_run(seed, str(result)) if isinstance(result, WorkerLost) else result


def run_batch(seeds: Iterable[int], options: SimOptions, jobs: int, hash_seed: int | None = None) -> Iterator[Outcome]:
    """The outcome of each seed, in order. `jobs` 1 runs them in this process, unless `hash_seed` asks for another."""
    assert jobs >= 1
    if jobs == 1 and hash_seed is None:
        for seed in seeds:
            yield run(seed, options)
        return
    with Workers(run_task, jobs, limit_s=limit_s(options), hash_seed=hash_seed) as workers:
        yield from run_tasks(((seed, options) for seed in seeds), workers)


def lost_run(seed: int, why: str) -> Outcome:
    """What is known of a run that told nothing itself."""
    return Outcome(seed, "", 0, 0, "", {}, {}, [Violation("exception", f"{why}; run it alone to see more")])


def run_twice(seeds: Iterable[int], options: SimOptions, jobs: int) -> Iterator[tuple[Outcome, Difference | None]]:
    """Each seed in two processes whose string hashes differ: its outcome, and the difference if there is one.

    Not only the traces must be equal but all that was counted and judged, too.
    """
    wanted = list(seeds)
    each = max(1, jobs // 2)
    pair = [run_batch(wanted, options, each, hash_seed) for hash_seed in HASH_SEEDS]
    try:
        for first, second in zip_longest(*pair):
            yield first, None if first == second else _difference(first, second, options)
    finally:
        for batch in pair:
            batch.close()  # type: ignore[attr-defined]


def _difference(first: Outcome, second: Outcome, options: SimOptions) -> Difference:
    where = [f"the {name}" for name in first.__struct_fields__ if getattr(first, name) != getattr(second, name)]
    if first.trace_hash != second.trace_hash:
        sides = [_events_elsewhere(first.seed, options, hash_seed) for hash_seed in HASH_SEEDS]
        where = [_first_difference(*sides)]
    return Difference(first.seed, first.trace_hash, second.trace_hash, ", ".join(where))


Events = list[tuple[str, str]]
"""The hash of all up to an event, and its line."""


def _events_elsewhere(seed: int, options: SimOptions, hash_seed: int) -> Events:
    with Workers(events_of, 1, limit_s=2 * limit_s(options), hash_seed=hash_seed) as workers:
        for result in workers.results([(seed, options)]):
            return [("", str(result))] if isinstance(result, WorkerLost) else result
    raise AssertionError("one task has one result")


def events_of(task: Task) -> Events:
    """Every event of a run. Only for two runs that are known to differ: as costly as a transcript."""
    events: Events = []

    def tell(line: str) -> None:
        events.append((simulation.trace.digest(), line[:LINE_LENGTH_MAX]))

    with quiet_logs(), planted(task[1].mutant):
        simulation = Simulation(*task, transcript=tell)
        simulation.run()
    return events


def _first_difference(first: Events, second: Events) -> str:
    for number, (one, other) in enumerate(zip_longest(first, second, fillvalue=("", "(no event any more)")), start=1):
        if one != other:
            return f"event {number} is «{one[1].strip()}» and «{other[1].strip()}»"
    return "the two runs were equal when they were repeated"
