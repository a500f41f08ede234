"""bench: how much a cluster does, and how fast."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import click
import msgspec

from quorate.bench.checked import CheckedBench, Verdict
from quorate.bench.load import Bench, Load
from quorate.bench.report import Report, Window
from quorate.cli.cluster_access import ClusterAccess
from quorate.cli.exit_codes import ERROR, OK
from quorate.cli.options import bucket_bytes, node_options
from quorate.core.limits import REQUEST_TIMEOUT_DEFAULT_MS, REQUEST_TIMEOUT_MAX_MS, VALUE_BYTES_MAX_DEFAULT

PHASES = {"put": ["put"], "get": ["get"], "put,get": ["put", "get"], "mixed": ["mixed"]}


@click.command(
    "bench",
    epilog="\b\nExamples:\n  quorate bench --seconds 10\n  quorate bench --workload get --concurrency 256 --json\n"
    "  quorate bench --workload mixed --rate 1000 --seconds 60 --windows 1     latency as users would see it",
)
@click.option("--workload", type=click.Choice(list(PHASES)), default="put,get", show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 4096), default=64, show_default=True, help="Requests in flight.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1_000_000, min_open=True),
    metavar="OPS",
    help="Start so many operations a second on a fixed schedule, whatever became of the others (an open loop, in which "
    "--concurrency says nothing); latency counts from the scheduled time.",
)
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="For each phase.")
@click.option("--value-bytes", type=click.IntRange(0, VALUE_BYTES_MAX_DEFAULT), default=1000, show_default=True)
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
@click.option("--bucket", default="bench", show_default=True, help="Where the keys go; they stay there.")
@node_options
def bench_command(
    workload: str,
    concurrency: int,
    rate: float | None,
    seconds: float,
    value_bytes: int,
    keys: int,
    warm_up: float,
    windows: float | None,
    timeout_ms: int,
    check: bool,
    bucket: str,
    node: str,
    password: str | None,
    as_json: bool,
) -> int:
    """Put and get random keys, and print throughput and latencies of each phase.

    The workload "mixed" is half puts, half gets. Failed operations are counted by kind, and the run goes on.

    --json prints a line per phase: phase, ops_per_s, p50_ms, p99_ms, p999_ms, errors, success, failed_puts,
    failed_gets; and before it, with --windows, a line per window: phase, unix_ms, at_s, ops_per_s, success, p50_ms,
    p99_ms, failed_puts, failed_gets, errors.

    Ctrl-C (or SIGTERM) ends it early and reports what was measured until then.

    With --check, a get that misses a put which was acknowledged before the get began is an error of kind StaleRead; and
    after the last phase every key is read once more: the last line says how many keys there are, of how
    many the newest acknowledged put is lost, and how many could not be read (keys, lost, unread). Exits with 1 if there
    was any of that.
    """
    load = Load(concurrency, seconds, value_bytes, keys, warm_up, rate or 0.0, windows or 0.0)
    # The load generator should not be what is measured, so it uses the faster loop too.
    import uvloop  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(
            _run(load, PHASES[workload], bucket_bytes(bucket), (node, password, timeout_ms), as_json, check)
        )


async def _run(
    load: Load, phases: list[str], name: bytes, where: tuple[str, str | None, int], as_json: bool, check: bool
) -> int:
    async with ClusterAccess(*where) as access:
        bucket: Any = access.bucket(name)
        bench = CheckedBench(bucket, load) if check else Bench(bucket, load)
        stale = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, bench.stop)
        await bench.preload()
        for phase in phases:
            if bench.stopped:
                break
            report, windows = await bench.run(phase)
            for window in windows:
                click.echo(msgspec.json.encode(window).decode() if as_json else _window_line(window))
            click.echo(msgspec.json.encode(report).decode() if as_json else _line(report))
            stale += report.errors.get("StaleRead", 0)
        if not isinstance(bench, CheckedBench):
            return OK
        verdict = await bench.verify()
        click.echo(msgspec.json.encode(verdict).decode() if as_json else _verdict_line(verdict))
        return ERROR if stale or verdict.lost or verdict.unread else OK


def _verdict_line(verdict: Verdict) -> str:
    return f"check {verdict.keys:>8} keys read: {verdict.lost} lost an acknowledged put, {verdict.unread} not readable"


def _line(report: Report) -> str:
    text = (
        f"{report.phase:5} {report.ops_per_s:>8} ops/s   p50 {report.p50_ms:.2f} ms   p99 {report.p99_ms:.2f} ms   "
        f"p99.9 {report.p999_ms:.2f} ms"
    )
    return text + _errors(report.success, report.errors)


def _window_line(window: Window) -> str:
    text = (
        f"{window.phase:5} at {window.at_s:>6.1f} s {window.ops_per_s:>8} ops/s   p50 {window.p50_ms:.2f} ms   "
        f"p99 {window.p99_ms:.2f} ms"
    )
    return text + _errors(window.success, window.errors)


def _errors(success: float, errors: dict[str, int]) -> str:
    if not errors:
        return ""
    return f"   {success:.3%} succeeded; errors: " + ", ".join(f"{kind} {count}" for kind, count in errors.items())
