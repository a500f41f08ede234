"""What a run of load has seen: totals and, if asked for, a line for each stretch of time.

A fault shows in the seconds after it, and drowns in a mean over a minute. So every operation is filed under the window
in which it was *due*: the time that its latency counts from, which in an open loop is its place in the schedule and not
when the load generator got round to it. That way an operation that hangs spoils the window that its user waited in.

Failures are counted by the class of their error and never raised; the latencies are those of successes only.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Literal

import msgspec

from quorate.bench.histogram import Latencies

Kind = Literal["put", "get"]


class Window(msgspec.Struct, frozen=True):
    """One stretch of a phase. Times are of when operations were due."""

    phase: str
    unix_ms: int
    """When it began."""
    at_s: float
    """The same, from the beginning of the phase."""
    ops_per_s: int
    """Successful ones."""
    success: float
    """Share of successful operations; 1 if there were none."""
    p50_ms: float
    p99_ms: float
    failed_puts: int
    failed_gets: int
    errors: dict[str, int]


class Report(msgspec.Struct, frozen=True):
    """One phase. Latencies are of successful operations only; failed ones are counted by their kind."""

    phase: str
    ops_per_s: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: dict[str, int]
    success: float = 1.0
    failed_puts: int = 0
    failed_gets: int = 0


class _Tally:
    __slots__ = ("errors", "failed", "latencies")

    def __init__(self) -> None:
        self.latencies = Latencies()
        self.errors = Counter[str]()
        self.failed: dict[Kind, int] = {"put": 0, "get": 0}

    def success(self) -> float:
        failed = sum(self.failed.values())
        total = self.latencies.count + failed
        return 1.0 if total == 0 else round(1 - failed / total, 6)


class Recorder:
    """Files the outcomes of one phase. `window_s` 0: no windows."""

    def __init__(self, phase: str, window_s: float = 0.0) -> None:
        self._phase = phase
        self._window_s = window_s
        self._total = _Tally()
        self._windows: dict[int, _Tally] = {}
        self._began_unix_ms = int(time.time() * 1000)

    def succeeded(self, due_s: float, latency_s: float) -> None:
        """An operation that was due `due_s` after the beginning took `latency_s`."""
        for tally in self._tallies(due_s):
            tally.latencies.record(latency_s)

    def failed(self, due_s: float, kind: Kind, error: str) -> None:
        for tally in self._tallies(due_s):
            tally.errors[error] += 1
            tally.failed[kind] += 1

    def report(self, seconds: float) -> Report:
        """The whole phase, which took `seconds`."""
        total = self._total
        latencies = total.latencies
        return Report(
            self._phase,
            round(latencies.count / seconds),
            latencies.percentile_ms(50),
            latencies.percentile_ms(99),
            latencies.percentile_ms(99.9),
            dict(sorted(total.errors.items())),
            total.success(),
            total.failed["put"],
            total.failed["get"],
        )

    def windows(self) -> list[Window]:
        """The windows in order, those without any operation too: silence is what a stall looks like."""
        last = max(self._windows, default=-1)
        return [self._window(index, self._windows.get(index) or _Tally()) for index in range(last + 1)]

    def _window(self, index: int, tally: _Tally) -> Window:
        at_s = index * self._window_s
        return Window(
            self._phase,
            self._began_unix_ms + round(at_s * 1000),
            round(at_s, 3),
            round(tally.latencies.count / self._window_s),
            tally.success(),
            tally.latencies.percentile_ms(50),
            tally.latencies.percentile_ms(99),
            tally.failed["put"],
            tally.failed["get"],
            dict(sorted(tally.errors.items())),
        )

    def _tallies(self, due_s: float) -> list[_Tally]:
        if not self._window_s:
            return [self._total]
        index = int(due_s / self._window_s)
        tally = self._windows.get(index)
        if tally is None:
            tally = self._windows[index] = _Tally()
        return [self._total, tally]
