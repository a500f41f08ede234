"""Load on a cluster: workers in a closed loop, each with one request at a time, over random keys.

The shape is that of a bare loop (choose a key, call, note the time), so that its figures can be compared with a floor
measured the same way. What it adds is what a real writer does: it passes the context of what it last wrote under a
key, for a put without one stands beside everything else and would only measure growing siblings. Each key belongs to
one worker at a time while it is written; two workers that meet on a key take turns by choosing again.

Rejected: an open loop with a fixed rate. It measures better how a service feels at that rate, and worse what a cluster
can do; it comes with the YCSB workloads.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from typing import Any, Protocol

import msgspec

from quorate.bench.histogram import Latencies
from quorate.core.errors import QuorateError


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


class Report(msgspec.Struct, frozen=True):
    """One phase. Latencies are of successful operations only; failed ones are counted by their kind."""

    phase: str
    ops_per_s: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: dict[str, int]


class Bench:
    """Runs phases of `load` against `bucket`; remembers what it wrote from one phase to the next."""

    def __init__(self, bucket: Target, load: Load) -> None:
        self._bucket = bucket
        self._load = load
        self._keys = [b"user%012d" % number for number in range(load.keys)]
        self._value = os.urandom(load.value_bytes)
        self._contexts: dict[bytes, str | None] = {}
        self._busy: set[bytes] = set()

    async def preload(self) -> None:
        """Write every key that this run has not written, so that each get finds a value. Raises `QuorateError`."""
        missing = iter([key for key in self._keys if key not in self._contexts])

        async def worker() -> None:
            for key in missing:
                await self._put(key)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._load.concurrency):
                group.create_task(worker())

    async def run(self, phase: str) -> Report:
        """One phase, "put" or "get", warmed up before it is measured."""
        operation = {"put": self._put_random, "get": self._get_random}[phase]
        if self._load.warm_up_seconds:
            await self._measure(operation, self._load.warm_up_seconds)
        latencies, errors, seconds = await self._measure(operation, self._load.seconds)
        return Report(
            phase,
            round(latencies.count / seconds),
            latencies.percentile_ms(50),
            latencies.percentile_ms(99),
            latencies.percentile_ms(99.9),
            dict(sorted(errors.items())),
        )

    async def _measure(self, operation: Any, seconds: float) -> tuple[Latencies, Counter[str], float]:
        latencies, errors = Latencies(), Counter[str]()
        began = time.perf_counter()
        stop = began + seconds

        async def worker() -> None:
            while (sent := time.perf_counter()) < stop:
                try:
                    await operation()
                except QuorateError as error:
                    errors[type(error).__name__] += 1
                    # A cluster that refuses at once must not turn the workers into a busy loop that starves it.
                    await asyncio.sleep(0.01)
                else:
                    latencies.record(time.perf_counter() - sent)

        await asyncio.gather(*(worker() for _ in range(self._load.concurrency)))
        return latencies, errors, time.perf_counter() - began

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
