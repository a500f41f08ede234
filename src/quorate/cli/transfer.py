"""import and export: whole buckets, in and out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from quorate.cli.cluster_access import ClusterAccess, OverwritingBucket
from quorate.cli.exit_codes import ERROR, OK
from quorate.cli.exporter import Exporter
from quorate.cli.importer import CONCURRENCY_DEFAULT, CONCURRENCY_MAX, Importer
from quorate.cli.journal import Journal, Progress, RejectsFile
from quorate.cli.options import bucket_bytes, node_options
from quorate.cli.retry import PATIENCE_S_DEFAULT, Patience
from quorate.cli.rows import open_rows
from quorate.core.errors import CallerError, OutcomeUnknown, Unavailable
from quorate.server.documents import reason

concurrency_option = click.option(
    "--batch", "concurrency", type=click.IntRange(1, CONCURRENCY_MAX), default=CONCURRENCY_DEFAULT, show_default=True,
    help="Requests in flight.",
)  # fmt: skip
patience_option = click.option(
    "--patience", "patience_s", type=click.FloatRange(min=0), default=PATIENCE_S_DEFAULT, show_default=True,
    help="Stop after so many seconds in which nothing succeeded.",
)  # fmt: skip


@click.command(
    "import",
    epilog="\b\nExamples:\n  quorate import packages packages.jsonl --key Package\n"
    "  quorate import people people.csv --key email --batch 128",
)
@click.argument("bucket")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--key", "key_field", required=True, metavar="FIELD", help="The field that holds a row's key.")
@concurrency_option
@patience_option
@click.option("--restart", is_flag=True, help="Begin anew, whatever an earlier import of this file has done.")
@click.option(
    "--journal", "journal_path", type=click.Path(path_type=Path),
    help="Where to keep how far it got.  [default: FILE.quorate-import]",
)  # fmt: skip
@click.option(
    "--rejects", "rejects_path", type=click.Path(path_type=Path),
    help="Where to report rows that cannot be stored.  [default: FILE.rejects.jsonl]",
)  # fmt: skip
@node_options
def import_command(
    bucket: str,
    file: Path,
    key_field: str,
    concurrency: int,
    patience_s: float,
    restart: bool,
    journal_path: Path | None,
    rejects_path: Path | None,
    node: str,
    password: str | None,
    as_json: bool,
) -> int:
    """Load FILE, JSON Lines or (by its name) CSV, into BUCKET; each row becomes a JSON value.

    Rows overwrite what their keys hold. An import that was interrupted goes on where it was when it is run again. Rows
    that cannot be stored are reported with their line numbers, and the rest goes in; the exit code is then 1.
    """
    name = bucket_bytes(bucket)
    journal_path = journal_path or file.with_name(file.name + ".quorate-import")
    rejects_path = rejects_path or file.with_name(file.name + ".rejects.jsonl")
    with _opened(file) as source:
        journal = Journal.open(journal_path, source, bucket, key_field, restart)
        if journal.resumed:
            click.echo(f"resuming after line {journal.progress.line} ({journal_path})", err=True)
        rejects = RejectsFile(rejects_path, journal.progress.rejects_bytes)
        rows = open_rows(file, source, key_field).rows(journal.progress.offset, journal.progress.line)
        patience = Patience(patience_s)
        total_bytes = source.seek(0, 2)
        began, before = time.monotonic(), journal.progress.imported

        async def run() -> None:
            async with ClusterAccess(node, password) as access:
                journal.belongs_to(access.cluster_id)
                with _bar(total_bytes) as on_progress:
                    sink = OverwritingBucket(access, name)
                    await Importer(rows, sink, journal, rejects, patience, concurrency, on_progress).run()

        def position() -> str:
            done = f"{journal.progress.imported} rows are in, up to line {journal.progress.line}"
            return f"{done}; run the same command again to go on from there"

        try:
            asyncio.run(run())
        except (Unavailable, OutcomeUnknown, CallerError) as error:
            raise type(error)(f"{error}\n{position()}") from None
        except KeyboardInterrupt:
            click.echo(position(), err=True)
            raise
    journal.remove()
    _summarise(journal.progress, before, time.monotonic() - began, patience.retries, rejects_path, as_json)
    return ERROR if journal.progress.rejected else OK


@click.command(
    "export", epilog="\b\nExamples:\n  quorate export carts carts.jsonl\n  quorate export carts | gzip > carts.jsonl.gz"
)
@click.argument("bucket")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@concurrency_option
@patience_option
@node_options
def export_command(
    bucket: str, file: Path | None, concurrency: int, patience_s: float, node: str, password: str | None, as_json: bool
) -> None:
    """Write every key of BUCKET with its value, or all its siblings, to FILE or stdout: a JSON object a line.

    FILE appears when it is complete.
    """
    name = bucket_bytes(bucket)
    with _written(file) as out:
        count = asyncio.run(_export(name, out, node, password, concurrency, Patience(patience_s)))
    if as_json:
        click.echo(json.dumps({"bucket": bucket, "keys": count}), err=file is None)
    else:
        click.echo(f"exported {count} keys", err=True)


async def _export(
    name: bytes, out: BinaryIO, node: str, password: str | None, concurrency: int, patience: Patience
) -> int:
    count = 0
    terminal = sys.stderr.isatty() and not sys.stdout.isatty()

    def on_page(done: int) -> None:
        if terminal:
            click.echo(f"\r{done} keys", nl=False, err=True)

    async with ClusterAccess(node, password) as access:
        async for line in Exporter(access.bucket(name), patience, concurrency, on_page).lines():
            out.write(line)
            count += 1
    if terminal:
        click.echo("\r", nl=False, err=True)
    return count


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise CallerError(f"cannot read {path}: {reason(error)}") from None
    with file:
        yield file


@contextlib.contextmanager
def _written(path: Path | None) -> Iterator[BinaryIO]:
    """stdout, or a file that takes its name once it is whole."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise CallerError(f"cannot write {path}: {reason(error)}") from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _bar(total_bytes: int) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    from rich.console import Console  # noqa: PLC0415 - costs more than all the rest of a command
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.progress import Progress as RichProgress  # noqa: PLC0415

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%  {task.description}"), TimeRemainingColumn())
    began: list[Any] = []
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total_bytes)

        def show(progress: Progress) -> None:
            began[:] = began or [time.monotonic(), progress.imported]
            rate = (progress.imported - began[1]) / max(time.monotonic() - began[0], 0.001)
            text = f"{progress.imported} rows, {rate:.0f}/s"
            text += f", {progress.rejected} rejected" if progress.rejected else ""
            bar.update(task, completed=progress.offset, description=text)

        yield show


def _summarise(
    progress: Progress, before: int, seconds: float, retries: int, rejects_path: Path, as_json: bool
) -> None:
    rejects = str(rejects_path) if progress.rejected else None
    if as_json:
        click.echo(
            json.dumps(
                {
                    "imported": progress.imported,
                    "rejected": progress.rejected,
                    "rejects_file": rejects,
                    "lines": progress.line,
                    "retries": retries,
                    "seconds": round(seconds, 3),
                }
            )
        )
        return
    rate = (progress.imported - before) / max(seconds, 0.001)
    click.echo(f"imported {progress.imported} rows from {progress.line} lines ({rate:.0f} rows/s, {retries} retries)")
    if rejects:
        click.echo(
            f"rejected {progress.rejected} {'row' if progress.rejected == 1 else 'rows'}; see {rejects}:", err=True
        )
        with rejects_path.open("rb") as file:
            for _, line in zip(range(10), file, strict=False):
                row = json.loads(line)
                click.echo(f"  line {row['line']}: {row['reason']}", err=True)
        if progress.rejected > 10:
            click.echo(f"  … and {progress.rejected - 10} more", err=True)
