"""transfers: the change of membership that is under way, and what it waits for.

`following` is the progress bar of all commands that look on: on stderr, and only on a terminal. Whoever looks on holds
nothing up: the nodes carry a plan out by themselves, and Ctrl-C ends the looking.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from quorate.cli.cluster_link import ClusterLink
from quorate.cli.membership_text import (
    PlanProgress,
    plan_text,
    rate_text,
    stage_text,
    waits_of,
)
from quorate.cli.options import node_options
from quorate.cli.tables import duration_text, show_table, shown, size_text, table_of

WAITS_SHOWN_MAX = 20

OnProgress = Callable[[dict[str, Any]], None]


@click.command(
    "transfers", epilog="\b\nExamples:\n  quorate transfers --watch\n  quorate transfers --json | jq .waiting"
)
@click.option("--watch", is_flag=True, help="Show progress until the change has come to its end.")
@node_options
def transfers_command(watch: bool, node: str, password: str | None, as_json: bool) -> None:
    """Show the change of membership that is under way: its stage, who is filled, and what is waited for.

    --watch with --json prints the last answer, when the change has ended.
    """
    with ClusterLink(node, password) as link:
        document = link.ask("KV.TRANSFERS")
        if watch and document["plan"] is not None:
            document = watch_plan(link, document)
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        print_transfers(document)


def watch_plan(link: ClusterLink, document: dict[str, Any]) -> dict[str, Any]:
    """Show progress until the plan of `document` has ended; gives the document that says so.

    Raises `KeyboardInterrupt` if the operator has seen enough, after saying that the plan goes on.
    """
    plan = document["plan"]
    try:
        link.learn_members()
        with following(plan_text(document)) as on_progress:

            def ended(found: dict[str, Any]) -> bool:
                if found["plan"] == plan:
                    on_progress(found)
                return bool(found["plan"] != plan)

            return link.until(ended, "KV.TRANSFERS", document["ring_version"])
    except KeyboardInterrupt:
        click.echo(
            f"plan {plan} goes on without you: `quorate transfers --watch` shows it, `quorate abort` takes it back",
            err=True,
        )
        raise


@contextlib.contextmanager
def following(title: str) -> Iterator[OnProgress]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda document: None
        return
    from rich.console import Console  # noqa: PLC0415 - costs more than all the rest of a command
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True)
    console.print(title, markup=False)
    columns = (BarColumn(20), TextColumn("{task.percentage:>3.0f}%  {task.description}", markup=False))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("", total=1.0)
        progress = PlanProgress()

        def show(document: dict[str, Any]) -> None:
            fraction, text = progress.told(document, time.monotonic())
            bar.update(task, completed=fraction, description=text)

        yield show


def print_transfers(document: dict[str, Any]) -> None:
    """The document of KV.TRANSFERS for people."""
    click.echo(plan_text(document))
    if document["plan"] is None:
        return
    click.echo(stage_text(document))
    table = table_of("node", "ring version", "filled", "partitions left", "received", "rate", "time left")
    for member in document["members"]:
        table.add_row(*_row(member))
    show_table(table)
    waits = waits_of(document)
    for wait in waits[:WAITS_SHOWN_MAX]:
        click.echo(f"waiting: {wait}" if wait in document["waiting"] else wait)
    if len(waits) > WAITS_SHOWN_MAX:
        click.echo(f"and {len(waits) - WAITS_SHOWN_MAX} more; --json shows all")


def _row(member: dict[str, Any]) -> list[str]:
    name, version = member["name"], shown(member["confirmed"])
    if member["filled"] is None:
        return [name, version, "need not be", *("–",) * 4]
    received = f"{member['received_records']} records, {size_text(member['received_bytes'])}"
    if member["filled"]:
        return [name, version, "yes", f"0 of {member['partitions']}", received, "–", "–"]
    left = f"{member['partitions_left']} of {member['partitions']}"
    seconds = member["seconds_left"]
    time_left = "unknown" if seconds is None else f"about {duration_text(seconds)}"
    return [name, version, "not yet", left, received, rate_text(member["bytes_per_s"]), time_left]
