"""Batches: order, processes that die or hang, each seed twice with other string hashes, and what is left after that."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import closing
from itertools import count, islice

import pytest

from quorate.sim import batch as module
from quorate.sim.batch import run_batch, run_twice
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.run import run
from quorate.sim.workers import LOST_IN_A_ROW_MAX, WorkerLost, Workers
from tests.unit.worker_tasks import work

OPTIONS = SimOptions(seconds=2, nodes=3, clients=2)
LIMIT_S = 60.0


def test_results_come_in_the_order_of_the_tasks() -> None:
    with Workers(work, 2, limit_s=LIMIT_S) as workers:
        results = list(workers.results(range(20, 40)))
        assert [result[0] for result in results if not isinstance(result, WorkerLost)] == list(range(20, 40))
        processes = {result[1] for result in results if not isinstance(result, WorkerLost)}
        assert 1 <= len(processes) <= 2 and os.getpid() not in processes, "processes are used again"


def test_a_process_that_dies_costs_its_task_alone() -> None:
    with Workers(work, 2, limit_s=LIMIT_S) as workers:
        results = list(workers.results([1, 13, 2, 7, 3]))
    lost = [isinstance(result, WorkerLost) for result in results]
    assert lost == [False, True, False, True, False]
    assert "exit code 3" in str(results[1]) and "exit code 1" in str(results[3])


def test_a_task_without_end_is_ended() -> None:
    with Workers(work, 1, limit_s=2.0) as workers:
        first, second = workers.results([99, 1])
    assert isinstance(first, WorkerLost) and "took longer than 2 s" in str(first)
    assert not isinstance(second, WorkerLost)


def test_processes_that_never_start_end_the_batch() -> None:
    with Workers(work, 1, limit_s=LIMIT_S) as workers, pytest.raises(WorkerLost, match="in a row have ended"):
        for number, result in enumerate(workers.results([13] * 100)):
            assert isinstance(result, WorkerLost) and number < LOST_IN_A_ROW_MAX


def test_tasks_are_taken_as_they_are_needed_and_a_new_call_forgets_the_old() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for task in count(100):
            taken.append(task)
            yield task

    with Workers(work, 2, limit_s=LIMIT_S) as workers:
        assert len(list(islice(workers.results(endless()), 3))) == 3
        assert len(taken) <= 3 + 2 * 3
        again = [result for result in workers.results([1, 2, 3]) if not isinstance(result, WorkerLost)]
        assert [result[0] for result in again] == [1, 2, 3]


def test_closing_ends_processes_in_the_midst_of_a_task() -> None:
    before = set(multiprocessing.active_children())
    with closing(Workers(work, 2, limit_s=LIMIT_S)) as workers:
        assert next(workers.results([1, 99])) is not None
        started = set(multiprocessing.active_children()) - before
        assert started
    assert not any(process.is_alive() for process in started)


def test_a_seed_of_string_hashes_is_that_of_the_processes_and_of_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "77")
    hashes = set()
    for hash_seed in (1, 4242, 1):
        with Workers(work, 1, limit_s=LIMIT_S, hash_seed=hash_seed) as workers:
            (result,) = workers.results([1])
            assert not isinstance(result, WorkerLost)
            hashes.add(result[2])
    assert len(hashes) == 2
    assert os.environ["PYTHONHASHSEED"] == "77"


def test_workers_give_the_same_outcomes_in_the_order_of_the_seeds() -> None:
    assert list(run_batch(range(4), OPTIONS, jobs=2)) == list(run_batch(range(4), OPTIONS, jobs=1))


def test_each_seed_twice() -> None:
    found = list(run_twice(range(2), OPTIONS, jobs=2))
    assert [difference for _, difference in found] == [None, None]
    assert [outcome for outcome, _ in found] == [run(seed, OPTIONS) for seed in range(2)]


def test_two_runs_that_differ_are_told_apart_event_by_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for an order that depends on hashes: the second process runs with other options."""
    real = run_batch

    def batch(seeds: list[int], options: SimOptions, jobs: int, hash_seed: int) -> Iterator[Outcome]:
        return real(seeds, options if hash_seed == 1 else SimOptions(seconds=6, nodes=3, clients=2), 1)

    def events(seed: int, options: SimOptions, hash_seed: int) -> list[tuple[str, str]]:
        return [("a", "same"), (f"b{hash_seed}", f"after {hash_seed}")]

    monkeypatch.setattr(module, "run_batch", batch)
    monkeypatch.setattr(module, "_events_elsewhere", events)
    ((outcome, difference),) = run_twice([5], OPTIONS, 1)
    assert difference is not None and difference.first_hash == outcome.trace_hash != difference.second_hash
    assert difference.where == "event 2 is «after 1» and «after 4242»"


def test_the_events_of_a_run_end_in_its_trace_hash() -> None:
    events = module.events_of((3, OPTIONS))
    outcome = run(3, OPTIONS)
    assert len(events) == outcome.events and events[-1][0] == outcome.trace_hash
    assert len({digest for digest, _ in events}) == len(events)
