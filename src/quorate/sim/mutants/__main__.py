"""Hunt planted bugs, each from several first seeds, and write down in how many seeds a check saw it.

    python -m quorate.sim.mutants --ranges 3 --jobs 2 --json docs/reliability/mutants.json

About an hour for all of them on two cores. Exit code 1: one was not caught.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from quorate._compiled import run_upon_sources
from quorate.sim.mutants.document import MutantFacts, MutantFound, found
from quorate.sim.mutants.hunt import SEEDS_MAX, hunt_ranges
from quorate.sim.mutants.registry import Mutant, mutants


def main(arguments: Sequence[str] | None = None) -> int:
    """Hunt what the command line names; returns the exit code."""
    run_upon_sources()  # A planted bug replaces functions, and those of an extension cannot be replaced.
    options = _parse(arguments)
    wanted = [one for one in mutants().values() if not options.names or one.name in options.names]
    results = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("hunting", total=len(wanted))
        for one in wanted:
            progress.update(task, description=one.name)
            results.append(_hunted(one, options))
            sys.stdout.write(f"{one.name}: {_told(results[-1])}\n")
            progress.advance(task)
    if options.json is not None:
        facts = msgspec.json.encode(MutantFacts(options.ranges, options.seeds, results))
        options.json.write_bytes(msgspec.json.format(facts, indent=1) + b"\n")
    return 0 if all(one.unseen_because or one.median is not None for one in results) else 1


def _hunted(one: Mutant, options: argparse.Namespace) -> MutantFound:
    if one.unseen_because:
        return found(one, [])
    return found(one, hunt_ranges(one, options.ranges, options.seeds, options.jobs))


def _told(one: MutantFound) -> str:
    if one.unseen_because:
        return f"not hunted, as {one.unseen_because}"
    caught = ", ".join("not caught" if seeds is None else str(seeds) for seeds in one.caught_in)
    return f"{caught} ({', '.join(one.seen_by) or 'nothing'})"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m quorate.sim.mutants",
        description="Hunt planted bugs with the simulator.",
        epilog="example: python -m quorate.sim.mutants sync-drops-a-sibling --ranges 1",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="all, if none is named (quorate sim --mutants lists them)"
    )
    parser.add_argument("--ranges", type=int, default=3, help="how many hunts, each with seeds of its own [3]")
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help=f"of one hunt at most [{SEEDS_MAX}]")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes [one per core]")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the facts there, too")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in mutants()]
    if unknown:
        parser.error(f"unknown mutant '{unknown[0]}'; there are: {', '.join(mutants())}")
    if min(options.ranges, options.seeds, options.jobs) < 1:
        parser.error("--ranges, --seeds and --jobs must be 1 or more")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
