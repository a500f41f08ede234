"""What all loads have in common: phases that are warmed up and measured, and keys that are each written once.

A load says which operations there are (`operations`); whether they come in a closed loop or on a schedule is a matter
of `arrivals`. The shape is that of a bare loop (choose a key, call, note the time), so that its figures can be compared
with a floor measured the same way.

Several processes may carry one load. Each is told its place among them and takes its share; what it does is otherwise
the same, so a run with one process is no special case.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol, TypeVar

import msgspec

from quorate._process import settle_garbage_collector
from quorate.bench.arrivals import Operation, closed_loop, open_loop
from quorate.bench.report import PhaseResult, Recorder
from quorate.core.errors import QuorateError

PRELOAD_ATTEMPTS: Final = 20
PRELOAD_PAUSE_S: Final = 0.1
"""What is measured comes after the keys are written, so a busy moment in that must not end the run."""
T = TypeVar("T")


class Target(Protocol):
    """A bucket under load, such as `quorate.aio.Bucket`."""

    async def put(self, key: Any, value: Any, context: Any = ...) -> str: ...

    async def get(self, key: Any) -> Any: ...


class Load(msgspec.Struct, frozen=True):
    """What is asked of the cluster."""

    concurrency: int = 64
    seconds: float = 10.0
    value_bytes: int = 1000
    """Of a value in one piece; see `fields`."""
    keys: int = 20_000
    warm_up_seconds: float = 1.0
    rate_per_s: float = 0.0
    """Arrivals of an open loop; 0: a closed loop of `concurrency` workers."""
    window_s: float = 0.0
    """Length of the windows to report; 0: none."""
    fields: int = 0
    """A value is a record of so many fields; 0: it is `value_bytes` in one piece."""
    field_bytes: int = 100
    process: int = 0
    """Which of `processes` this is, from 0. `concurrency` and `rate_per_s` are those of this one, `keys` of all."""
    processes: int = 1

    def share(self, process: int, processes: int) -> Load:
        """What one of several processes does of this."""
        workers = self.concurrency // processes + (process < self.concurrency % processes)
        return msgspec.structs.replace(
            self, concurrency=workers, rate_per_s=self.rate_per_s / processes, process=process, processes=processes
        )


class MissingValue(QuorateError):
    """A get found nothing under a key that was written."""


class Runner(ABC):
    """Runs phases of `load` against `bucket`."""

    def __init__(self, bucket: Target, load: Load) -> None:
        self._bucket = bucket
        self._load = load
        self._recorder = Recorder("")
        self.stopped = False

    @abstractmethod
    def operations(self, phase: str) -> Callable[[], Operation]:
        """What gives the next operation of a phase, each time that it is called."""

    @abstractmethod
    async def load(self) -> PhaseResult | None:
        """Write the keys; what was measured of that, if it is to be reported.

        Raises the `QuorateError` of a key that could not be written in `PRELOAD_ATTEMPTS` attempts.
        """

    async def warm_up(self, phase: str) -> None:
        if self._load.warm_up_seconds and not self.stopped:
            await self._run(phase, self._load.warm_up_seconds)

    async def measure(self, phase: str) -> PhaseResult:
        return await self._run(phase, self._load.seconds)

    @property
    def done(self) -> int:
        """Operations of the phase that is under way."""
        return self._recorder.done

    def stop(self) -> None:
        """End the phase that is under way, and begin no other."""
        self.stopped = True

    async def _run(self, phase: str, seconds: float) -> PhaseResult:
        load = self._load
        choose = self.operations(phase)
        # What is there by now stays: a collector that walks over it in the midst of a phase is measured as a stall.
        settle_garbage_collector()
        recorder = self._recorder = Recorder(phase, load.window_s)
        if load.rate_per_s:
            # The processes take turns: together they keep the schedule that one alone would keep.
            first_s = load.process / (load.rate_per_s * load.processes)
            took = await open_loop(choose, load.rate_per_s, seconds, recorder, self._is_stopped, first_s)
        else:
            took = await closed_loop(choose, load.concurrency, seconds, recorder, self._is_stopped)
        return recorder.result(took)

    def _is_stopped(self) -> bool:
        return self.stopped

    async def _each(
        self, items: Iterable[T], act: Callable[[T], Awaitable[None]], failed: Callable[[QuorateError], None]
    ) -> None:
        """`act` once for every item, as many at once as the load says; again if it failed, after telling `failed`."""
        left = iter(items)

        async def worker() -> None:
            for item in left:
                for attempt in range(1, PRELOAD_ATTEMPTS + 1):
                    if self.stopped:
                        return
                    try:
                        await act(item)
                        break
                    except QuorateError as error:
                        failed(error)
                        if attempt == PRELOAD_ATTEMPTS:
                            raise
                        await asyncio.sleep(PRELOAD_PAUSE_S)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._load.concurrency):
                    group.create_task(worker())
        except* QuorateError as errors:
            error = errors.exceptions[0]
        else:
            return
        raise error
