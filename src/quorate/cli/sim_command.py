"""`quorate sim`: deterministic simulation of whole clusters, many seeds at a time.

A failing seed is reported at once with the command that replays it. Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quorate.cli.exit_codes import ERROR, OK
from quorate.sim.batch import replay_command, run_batch
from quorate.sim.faults import KINDS
from quorate.sim.run import Outcome, SimOptions, run

RUNS_MAX = 1_000_000
VIOLATIONS_SHOWN = 5


def _fault_kinds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    if text is None:
        return KINDS
    kinds = tuple(kind.strip() for kind in text.split(",") if kind.strip() and kind.strip() != "none")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise click.BadParameter(f"unknown fault '{unknown[0]}'; there are: {', '.join(KINDS)}")
    return kinds


@click.command("sim", epilog="Example: quorate sim --seed 1 --runs 300 --jobs 2")
@click.option("--seed", type=click.IntRange(0), help="First seed; drawn at random if left out.")
@click.option("--runs", type=click.IntRange(1, RUNS_MAX), default=1, show_default=True, help="How many seeds.")
@click.option("--seconds", type=click.FloatRange(1, 86_400), default=60.0, show_default=True, help="Virtual, per run.")
@click.option("--nodes", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option("--clients", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--keys", type=click.IntRange(1, 1000), default=5, show_default=True, help="In each of three buckets.")
@click.option("--cold-keys", type=click.IntRange(0, 10_000), default=40, show_default=True, help="Seldom used ones.")
@click.option("--durability", type=click.Choice(["os", "fsync"]), help="By default each seed chooses.")
@click.option("--faults", callback=_fault_kinds, metavar="A,B,…", help="Kinds that may occur, or 'none'. Default: all.")
@click.option("--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, show_default="one per core")
@click.option("--trace", is_flag=True, help="Print a transcript of every event (one run only).")
@click.option("--json", "as_json", is_flag=True, help="One JSON line per run, and one for the sum.")
def sim_command(
    seed: int | None,
    runs: int,
    seconds: float,
    nodes: int,
    clients: int,
    keys: int,
    cold_keys: int,
    durability: str | None,
    faults: tuple[str, ...],
    jobs: int,
    trace: bool,
    as_json: bool,
) -> int:
    """Simulate whole clusters with faults, and check what they did.

    Each run is a cluster of real nodes on virtual time, with a network, disks, clocks and faults drawn from its seed.
    The same seed and options give the same trace hash on every machine. Exit code 1: a check failed.
    """
    if trace and runs != 1:
        raise click.UsageError("--trace prints the transcript of one run; leave --runs out")
    settings = {"nodes": nodes, "seconds": seconds, "clients": clients, "keys": keys, "cold_keys": cold_keys}
    options = msgspec.convert({**settings, "durability": durability, "faults": faults}, SimOptions)
    first = secrets.randbelow(1 << 32) if seed is None else seed
    started = time.monotonic()
    if trace:
        outcomes: Iterator[Outcome] = iter([run(first, options, click.echo)])
    else:
        outcomes = run_batch(range(first, first + runs), options, min(jobs, runs))
    total = _follow(outcomes, runs, options, as_json)
    _summarise(total, first, runs, time.monotonic() - started, as_json)
    return ERROR if total["failed"] else OK


def _follow(outcomes: Iterator[Outcome], runs: int, options: SimOptions, as_json: bool) -> dict[str, dict[str, int]]:
    """Show each outcome as it comes; returns sums: operations, faults, reached, failed (seed → violations)."""
    total: dict[str, dict[str, int]] = {"operations": {}, "faults": {}, "reached": {}, "failed": {}}
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=runs == 1 or not console.is_terminal) as progress:
        task = progress.add_task("", total=runs)
        for outcome in outcomes:
            for name, counts in (
                ("operations", outcome.operations),
                ("faults", outcome.faults),
                ("reached", outcome.reached),
            ):
                for what, times in counts.items():
                    total[name][what] = total[name].get(what, 0) + times
            if as_json:
                click.echo(json.dumps({**msgspec.to_builtins(outcome), "ok": outcome.ok}))
            elif runs == 1 or not outcome.ok:
                _show(outcome, options)
            if not outcome.ok:
                total["failed"][str(outcome.seed)] = len(outcome.violations)
            progress.advance(task)
    return total


def _show(outcome: Outcome, options: SimOptions) -> None:
    verdict = click.style("ok", fg="green") if outcome.ok else click.style("FAILED", fg="red", bold=True)
    click.echo(f"seed {outcome.seed}: {verdict}  trace {outcome.trace_hash}  durability {outcome.durability}")
    for violation in outcome.violations[:VIOLATIONS_SHOWN]:
        click.echo(f"  {violation.check}: {violation.message}")
    if not outcome.ok:
        more = len(outcome.violations) - VIOLATIONS_SHOWN
        if more > 0:
            click.echo(f"  … and {more} more")
        click.echo(f"  replay: {replay_command(outcome.seed, options)}")


def _summarise(total: dict[str, dict[str, int]], first: int, runs: int, elapsed_s: float, as_json: bool) -> None:
    failed = total["failed"]
    if as_json:
        document = {"first_seed": first, "runs": runs, "elapsed_s": round(elapsed_s, 3), **total}
        click.echo(json.dumps({**document, "failed": [int(seed) for seed in failed]}))
        return
    for name in ("operations", "faults", "reached"):
        counts = ", ".join(f"{times} {what}" for what, times in sorted(total[name].items()))
        click.echo(f"{name}: {counts or 'none'}")
    verdict = f"{len(failed)} of {runs} runs failed" if failed else f"all {runs} runs passed"
    click.echo(f"{verdict} (seeds {first} to {first + runs - 1}, {elapsed_s:.1f} s)")
