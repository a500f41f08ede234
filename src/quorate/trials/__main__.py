"""The command line of the trials: which ones, how long, and what came of them.

    python -m quorate.trials kill --cycles 200 --json kill.json
    python -m quorate.trials all --cycles 10

Exit code 1: a check found something; its folder is kept and named. A trial that this machine or user does not allow is
named as skipped, with the reason, and is no failure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from quorate.trials.nemesis import NEMESES
from quorate.trials.run import CYCLES_DEFAULT, CYCLES_MAX, Options, Report, Say, run_trial
from quorate.trials.workload import CLIENTS_DEFAULT

ALL = "all"
CLIENTS_MAX = 200
VIOLATIONS_SHOWN = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line names; returns the exit code."""
    options = _parse(arguments)
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    out = Console(highlight=False, soft_wrap=True)
    reports = []
    for trial in NEMESES if options.trial == ALL else [options.trial]:
        with _progress(trial, options.cycles) as say:
            wanted = Options(trial, seed, options.cycles, options.clients)
            report = asyncio.run(run_trial(wanted, say))
        _show(out, report)
        reports.append(report)
    if options.json is not None:
        documents = [document_of(report) for report in reports]
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(documents if options.trial == ALL else documents[0], indent=1) + "\n")
    return 0 if all(report.ok for report in reports) else 1


def document_of(report: Report) -> dict[str, object]:
    """A report as JSON-able facts, without what belongs to this machine."""
    document: dict[str, object] = msgspec.to_builtins(report)
    del document["folder"]
    return document


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m quorate.trials",
        description="Break a cluster of five real processes under load, and check what its clients were told.",
        epilog="example: python -m quorate.trials kill --cycles 200 --json kill.json",
    )
    parser.add_argument("trial", choices=[*NEMESES, ALL])
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier trial")
    parser.add_argument(
        "--cycles", type=int, default=CYCLES_DEFAULT, help=f"faults, one after the other [{CYCLES_DEFAULT}]"
    )
    parser.add_argument("--clients", type=int, default=CLIENTS_DEFAULT, help=f"[{CLIENTS_DEFAULT}]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    options = parser.parse_args(arguments)
    for name, maximum in (("cycles", CYCLES_MAX), ("clients", CLIENTS_MAX)):
        if not 1 <= getattr(options, name) <= maximum:
            parser.error(f"--{name} must be from 1 to {maximum}")
    return options


@contextmanager
def _progress(trial: str, cycles: int) -> Iterator[Say]:
    """A bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (
        TextColumn(trial),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=cycles)
        yield lambda what, done: progress.update(task, description=what, completed=done)


def _show(out: Console, report: Report) -> None:
    verdict = "FAILED" if not report.ok else "ok" if report.cycles else "skipped"
    out.print(
        f"{report.trial}: {verdict}  seed {report.seed}, {report.cycles} cycles, {report.seconds} s", markup=False
    )
    for name, counts in (("operations", report.operations), ("faults", report.faults)):
        if counts:
            out.print(f"  {name}: " + ", ".join(f"{times} {what}" for what, times in counts.items()), markup=False)
    if report.changes:
        text = (
            f"{report.changes} batches on disks; {report.unfinished} under way at a death, {report.dropped} not stored"
        )
        out.print(f"  {text}", markup=False)
    for reason in report.skipped:
        out.print(f"  skipped: {reason}", markup=False)
    for violation in report.violations[:VIOLATIONS_SHOWN]:
        out.print(f"  {violation.check}: {violation.message}", markup=False)
    if len(report.violations) > VIOLATIONS_SHOWN:
        out.print(f"  … and {len(report.violations) - VIOLATIONS_SHOWN} more", markup=False)
    if report.folder:
        out.print(f"  everything is kept in {report.folder}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
