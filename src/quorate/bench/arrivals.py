"""When operations begin: in a closed loop, or on a schedule.

A *closed loop* has so many workers, each with one operation at a time. It shows what a cluster can do, and hides how a
service feels: while the cluster stands still nobody asks, so one stall of a second is one slow operation.

An *open loop* lets operations arrive on a fixed schedule, whatever became of the earlier ones, as users do. Latency
counts from the scheduled time, so a stall is seen by everybody who arrived in it, also when it was the load generator
that was late (no coordinated omission). What is in flight is bounded; arrivals above that fail as `NotSent`.

What is due is started in steps of `TICK_S`. Timers of the loop are no finer; a shorter wait is none, and the load
generator then turns idly on a processor that the nodes, on the same machine, could use. So up to a tick of each latency
is the generator's own.

Rejected: random (Poisson) arrivals. They are truer, and make two short runs harder to compare.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Final

from quorate.bench.report import Kind, Recorder
from quorate.core.errors import QuorateError

IN_FLIGHT_MAX: Final = 16_384
"""Operations of an open loop: beyond these the load generator would only measure its own memory."""

TICK_S: Final = 0.001

Operation = tuple[Kind, Callable[[], Awaitable[None]]]
"""What it is, and how to do it once."""


def _never() -> bool:
    return False


async def closed_loop(
    next_operation: Callable[[], Operation],
    workers: int,
    seconds: float,
    to: Recorder,
    stopped: Callable[[], bool] = _never,
) -> float:
    """Run `workers` at once for `seconds`, or until `stopped()`; gives the seconds that it took."""
    began = time.perf_counter()
    stop = began + seconds

    async def worker() -> None:
        while (sent := time.perf_counter()) < stop and not stopped():
            kind, operation = next_operation()
            try:
                await operation()
            except QuorateError as error:
                to.failed(sent - began, kind, type(error).__name__)
                # A cluster that refuses at once must not turn the workers into a busy loop that starves it.
                await asyncio.sleep(0.01)
            else:
                to.succeeded(sent - began, kind, time.perf_counter() - sent)

    await asyncio.gather(*(worker() for _ in range(workers)))
    return time.perf_counter() - began


async def open_loop(
    next_operation: Callable[[], Operation],
    rate_per_s: float,
    seconds: float,
    to: Recorder,
    stopped: Callable[[], bool] = _never,
    first_s: float = 0.0,
) -> float:
    """Start `rate_per_s` operations a second for `seconds`, or until `stopped()`, and wait for the last; gives the
    seconds that it took. The first is due after `first_s`."""
    began = time.perf_counter()
    running: set[asyncio.Task[None]] = set()

    async def one(kind: Kind, operation: Callable[[], Awaitable[None]], due_s: float) -> None:
        try:
            await operation()
        except QuorateError as error:
            to.failed(due_s, kind, type(error).__name__)
        else:
            to.succeeded(due_s, kind, time.perf_counter() - began - due_s)

    total = int(rate_per_s * seconds)
    started = 0
    while started < total and not stopped():
        due = min(total, math.floor((time.perf_counter() - began - first_s) * rate_per_s) + 1)
        for number in range(started, due):
            due_s = first_s + number / rate_per_s
            kind, operation = next_operation()
            if len(running) >= IN_FLIGHT_MAX:
                to.failed(due_s, kind, "NotSent")
                continue
            task = asyncio.create_task(one(kind, operation, due_s))
            running.add(task)
            task.add_done_callback(running.discard)
        started = max(started, due)
        await asyncio.sleep(max(TICK_S, first_s + started / rate_per_s - (time.perf_counter() - began)))
    took_s = time.perf_counter() - began
    await asyncio.gather(*running)
    return took_s if stopped() else max(seconds, time.perf_counter() - began)
