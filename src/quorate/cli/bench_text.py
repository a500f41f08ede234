"""What `quorate bench` prints: lines for people, JSON lines for scripts, and a bar for whoever waits at a terminal."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import click
import msgspec

from quorate.bench.checked import Verdict
from quorate.bench.crew import Carrier
from quorate.bench.report import Report, Window
from quorate.bench.results import NotApplicable

SHOW_INTERVAL_S: Final = 0.25
Line = Report | Window | Verdict | NotApplicable


def say(line: Line, as_json: bool) -> None:
    """Print it on stdout."""
    if as_json:
        click.echo(msgspec.json.encode(line))
    elif isinstance(line, Report):
        click.echo(_report_text(line))
    elif isinstance(line, Window):
        click.echo(_window_text(line))
    elif isinstance(line, Verdict):
        click.echo(f"check {line.keys:>8} keys read: {line.lost} lost an acknowledged put, {line.unread} not readable")
    else:
        click.echo(f"{line.phase:5} not applicable: {line.reason}")


@asynccontextmanager
async def shown_progress(
    carrier: Carrier, title: str, seconds: float = 0.0, operations: int = 0
) -> AsyncIterator[None]:
    """A bar on stderr over `seconds`, or over `operations`, while the body runs; only where somebody looks on."""
    if not watched():
        yield
        return
    showing = asyncio.create_task(_show(carrier, title, seconds, operations))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


def watched() -> bool:
    """Whether there is a terminal to show progress on."""
    return sys.stderr.isatty()


async def _show(carrier: Carrier, title: str, seconds: float, operations: int) -> None:
    from rich.console import Console  # noqa: PLC0415 - as in `tables`: only people pay for it
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[done]:,} operations"))
    # It is drawn when it is told to, and by no thread that competes with the load.
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True, auto_refresh=False
    ) as bar:
        task = bar.add_task(title, total=seconds or operations, done=0)
        began = time.monotonic()
        while True:
            done = carrier.done
            bar.update(task, completed=time.monotonic() - began if seconds else done, done=done, refresh=True)
            await asyncio.sleep(SHOW_INTERVAL_S)


def _report_text(report: Report) -> str:
    lines = [_figures(f"{report.phase:5}", report.ops_per_s, report.p50_ms, report.p99_ms, report.p999_ms)]
    lines[0] += _errors(report.success, report.errors)
    if len(report.operations) > 1:
        for kind, part in report.operations.items():
            name = kind.replace("_", "-")
            lines.append(_figures(f"  {name:17}", part.ops_per_s, part.p50_ms, part.p99_ms, part.p999_ms))
    return "\n".join(lines)


def _figures(name: str, ops_per_s: int, p50_ms: float, p99_ms: float, p999_ms: float) -> str:
    return f"{name:19} {ops_per_s:>8} ops/s   p50 {p50_ms:.2f} ms   p99 {p99_ms:.2f} ms   p99.9 {p999_ms:.2f} ms"


def _window_text(window: Window) -> str:
    text = (
        f"{window.phase:5} at {window.at_s:>6.1f} s {window.ops_per_s:>8} ops/s   p50 {window.p50_ms:.2f} ms   "
        f"p99 {window.p99_ms:.2f} ms"
    )
    return text + _errors(window.success, window.errors)


def _errors(success: float, errors: dict[str, int]) -> str:
    if not errors:
        return ""
    return f"   {success:.3%} succeeded; errors: " + ", ".join(f"{kind} {count}" for kind, count in errors.items())
