"""Load on a cluster: puts, gets or both over random keys, in a closed loop or on a schedule (see `arrivals`).

The shape is that of a bare loop (choose a key, call, note the time), so that its figures can be compared with a floor
measured the same way. What it adds is what a real writer does: it passes the context of what it last wrote under a
key, for a put without one stands beside everything else and would only measure growing siblings. Each key belongs to
one writer at a time while it is written; two that meet on a key take turns by choosing again.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any, Final, Protocol

import msgspec

from quorate.bench.arrivals import Operation, closed_loop, open_loop
from quorate.bench.report import Recorder, Report, Window
from quorate.core.errors import QuorateError

PRELOAD_ATTEMPTS: Final = 20
PRELOAD_PAUSE_S: Final = 0.1
"""What is measured comes after the preload, so a busy moment in it must not end the run."""


class Target(Protocol):
    """A bucket under load, such as `quorate.aio.Bucket`."""

    async def put(self, key: Any, value: Any, context: Any = ...) -> str: ...

    async def get(self, key: Any) -> Any: ...


class Load(msgspec.Struct, frozen=True):
    """What is asked of the cluster."""

    concurrency: int = 64
    seconds: float = 10.0
    value_bytes: int = 1000
    keys: int = 20_000
    warm_up_seconds: float = 1.0
    rate_per_s: float = 0.0
    """Arrivals of an open loop; 0: a closed loop of `concurrency` workers."""
    window_s: float = 0.0
    """Length of the windows to report; 0: none."""


class Bench:
    """Runs phases of `load` against `bucket`; remembers what it wrote from one phase to the next."""

    def __init__(self, bucket: Target, load: Load) -> None:
        self._bucket = bucket
        self._load = load
        self._keys = [b"user%012d" % number for number in range(load.keys)]
        self._value = os.urandom(load.value_bytes)
        self._contexts: dict[bytes, str | None] = {}
        self.stopped = False
        self._busy: set[bytes] = set()

    async def preload(self) -> None:
        """Write every key that this run has not written, so that each get finds a value.

        Raises the `QuorateError` of a key that could not be written in `PRELOAD_ATTEMPTS` attempts.
        """
        missing = iter([key for key in self._keys if key not in self._contexts])

        async def worker() -> None:
            for key in missing:
                for attempt in range(1, PRELOAD_ATTEMPTS + 1):
                    try:
                        await self._put(key)
                        break
                    except QuorateError:
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

    async def run(self, phase: str) -> tuple[Report, list[Window]]:
        """One phase, "put", "get" or "mixed" (as many puts as gets), warmed up before it is measured."""
        if self._load.warm_up_seconds:
            await self._measure(phase, self._load.warm_up_seconds)
        recorder, seconds = await self._measure(phase, self._load.seconds)
        return recorder.report(seconds), recorder.windows()

    async def _measure(self, phase: str, seconds: float) -> tuple[Recorder, float]:
        load = self._load
        put: Operation = ("put", self._put_random)
        get: Operation = ("get", self._get_random)
        choices = {"put": (put,), "get": (get,), "mixed": (put, get)}[phase]
        recorder = Recorder(phase, load.window_s)
        if load.rate_per_s:
            took = await open_loop(lambda: random.choice(choices), load.rate_per_s, seconds, recorder, self._stopped)
        else:
            took = await closed_loop(lambda: random.choice(choices), load.concurrency, seconds, recorder, self._stopped)
        return recorder, took

    def stop(self) -> None:
        """End the phase that is under way, and begin no other."""
        self.stopped = True

    def _stopped(self) -> bool:
        return self.stopped

    async def _put_random(self) -> None:
        key = random.choice(self._keys)
        if len(self._busy) < len(self._keys):
            while key in self._busy:
                key = random.choice(self._keys)
        await self._put(key)

    async def _put(self, key: bytes) -> None:
        """Replace what this run knows under `key`; the first put of a key reads what an earlier run left there."""
        contexts = self._contexts
        self._busy.add(key)
        try:
            if key not in contexts:
                contexts[key] = (await self._bucket.get(key)).context or None
            contexts[key] = await self._bucket.put(key, self._value, contexts[key])
        except QuorateError:
            contexts.pop(key, None)
            raise
        finally:
            self._busy.discard(key)

    async def _get_random(self) -> None:
        if not await self._bucket.get(random.choice(self._keys)):
            raise MissingValue("a key that was written holds no value")


class MissingValue(QuorateError):
    """A get found nothing under a key that this run has written."""
