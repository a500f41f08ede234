"""`quorate sim`: deterministic simulation of whole clusters, many seeds at a time.

A failing seed is reported at once with the command that replays it. Progress goes to stderr, results to stdout.
What a batch prints is in `sim_batch.py`, how one run is told in `sim_story.py`.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import click
import msgspec

from quorate._compiled import run_upon_sources
from quorate.cli.sim_batch import simulate
from quorate.cli.sim_story import shrink_and_tell, tell
from quorate.cli.tables import show_table, table_of
from quorate.core.errors import CallerError
from quorate.sim.faults import KINDS
from quorate.sim.mutants.registry import mutants
from quorate.sim.options import SimOptions
from quorate.sim.replay import names_of
from quorate.sim.shrink import RUNS_MAX as SHRINK_RUNS_DEFAULT
from quorate.sim.transcript import SUBJECTS

RUNS_MAX = 1_000_000
SEEDS_RANGE = 1 << 32


def _listed(text: str | None, known: tuple[str, ...], what: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in (text or "").split(",") if part.strip() and part.strip() != "none")
    unknown = [part for part in parts if part not in known]
    if unknown:
        raise click.BadParameter(f"unknown {what} '{unknown[0]}'; there are: {', '.join(known)}")
    return parts


def _fault_kinds(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    return KINDS if text is None else _listed(text, KINDS, "fault")


def _subjects(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    return _listed(text, SUBJECTS, "subject")


def _fault_names(_context: click.Context, _parameter: click.Parameter, text: str | None) -> tuple[str, ...]:
    try:
        return names_of(text or "")
    except CallerError as error:
        raise click.BadParameter(str(error)) from error


def _mutant(_context: click.Context, _parameter: click.Parameter, name: str) -> str:
    if name and name not in mutants():
        raise click.BadParameter(f"unknown mutant '{name}'; there are: {', '.join(mutants())}")
    return name


def _list_mutants(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        table = table_of("mutant", "bug", "checks that see it")
        for one in mutants().values():
            table.add_row(one.name, one.bug, ", ".join(one.checks))
        show_table(table)
        context.exit()


@click.command("sim", epilog="Example: quorate sim --seed 1 --runs 300 --jobs 2")
@click.option("--seed", type=click.IntRange(0), help="First seed; drawn at random if left out.")
@click.option("--runs", type=click.IntRange(1, RUNS_MAX), default=1, show_default=True, help="How many seeds.")
@click.option("--seconds", type=click.FloatRange(1, 86_400), default=60.0, show_default=True, help="Virtual, per run.")
@click.option("--nodes", type=click.IntRange(1, 50), help="By default each seed chooses.")
@click.option("--clients", type=click.IntRange(1, 100), help="By default each seed chooses.")
@click.option("--keys", type=click.IntRange(1, 1000), default=5, show_default=True, help="In each of three buckets.")
@click.option("--cold-keys", type=click.IntRange(0, 10_000), default=40, show_default=True, help="Seldom used ones.")
@click.option("--durability", type=click.Choice(["os", "fsync"]), help="By default each seed chooses.")
@click.option("--faults", callback=_fault_kinds, metavar="A,B,…", help="Kinds that may occur, or 'none'. Default: all.")
@click.option("--skip", callback=_fault_names, metavar="F1-F9,M2", help="Single faults that are not to happen.")
@click.option("--mutant", callback=_mutant, default="", metavar="NAME", help="Plant this bug, which a check must find.")
@click.option("--mutants", is_flag=True, is_eager=True, expose_value=False, callback=_list_mutants, help="List them.")
@click.option("--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, show_default="one per core")
@click.option("--twice", is_flag=True, help="Run each seed in two processes, and compare all that happened.")
@click.option("--trace", is_flag=True, help="Print a transcript of every event (one run only).")
@click.option("--about", metavar="KEY", default="", help="Of the transcript, what concerns this key (BUCKET:KEY).")
@click.option("--only", callback=_subjects, metavar="A,B,…", help=f"Of the transcript, these: {', '.join(SUBJECTS)}.")
@click.option("--shrink", is_flag=True, help="Find a smaller run that fails as this seed does, and tell its end.")
@click.option("--shrink-runs", type=click.IntRange(1, 100_000), default=SHRINK_RUNS_DEFAULT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON line per run, and one for the sum.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write one JSON document here.")
def sim_command(
    seed: int | None,
    runs: int,
    jobs: int,
    twice: bool,
    trace: bool,
    about: str,
    only: tuple[str, ...],
    shrink: bool,
    shrink_runs: int,
    as_json: bool,
    report: Path | None,
    skip: tuple[str, ...],
    nodes: int | None,
    clients: int | None,
    **settings: object,
) -> int:
    """Simulate whole clusters with faults, and check what they did.

    Each run is a cluster of real nodes on virtual time, with a network, disks, clocks and faults drawn from its seed.
    The same seed and options give the same trace hash on every machine. Exit code 1: a check failed.
    """
    options = msgspec.convert({**settings, "nodes": nodes or 0, "clients": clients or 0, "skipped": skip}, SimOptions)
    _check_modes(seed, runs, trace, shrink, twice, as_json, report, bool(about or only))
    first = secrets.randbelow(SEEDS_RANGE) if seed is None else seed
    if options.mutant:
        run_upon_sources()  # A planted bug replaces functions, and those of an extension cannot be replaced.
    if shrink:
        return shrink_and_tell(first, options, jobs, shrink_runs, about, only)
    if trace:
        return tell(first, options, about, only)
    return simulate(first, runs, options, jobs, twice=twice, as_json=as_json, report=report)


def _check_modes(
    seed: int | None,
    runs: int,
    trace: bool,
    shrink: bool,
    twice: bool,
    as_json: bool,
    report: Path | None,
    restricted: bool,
) -> None:
    """Refuse options of which one would be ignored."""
    if trace and runs != 1:
        raise click.UsageError("--trace prints the transcript of one run; leave --runs out")
    if shrink and (seed is None or runs != 1):
        raise click.UsageError("--shrink makes one failing run smaller; name it with --seed, and leave --runs out")
    if restricted and not (trace or shrink):
        raise click.UsageError("--about and --only restrict a transcript; add --trace")
    if (trace or shrink) and (twice or as_json or report is not None):
        raise click.UsageError("--trace and --shrink print for a person; leave --twice, --json and --report out")
