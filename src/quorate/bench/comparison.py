"""Two runs side by side: each figure of each phase that both have, and the ratio of the second to the first.

Ratios are what carries over from one machine to another. What the two runs were asked differently is told too, for a
ratio between different questions is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from quorate.bench.report import OperationReport, Report
from quorate.bench.results import Results

FIGURES: Final = ("ops_per_s", "p50_ms", "p99_ms", "p999_ms")


class Figure(msgspec.Struct, frozen=True):
    """One figure in both runs."""

    first: float
    second: float
    ratio: float | None
    """None if the first is zero."""


class Compared(msgspec.Struct, frozen=True):
    """All operations of a phase, or those of one kind."""

    phase: str
    operation: str
    """A kind of operation, or "all"."""
    ops_per_s: Figure
    p50_ms: Figure
    p99_ms: Figure
    p999_ms: Figure
    success: Figure


class Comparison(msgspec.Struct, frozen=True):
    """Of two runs."""

    rows: list[Compared]
    different: dict[str, tuple[Any, Any]]
    """Options, facts about the host and properties of the bucket that the runs differ in."""
    only_first: list[str]
    only_second: list[str]
    """Phases that the other run lacks."""


def compare(first: Results, second: Results) -> Comparison:
    ours, theirs = _phases(first), _phases(second)
    rows = [row for name, report in ours.items() if name in theirs for row in _rows(name, report, theirs[name])]
    return Comparison(
        rows,
        dict(_differences(first, second)),
        [name for name in ours if name not in theirs],
        [name for name in theirs if name not in ours],
    )


def _phases(results: Results) -> dict[str, Report]:
    """By name; the second of a name is "a (2)"."""
    found: dict[str, Report] = {}
    for phase in results.phases:
        name = phase.report.phase
        again = sum(known == name or known.startswith(f"{name} (") for known in found)
        found[f"{name} ({again + 1})" if again else name] = phase.report
    return found


def _rows(phase: str, first: Report, second: Report) -> Iterator[Compared]:
    yield _row(phase, "all", first, second, _figure(first.success, second.success))
    if len(first.operations) == 1:
        return
    for kind, operation in first.operations.items():
        other = second.operations.get(kind)
        if other is not None:
            yield _row(phase, kind, operation, other, _figure(_success(operation), _success(other)))


def _row(
    phase: str, operation: str, first: Report | OperationReport, second: Report | OperationReport, success: Figure
) -> Compared:
    figures = {name: _figure(getattr(first, name), getattr(second, name)) for name in FIGURES}
    return Compared(phase, operation, success=success, **figures)


def _figure(first: float, second: float) -> Figure:
    return Figure(first, second, round(second / first, 4) if first else None)


def _success(operation: OperationReport) -> float:
    failed = sum(operation.errors.values())
    return round(operation.count / (operation.count + failed), 6) if operation.count + failed else 1.0


def _differences(first: Results, second: Results) -> Iterator[tuple[str, tuple[Any, Any]]]:
    host = {"cpu": (first.host.cpu, second.host.cpu), "cpus": (first.host.cpus, second.host.cpus)}
    pairs = {"version": (first.quorate, second.quorate), **host}
    for ours, theirs in ((first.options, second.options), (first.bucket, second.bucket)):
        pairs |= {name: (ours.get(name), theirs.get(name)) for name in {**ours, **theirs}}
    yield from ((name, pair) for name, pair in pairs.items() if pair[0] != pair[1])
