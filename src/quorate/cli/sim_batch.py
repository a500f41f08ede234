"""Many simulated runs: progress while they go on, failures as they come, and what they amount to.

An interrupt ends the batch soon, with the summary of what has run.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quorate.cli.exit_codes import ERROR, INTERRUPTED, OK
from quorate.cli.sim_story import VIOLATIONS_SHOWN, show_outcome
from quorate.cli.tables import show_table, table_of
from quorate.sim.batch import Difference, run_batch, run_twice
from quorate.sim.coverage import EXPECTED, LONG_BATCH_RUNS
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.summary import Count, Summary, versions

SEEDS_SHOWN = 10
"""Of those that were idle."""

Judged = Iterator[tuple[Outcome, Difference | None]]


def simulate(
    first: int, runs: int, options: SimOptions, jobs: int, *, twice: bool, as_json: bool, report: Path | None
) -> int:
    """Run `runs` seeds from `first` on, and tell what came of it; returns the exit code."""
    started_s = time.monotonic()
    seeds = range(first, first + runs)
    own = versions(importlib.metadata.version("quorate"))
    summary = Summary(first_seed=first, seeds=runs, options=options, versions=own, twice=twice)
    if runs > 1:
        click.echo(f"seeds {first} to {first + runs - 1}, {options.seconds:g} virtual seconds each", err=True)
    judged = run_twice(seeds, options, jobs) if twice else _once(seeds, options, min(jobs, runs))
    try:
        with closing(judged):  # type: ignore[type-var]
            _follow(judged, summary, as_json)
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.elapsed_s = round(time.monotonic() - started_s, 3)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=1) + b"\n")
    if as_json:
        click.echo(json.dumps(_sum_line(summary)))
    else:
        _show(summary)
    return INTERRUPTED if summary.interrupted else OK if summary.ok else ERROR


def _once(seeds: range, options: SimOptions, jobs: int) -> Judged:
    with closing(run_batch(seeds, options, jobs)) as outcomes:  # type: ignore[type-var]
        for outcome in outcomes:
            yield outcome, None


def _follow(judged: Judged, summary: Summary, as_json: bool) -> None:
    """Show each outcome as it comes."""
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = summary.seeds == 1 or not console.is_terminal
    failures = TextColumn("{task.fields[failures]}")
    with Progress(*columns, failures, console=console, transient=True, disable=hidden) as progress:
        task = progress.add_task("", total=summary.seeds, failures="")
        for outcome, difference in judged:
            summary.add(outcome, difference)
            if as_json:
                line = {**msgspec.to_builtins(outcome), "ok": outcome.ok and difference is None}
                if summary.twice:
                    line["difference"] = msgspec.to_builtins(difference)
                click.echo(json.dumps(line))
            elif summary.seeds == 1 or not outcome.ok:
                show_outcome(outcome, summary.options)
            if difference is not None and not as_json:
                _show_difference(difference)
            failed = summary.runs - summary.passed
            progress.update(task, advance=1, failures=f"[red]{failed} failed[/]" if failed else "")


def _show_difference(difference: Difference) -> None:
    verdict = click.style("DIFFERENT", fg="red", bold=True)
    click.echo(f"seed {difference.seed}: {verdict}  traces {difference.first_hash} and {difference.second_hash}")
    click.echo(f"  {difference.where}")


def _sum_line(summary: Summary) -> dict[str, object]:
    """The last line of `--json`: sums, and the seeds that failed."""
    return {
        "first_seed": summary.first_seed,
        "runs": summary.runs,
        "elapsed_s": summary.elapsed_s,
        "cluster_hours": round(summary.cluster_hours, 3),
        "operations": _times(summary.operations),
        "faults": _times(summary.faults),
        "reached": _times(summary.reached),
        "states": _times(summary.states),
        "failed": [failed.seed for failed in summary.failed],
        "different": [difference.seed for difference in summary.different],
        "idle": [idle.seed for idle in summary.idle],
        "unreached": summary.unreached,
    }


def _times(counts: Mapping[str, Count]) -> dict[str, int]:
    return {name: counts[name].times for name in sorted(counts)}


def _show(summary: Summary) -> None:
    if summary.runs > 1:
        table = table_of("what happened", "times", "runs")
        for name, counts in (("operation", summary.operations), ("fault", summary.faults), ("state", summary.states)):
            order = [state for state in EXPECTED if state in counts] if name == "state" else sorted(counts)
            for what in order:
                table.add_row(f"{name}: {what}", f"{counts[what].times:,}", f"{counts[what].runs:,}")
            table.add_section()
        for state in summary.unreached:
            table.add_row(f"[red]state: {state}[/]", "[red]0[/]", "[red]0[/]")
        show_table(table)
        faults = f"{summary.faults_injected:,} faults, {summary.operations_total:,} operations"
        click.echo(f"{summary.cluster_hours:.2f} cluster-hours, {faults}, {summary.events:,} events")
    else:
        for name, counts in (
            ("operations", summary.operations),
            ("faults", summary.faults),
            ("states", summary.states),
        ):
            told = ", ".join(f"{times} {what}" for what, times in _times(counts).items())
            click.echo(f"{name}: {told or 'none'}")
    _show_doubts(summary)
    _show_verdict(summary)


def _show_doubts(summary: Summary) -> None:
    """What passed, and yet proves less than it seems to."""
    for idle in summary.idle[:SEEDS_SHOWN]:
        click.secho(f"seed {idle.seed} shows nothing: {idle.reason}", fg="yellow")
    if summary.idle_runs > SEEDS_SHOWN:
        click.secho(f"… and {summary.idle_runs - SEEDS_SHOWN} more runs that show nothing", fg="yellow")
    if summary.unreached:
        what = "; ".join(summary.unreached)
        click.secho(f"not reached in {summary.runs} runs ({LONG_BATCH_RUNS} should do): {what}", fg="red")


def _show_verdict(summary: Summary) -> None:
    if summary.violations:
        counted = ", ".join(f"{check} {times}" for check, times in sorted(summary.violations.items()))
        click.echo(f"violations by check: {counted}")
        for failed in summary.failed[:VIOLATIONS_SHOWN] if summary.runs > 1 else ():
            click.echo(f"  make it smaller: {failed.replay.replace(' --trace', ' --shrink')}")
    if summary.twice:
        click.echo(f"each seed ran twice: {summary.different_runs or 'no'} seeds with a difference")
    failures = summary.runs - summary.passed
    verdict = f"{failures} of {summary.runs} runs failed" if failures else f"all {summary.runs} runs passed"
    last = summary.first_seed + summary.seeds - 1
    wanted = f", interrupted after {summary.runs} of {summary.seeds}" if summary.interrupted else ""
    click.echo(f"{verdict} (seeds {summary.first_seed} to {last}{wanted}, {summary.elapsed_s:.1f} s)")
