"""bench: how much a cluster does, and how fast. A group, of which `run` is what is meant where none is named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from quorate.bench.crew import PROCESSES_MAX
from quorate.bench.job import PLAIN
from quorate.bench.ycsb import WORKLOADS
from quorate.cli.bench_results import compare_command, plot_command
from quorate.cli.bench_run import run
from quorate.cli.bench_wanted import (
    FIELD_BYTES_DEFAULT,
    FIELDS_DEFAULT,
    PLAIN_BUCKET,
    VALUE_BYTES_DEFAULT,
    YCSB_BUCKET,
    wanted_of,
)
from quorate.cli.options import node_options
from quorate.core.limits import REQUEST_TIMEOUT_DEFAULT_MS, REQUEST_TIMEOUT_MAX_MS, VALUE_BYTES_MAX_DEFAULT


class Names(click.ParamType[tuple[str, ...]]):
    """Some of a few names, separated by commas."""

    name = "names"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._choices = choices

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip().lower() for part in str(value).split(","))
        for name in names:
            if name not in self._choices:
                self.fail(f"{name!r} is none of {', '.join(self._choices)}", param, ctx)
        return names

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "NAME[,NAME…]"


class DefaultGroup(click.Group):
    """A group that does `run` unless one of its other commands is named first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("bench", cls=DefaultGroup)
def bench_command() -> None:
    """Measure throughput and latency of a cluster."""


bench_command.add_command(compare_command)
bench_command.add_command(plot_command)


@bench_command.command(
    "run",
    epilog="\b\nOther commands:\n  quorate bench compare A.json B.json                   two runs side by side\n"
    "  quorate bench plot RESULT.json… --output FILE.svg     runs as a picture\n"
    "\b\nExamples:\n  quorate bench --seconds 10\n  quorate bench --workload get --concurrency 256 --json\n"
    "  quorate bench --workload mixed --rate 1000 --seconds 60 --windows 1     latency as users would see it\n"
    "  quorate bench --workload a,b,c,f,d --processes 2 --output today.json    the workloads of YCSB",
)
@click.option(
    "--workload",
    type=Names((*PLAIN, *WORKLOADS)),
    default="put,get",
    show_default=True,
    help="put, get, mixed (half and half), or YCSB's workloads a to f; some, in order.",
)
@click.option(
    "--phases",
    type=Names(("load", "run")),
    help="Of a to f: only insert the keys, or only run on keys that are there.  [default: load,run]",
)
@click.option("--concurrency", type=click.IntRange(1, 4096), default=64, show_default=True, help="Requests in flight.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1_000_000, min_open=True),
    metavar="OPS",
    help="Start so many operations a second on a fixed schedule, whatever became of the others (an open loop, in which "
    "--concurrency says nothing); latency counts from the scheduled time.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, PROCESSES_MAX),
    default=1,
    show_default=True,
    help="Of the load: they share --concurrency or --rate, and their figures are added up.",
)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="For each phase.")
@click.option(
    "--value-bytes",
    type=click.IntRange(0, VALUE_BYTES_MAX_DEFAULT),
    help=f"A value is one piece of so many bytes.  [default: {VALUE_BYTES_DEFAULT}; of a to f: --fields]",
)
@click.option(
    "--fields",
    type=click.IntRange(1, 1000),
    help=f"Of a to f: a value is a record of so many fields.  [default: {FIELDS_DEFAULT}]",
)
@click.option(
    "--field-bytes",
    type=click.IntRange(0, VALUE_BYTES_MAX_DEFAULT // 1000),
    help=f"Of each field.  [default: {FIELD_BYTES_DEFAULT}]",
)
@click.option("--keys", type=click.IntRange(1, 10_000_000), default=20_000, show_default=True, help="Different keys.")
@click.option("--warm-up", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds, not measured.")
@click.option("--windows", type=click.FloatRange(min=0.1), metavar="SECONDS", help="Also report each stretch so long.")
@click.option(
    "--timeout-ms",
    type=click.IntRange(1, REQUEST_TIMEOUT_MAX_MS),
    default=REQUEST_TIMEOUT_DEFAULT_MS,
    show_default=True,
    help="An operation fails after this long, retries included.",
)
@click.option("--check", is_flag=True, help="Check that no get misses an acknowledged put, nor the end any of them.")
@click.option(
    "--bucket",
    help=f"Where the keys go; they stay there.  [default: {PLAIN_BUCKET}; of a to f: {YCSB_BUCKET}]",
)
@click.option(
    "--conflicts",
    type=click.Choice(["siblings", "lww"]),
    help=f"Of a to f: what the bucket is to declare.  [default: lww for {YCSB_BUCKET}, else what it declares already]",
)
@click.option(
    "--output", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Also write all results here."
)
@node_options
def run_command(**options: Any) -> int:
    """Measure throughput and latencies of a cluster, phase by phase.

    The workload "mixed" is half puts, half gets. Those of YCSB, a to f, begin with a phase "load" that inserts all
    keys. Failed operations are counted by kind, and the run goes on.

    --json prints a line per phase: phase, ops_per_s, p50_ms, p99_ms, p999_ms, errors, success, failed_puts,
    failed_gets, operations (the same figures by kind of operation); and before it, with --windows, a line per window:
    phase, unix_ms, at_s, ops_per_s, success, p50_ms, p99_ms, failed_puts, failed_gets, errors. A workload that cannot
    be run has a line with phase, applicable (false) and reason.

    Ctrl-C (or SIGTERM) ends it early and reports what was measured until then.

    With --check, a get that misses a put which was acknowledged before the get began is an error of kind StaleRead; and
    after the last phase every key is read once more: the last line says how many keys there are, of how
    many the newest acknowledged put is lost, and how many could not be read (keys, lost, unread). Exits with 1 if there
    was any of that.
    """
    wanted = wanted_of(options)
    # The load generator should not be what is measured, so it uses the faster loop too.
    import uvloop  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(wanted))
