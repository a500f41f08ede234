"""What a run of load has seen: totals, each kind of operation, and, if asked for, a line for each stretch of time.

A fault shows in the seconds after it, and drowns in a mean over a minute. So every operation is filed under the window
in which it was *due*: the time that its latency counts from, which in an open loop is its place in the schedule and not
when the load generator got round to it. That way an operation that hangs spoils the window that its user waited in.

Failures are counted by the class of their error and never raised; the latencies are those of successes only.

A `Recorder` takes in outcomes while the load runs. What it has taken is a `PhaseResult`, which loses nothing: it can
be sent to another process, added to those of others that ran at the same time, and stored. A `Report` and `Window`s
are what people and scripts read of it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, Literal, get_args

import msgspec

from quorate.bench.histogram import Latencies, decoded

Kind = Literal["put", "get", "read", "update", "insert", "read_modify_write", "scan"]
WRITES: Final[frozenset[str]] = frozenset({"put", "update", "insert", "read_modify_write"})


class Tally(msgspec.Struct):
    """Outcomes of operations."""

    histogram: str = ""
    """Of the successful ones, encoded."""
    errors: dict[str, int] = {}


class WindowTally(msgspec.Struct):
    """Outcomes of the operations that were due in one window."""

    histogram: str
    errors: dict[str, int]
    failed_puts: int
    failed_gets: int


class PhaseResult(msgspec.Struct):
    """All that was recorded of a phase, by one process or by several together."""

    phase: str
    began_unix_ms: int
    seconds: float
    """That it took."""
    kinds: dict[str, Tally]
    window_s: float
    windows: dict[int, WindowTally]
    """By their place from the beginning; only those in which something was due."""


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


class OperationReport(msgspec.Struct, frozen=True):
    """One kind of operation of a phase."""

    count: int
    """Successful ones."""
    ops_per_s: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
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
    """Of all operations that write."""
    failed_gets: int = 0
    """Of all that only read."""
    operations: dict[str, OperationReport] = {}
    """By kind: put, get, read, update, insert, read_modify_write."""


class _Stretch:
    """One window in the making."""

    __slots__ = ("failures", "latencies")

    def __init__(self) -> None:
        self.latencies = Latencies()
        self.failures = Counter[tuple[Kind, str]]()

    def tally(self) -> WindowTally:
        errors = Counter[str]()
        writes = 0
        for (kind, error), count in self.failures.items():
            errors[error] += count
            writes += count if kind in WRITES else 0
        return WindowTally(
            self.latencies.encoded(), dict(sorted(errors.items())), writes, self.failures.total() - writes
        )


class Recorder:
    """Files the outcomes of one phase. `window_s` 0: no windows."""

    def __init__(self, phase: str, window_s: float = 0.0) -> None:
        self._phase = phase
        self._window_s = window_s
        self._latencies: dict[Kind, Latencies] = {kind: Latencies() for kind in get_args(Kind)}
        self._errors: dict[Kind, Counter[str]] = {}
        self._windows: dict[int, _Stretch] = {}
        self._began_unix_ms = int(time.time() * 1000)

    @property
    def done(self) -> int:
        """Operations so far, as far as they succeeded."""
        return sum(latencies.count for latencies in self._latencies.values())

    def succeeded(self, due_s: float, kind: Kind, latency_s: float) -> None:
        """An operation that was due `due_s` after the beginning took `latency_s`."""
        self._latencies[kind].record(latency_s)
        if self._window_s:
            self._window(due_s).latencies.record(latency_s)

    def failed(self, due_s: float, kind: Kind, error: str) -> None:
        self._errors.setdefault(kind, Counter())[error] += 1
        if self._window_s:
            self._window(due_s).failures[kind, error] += 1

    def result(self, seconds: float) -> PhaseResult:
        """All of it; the phase took `seconds`."""
        kinds = {}
        for kind, latencies in self._latencies.items():
            errors = self._errors.get(kind, Counter())
            if latencies.count or errors:
                kinds[str(kind)] = Tally(latencies.encoded(), dict(sorted(errors.items())))
        windows = {index: stretch.tally() for index, stretch in sorted(self._windows.items())}
        return PhaseResult(self._phase, self._began_unix_ms, seconds, kinds, self._window_s, windows)

    def _window(self, due_s: float) -> _Stretch:
        index = int(due_s / self._window_s)
        stretch = self._windows.get(index)
        if stretch is None:
            stretch = self._windows[index] = _Stretch()
        return stretch


def merged(results: Sequence[PhaseResult]) -> PhaseResult:
    """What several processes recorded of one phase, which began in all of them at the same moment."""
    if len(results) == 1:
        return results[0]
    first = results[0]
    kinds: dict[str, list[Tally]] = {}
    windows: dict[int, list[WindowTally]] = {}
    for result in results:
        assert (result.phase, result.window_s) == (first.phase, first.window_s), "results of different phases"
        for kind, tally in result.kinds.items():
            kinds.setdefault(kind, []).append(tally)
        for index, window in result.windows.items():
            windows.setdefault(index, []).append(window)
    return PhaseResult(
        first.phase,
        min(result.began_unix_ms for result in results),
        max(result.seconds for result in results),
        {kind: Tally(_sum(tallies), _errors(tallies)) for kind, tallies in kinds.items()},
        first.window_s,
        {
            index: WindowTally(
                _sum(parts),
                _errors(parts),
                sum(part.failed_puts for part in parts),
                sum(part.failed_gets for part in parts),
            )
            for index, parts in sorted(windows.items())
        },
    )


def report_of(result: PhaseResult) -> Report:
    """The phase in figures."""
    latencies = decoded(tally.histogram for tally in result.kinds.values())
    failed = {kind: sum(tally.errors.values()) for kind, tally in result.kinds.items()}
    failed_puts = sum(count for kind, count in failed.items() if kind in WRITES)
    return Report(
        result.phase,
        round(latencies.count / result.seconds),
        latencies.percentile_ms(50),
        latencies.percentile_ms(99),
        latencies.percentile_ms(99.9),
        _errors(result.kinds.values()),
        _success(latencies.count, sum(failed.values())),
        failed_puts,
        sum(failed.values()) - failed_puts,
        {kind: _operation(tally, result.seconds) for kind, tally in result.kinds.items()},
    )


def windows_of(result: PhaseResult) -> list[Window]:
    """The windows in order, those without any operation too: silence is what a stall looks like."""
    silent = WindowTally("", {}, 0, 0)
    last = max(result.windows, default=-1)
    return [_window(result, index, result.windows.get(index, silent)) for index in range(last + 1)]


def _window(result: PhaseResult, index: int, tally: WindowTally) -> Window:
    latencies = decoded([tally.histogram])
    at_s = index * result.window_s
    return Window(
        result.phase,
        result.began_unix_ms + round(at_s * 1000),
        round(at_s, 3),
        round(latencies.count / result.window_s),
        _success(latencies.count, tally.failed_puts + tally.failed_gets),
        latencies.percentile_ms(50),
        latencies.percentile_ms(99),
        tally.failed_puts,
        tally.failed_gets,
        tally.errors,
    )


def _operation(tally: Tally, seconds: float) -> OperationReport:
    latencies = decoded([tally.histogram])
    return OperationReport(
        latencies.count,
        round(latencies.count / seconds),
        latencies.percentile_ms(50),
        latencies.percentile_ms(99),
        latencies.percentile_ms(99.9),
        tally.errors,
    )


def _sum(tallies: Sequence[Tally] | Sequence[WindowTally]) -> str:
    return decoded(tally.histogram for tally in tallies).encoded()


def _errors(tallies: Iterable[Tally | WindowTally]) -> dict[str, int]:
    total = Counter[str]()
    for tally in tallies:
        total.update(tally.errors)
    return dict(sorted(total.items()))


def _success(succeeded: int, failed: int) -> float:
    return 1.0 if not succeeded + failed else round(1 - failed / (succeeded + failed), 6)
