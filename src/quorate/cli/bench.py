"""bench: how much a cluster does, and how fast."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import msgspec

from quorate.bench.load import Bench, Load, Report
from quorate.cli.cluster_access import ClusterAccess
from quorate.cli.options import bucket_bytes, node_options
from quorate.core.limits import VALUE_BYTES_MAX_DEFAULT

PHASES = {"put": ["put"], "get": ["get"], "put,get": ["put", "get"]}


@click.command(
    "bench",
    epilog="\b\nExamples:\n  quorate bench --seconds 10\n  quorate bench --workload get --concurrency 256 --json",
)
@click.option("--workload", type=click.Choice(list(PHASES)), default="put,get", show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 4096), default=64, show_default=True, help="Requests in flight.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=10.0, show_default=True, help="For each phase.")
@click.option("--value-bytes", type=click.IntRange(0, VALUE_BYTES_MAX_DEFAULT), default=1000, show_default=True)
@click.option("--keys", type=click.IntRange(1, 10_000_000), default=20_000, show_default=True, help="Different keys.")
@click.option("--warm-up", type=click.FloatRange(min=0), default=1.0, show_default=True, help="Seconds, not measured.")
@click.option("--bucket", default="bench", show_default=True, help="Where the keys go; they stay there.")
@node_options
def bench_command(
    workload: str,
    concurrency: int,
    seconds: float,
    value_bytes: int,
    keys: int,
    warm_up: float,
    bucket: str,
    node: str,
    password: str | None,
    as_json: bool,
) -> None:
    """Put and get random keys, and print throughput and latencies of each phase.

    --json prints a line per phase: phase, ops_per_s, p50_ms, p99_ms, p999_ms, errors.
    """
    load = Load(concurrency, seconds, value_bytes, keys, warm_up)
    # The load generator should not be what is measured, so it uses the faster loop too.
    import uvloop  # noqa: PLC0415

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(load, PHASES[workload], bucket_bytes(bucket), node, password, as_json))


async def _run(load: Load, phases: list[str], name: bytes, node: str, password: str | None, as_json: bool) -> None:
    async with ClusterAccess(node, password) as access:
        bucket: Any = access.bucket(name)
        bench = Bench(bucket, load)
        await bench.preload()
        for phase in phases:
            report = await bench.run(phase)
            click.echo(msgspec.json.encode(report).decode() if as_json else _line(report))


def _line(report: Report) -> str:
    text = (
        f"{report.phase:4} {report.ops_per_s:>8} ops/s   p50 {report.p50_ms:.2f} ms   p99 {report.p99_ms:.2f} ms   "
        f"p99.9 {report.p999_ms:.2f} ms"
    )
    if report.errors:
        text += "   errors: " + ", ".join(f"{kind} {count}" for kind, count in report.errors.items())
    return text
