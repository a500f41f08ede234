"""Processes that run one task after the other, in an environment of their own choosing.

Invariants:
- Results come in the order of the tasks. At most a few tasks a worker are ahead of the result that is waited for.
- A task whose process dies, or takes longer than the limit, costs its result and no other: the process is replaced.
- `close` ends all processes at once, also in the midst of a task; so an interrupt ends a batch soon. Workers
  themselves do not react to Ctrl-C.

Rejected: `ProcessPoolExecutor`. It cannot end a task that is under way, one dead process breaks the whole pool, and
all its processes have the environment (the seed of string hashes) of this one.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar, cast

from quorate.core.errors import QuorateError

TASKS_AHEAD_PER_JOB = 3
JOIN_TIMEOUT_S = 10.0
LOST_IN_A_ROW_MAX = 8
"""After so many without a result between them it is not the tasks' fault: no process starts at all."""
HASH_SEED_VARIABLE = "PYTHONHASHSEED"

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkerLost(QuorateError):
    """A process ended, or was ended, in the midst of its task. The message says how."""


class _Worker:
    """One process, and the task that it is at (None: it waits for one)."""

    def __init__(self, function: Callable[[Task], Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()
        self.ticket: tuple[int, int] | None = None
        """(call of `results`, index of the task) of what it is at."""
        self.deadline_s = 0.0

    def end(self) -> None:
        self.process.kill()
        self.process.join(JOIN_TIMEOUT_S)
        self.connection.close()


class Workers(Generic[Task, Result]):
    """`jobs` processes that apply `function`, a module's own, to tasks. They start when they are needed."""

    def __init__(
        self, function: Callable[[Task], Result], jobs: int, *, limit_s: float, hash_seed: int | None = None
    ) -> None:
        """`limit_s`: what one task may take. `hash_seed`: of the processes' string hashes; None: as in this one."""
        assert jobs >= 1
        self._function = function
        self._jobs = jobs
        self._limit_s = limit_s
        self._hash_seed = hash_seed
        self._workers: list[_Worker] = []
        self._calls = 0
        self._lost_in_a_row = 0

    def results(self, tasks: Iterable[Task]) -> Iterator[Result | WorkerLost]:
        """The result of each task, in order. A call ends the one before, whose tasks under way are of no use then.

        Raises `WorkerLost` if process after process ends without any result.
        """
        self._calls += 1
        call = self._calls
        waiting = enumerate(tasks)
        found: dict[int, Result | WorkerLost] = {}
        given = yielded = 0
        exhausted = False
        while True:
            while not exhausted and given - yielded < self._jobs * TASKS_AHEAD_PER_JOB:
                worker = self._idle()
                if worker is None:
                    break
                index, task = next(waiting, (-1, None))
                if index < 0:
                    exhausted = True
                    break
                self._give(worker, (call, index), cast(Task, task))
                given += 1
            if yielded in found:
                yield found.pop(yielded)
                yielded += 1
                assert call == self._calls, "a later call of `results` has taken over"
            elif exhausted and yielded == given:
                return
            else:
                self._collect(call, found)

    def _idle(self) -> _Worker | None:
        for worker in self._workers:
            if worker.ticket is None:
                return worker
        if len(self._workers) == self._jobs:
            return None
        with _environment(self._hash_seed):
            worker = _Worker(self._function)
        self._workers.append(worker)
        return worker

    def _give(self, worker: _Worker, ticket: tuple[int, int], task: Task) -> None:
        worker.ticket = ticket
        worker.deadline_s = time.monotonic() + self._limit_s
        with suppress(OSError):  # It has died; who waits for its result finds that out.
            worker.connection.send(task)

    def _collect(self, call: int, found: dict[int, Result | WorkerLost]) -> None:
        """Wait until some worker is done, has died or has had its time."""
        busy = {worker.connection: worker for worker in self._workers if worker.ticket is not None}
        assert busy, "nothing is under way that could be waited for"
        patience_s = max(0.0, min(worker.deadline_s for worker in busy.values()) - time.monotonic())
        ready = wait(list(busy), patience_s)
        late = [worker for worker in busy.values() if worker.deadline_s <= time.monotonic()]
        for worker in [busy[cast("Connection[object, object]", connection)] for connection in ready] or late:
            assert worker.ticket is not None
            its_call, index = worker.ticket
            result = self._result_of(worker, bool(ready))
            worker.ticket = None
            if its_call == call:
                found[index] = result

    def _result_of(self, worker: _Worker, ready: bool) -> Result | WorkerLost:
        reason = f"was ended, as it took longer than {self._limit_s:.0f} s"
        if ready:
            try:
                result = cast(Result, worker.connection.recv())
                self._lost_in_a_row = 0
                return result
            except (EOFError, OSError):
                worker.process.join(JOIN_TIMEOUT_S)
                reason = f"ended by itself with exit code {worker.process.exitcode}"
        worker.end()
        self._workers.remove(worker)
        self._lost_in_a_row += 1
        if self._lost_in_a_row == LOST_IN_A_ROW_MAX:
            raise WorkerLost(f"{LOST_IN_A_ROW_MAX} processes in a row have ended; the last one {reason}, see above")
        return WorkerLost(f"the process that ran it {reason}")

    def close(self) -> None:
        """End all processes, whatever they are at."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def __enter__(self) -> Workers[Task, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _environment(hash_seed: int | None) -> Iterator[None]:
    """A process that is started meanwhile has string hashes of this seed."""
    if hash_seed is None:
        yield
        return
    before = os.environ.get(HASH_SEED_VARIABLE)
    os.environ[HASH_SEED_VARIABLE] = str(hash_seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ[HASH_SEED_VARIABLE]
        else:
            os.environ[HASH_SEED_VARIABLE] = before


def _serve(connection: Connection[object, object], function: Callable[[object], object]) -> None:
    """The life of a worker: until the other side of the connection is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # What is imported stays; looking at it again in each collection only costs time.
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        connection.send(function(task))
