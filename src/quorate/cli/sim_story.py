"""One simulated run for a person: its verdict, its transcript, and the search for a smaller one that fails as well."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from quorate.cli.exit_codes import ERROR, OK
from quorate.core.errors import CallerError
from quorate.sim.batch import limit_s, run_task, run_tasks
from quorate.sim.options import Outcome, SimOptions
from quorate.sim.replay import replay_command
from quorate.sim.run import run
from quorate.sim.shrink import Shrinker, Shrunk
from quorate.sim.transcript import LEGEND, MARK, run_with_transcript
from quorate.sim.workers import Workers

VIOLATIONS_SHOWN = 5
LINES_SHOWN = 200
"""Of the transcript of the smallest run, before the first violation."""
LINES_AFTER = 20


def show_outcome(outcome: Outcome, options: SimOptions) -> None:
    """The verdict on one run; if it failed, with what was violated and how to see it again."""
    verdict = click.style("ok", fg="green") if outcome.ok else click.style("FAILED", fg="red", bold=True)
    click.echo(f"seed {outcome.seed}: {verdict}  trace {outcome.trace_hash}  durability {outcome.durability}")
    for violation in outcome.violations[:VIOLATIONS_SHOWN]:
        click.echo(f"  {violation.check}: {violation.message}")
    if not outcome.ok:
        more = len(outcome.violations) - VIOLATIONS_SHOWN
        if more > 0:
            click.echo(f"  … and {more} more")
        click.echo(f"  replay: {replay_command(outcome.seed, options)}")


def tell(seed: int, options: SimOptions, about: str, only: tuple[str, ...]) -> int:
    """The transcript of one run, as it goes; returns the exit code."""
    outcome = run_with_transcript(seed, options, click.echo, about, only)
    show_outcome(outcome, options)
    return OK if outcome.ok else ERROR


def shrink_and_tell(seed: int, options: SimOptions, jobs: int, runs_max: int, about: str, only: tuple[str, ...]) -> int:
    """Find the smallest run that fails as this one does, and tell how it ends; returns the exit code."""
    outcome = run(seed, options)
    if outcome.ok:
        click.echo(f"seed {seed} passes; there is nothing to make smaller", err=True)
        return OK
    show_outcome(outcome, options)
    shrunk = _search(outcome, options, jobs, runs_max)
    smallest = shrunk.outcome
    rest = "" if shrunk.complete else "; --shrink-runs was reached, more may help"
    click.echo(f"smallest of {shrunk.runs} runs: {_size(shrunk.options, smallest)}{rest}")
    _tell_where_it_fails(seed, shrunk.options, about, only)
    show_outcome(smallest, shrunk.options)
    return ERROR


def _tell_where_it_fails(seed: int, options: SimOptions, about: str, only: tuple[str, ...]) -> None:
    """What happened before the first violation, and a little of what came after."""
    before: deque[str] = deque(maxlen=LINES_SHOWN)
    after: list[str] = []
    told = 0

    def keep(line: str) -> None:
        nonlocal told
        if line == LEGEND:
            return
        told += 1
        if not after and MARK not in line:
            before.append(line)
        elif len(after) < LINES_AFTER:
            after.append(line)

    try:
        run_with_transcript(seed, options, keep, about, only)
    except CallerError as error:
        click.echo(f"{error}; here is all of it", err=True)
        run_with_transcript(seed, options, keep, "", only)
    click.echo(LEGEND)
    click.echo(f"… of {told} lines, those around the first violation:")
    for line in [*before, *after]:
        click.echo(line)


def _search(outcome: Outcome, options: SimOptions, jobs: int, runs_max: int) -> Shrunk:
    seed = outcome.seed
    columns = (TextColumn("making it smaller"), BarColumn(), MofNCompleteColumn(), TextColumn("runs"))
    console = Console(stderr=True)
    with Workers(run_task, jobs, limit_s=limit_s(options)) as workers:

        def evaluate(candidates: Iterable[SimOptions]) -> Iterator[Outcome]:
            return run_tasks(((seed, candidate) for candidate in candidates), workers)

        shrinker = Shrinker(outcome, options, evaluate, runs_max)
        size = TextColumn("{task.fields[size]}")
        shown = Progress(*columns, size, TimeElapsedColumn(), console=console, transient=True)
        shown.disable = not console.is_terminal
        with shown as progress:
            task = progress.add_task("", total=runs_max, size="")
            shrinker.on_run = lambda: progress.update(
                task, completed=shrinker.runs, size=_size(shrinker.options, shrinker.outcome)
            )
            return shrinker.shrink()


def _size(options: SimOptions, outcome: Outcome) -> str:
    faults = "1 fault" if len(outcome.occurred) == 1 else f"{len(outcome.occurred)} faults"
    clients = f"{options.clients} clients" if options.clients else "as many clients as the seed chooses"
    keys = f"{options.keys} + {options.cold_keys} keys"
    return f"{options.seconds:g} s, {faults}, {outcome.nodes} nodes, {clients}, {keys}"
