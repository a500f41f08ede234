"""repair: one pass of anti-entropy now, through every node of the cluster in turn (SOSP 2007, §4.7).

Replicas compare by themselves all the time; this is for those who do not want to wait, and for after a disk's trouble:
each node first reads all of its records and checks them against their checksums, then compares with every other. The
nodes do the work and keep the progress; this command begins it, looks on (a node that is at work answers a question
about it after a moment, not at once) and adds up. Interrupted, it leaves the pass
of the node at work to its end.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from quorate.cli.exit_codes import ERROR, OK, UNAVAILABLE
from quorate.cli.link import Link
from quorate.cli.options import bucket_bytes, node_options
from quorate.cli.tables import show_table, table_of
from quorate.core.errors import QuorateError

RUNNING = ("verifying", "comparing")

OnProgress = Callable[[str, dict[str, Any]], None]


@click.command("repair", epilog="\b\nExamples:\n  quorate repair\n  quorate repair carts --json | jq .complete")
@click.argument("bucket", required=False)
@node_options
def repair_command(bucket: str | None, node: str, password: str | None, as_json: bool) -> int:
    """Verify all stored records, compare all replicas, and repair what is damaged or differs; of BUCKET, or of all.

    Exits with 5 if a node could not be reached or did not come to its end, so that not everything was compared. It is
    safe at any time, beside any load, and again.
    """
    arguments = [bucket_bytes(bucket)] if bucket is not None else []
    with Link(node, password) as link:
        members = link.document("KV.RING")["members"]
    began = time.monotonic()
    passes: dict[str, dict[str, Any]] = {}
    with _bar(len(members)) as on_progress:
        for member in members:
            passes[member["name"]] = _pass(member, password, arguments, on_progress)
    document = summary(passes, time.monotonic() - began)
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        _print(document)
    if document["complete"]:
        return OK
    return ERROR if any(found["state"] == "failed" for found in passes.values()) else UNAVAILABLE


def _pass(
    member: dict[str, Any], password: str | None, arguments: list[bytes], on_progress: OnProgress
) -> dict[str, Any]:
    """One node's pass from its beginning to its end."""
    try:
        with Link(member["client_address"], password) as link:
            found: dict[str, Any] = link.document("KV.REPAIR", "START", *arguments)
            while found["state"] in RUNNING:
                on_progress(member["name"], found)
                found = link.document("KV.REPAIR", "STATUS")
            on_progress(member["name"], found)
            return found
    except QuorateError as error:
        return {"state": "unreachable", "reason": str(error), "complete": False}


def summary(passes: dict[str, dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What all nodes' passes came to; `repaired` counts a record once for each replica that took it."""
    received = sum(found.get("received", 0) for found in passes.values())
    sent = sum(found.get("sent", 0) for found in passes.values())
    return {
        "complete": all(found["complete"] for found in passes.values()),
        "repaired": received + sent,
        "damaged": sum(found.get("damaged", 0) for found in passes.values()),
        "seconds": round(seconds, 1),
        "nodes": passes,
    }


def _print(document: dict[str, Any]) -> None:
    table = table_of("node", "state", "verified", "damaged", "with", "compared", "differed", "got", "gave")
    notes = []
    for name, found in document["nodes"].items():
        if found.get("reason"):
            notes.append(f"{name}: {found['reason']}")
        verified = _share(found["verified"], found["partitions"]) if "verified" in found else "–"
        first = [name, found["state"], verified, str(found.get("damaged", "–"))]
        for other, peer in found.get("peers", {}).items() or [("–", {})]:
            counts = [str(peer.get(field, "–")) for field in ("differed", "received", "sent")]
            compared = _share(peer.get("compared", 0), peer["shared"]) if "shared" in peer else "–"
            table.add_row(*first, other, compared, *counts)
            first = [""] * len(first)
            if peer.get("reason"):
                notes.append(f"{name} with {other}: {peer['state']}: {peer['reason']}")
    show_table(table)
    for note in notes:
        click.echo(note)
    text = f"{document['repaired']} records repaired, {document['damaged']} found damaged, in {document['seconds']} s"
    click.echo(text if document["complete"] else f"{text}; not everything was compared")


def _share(done: int, total: int) -> str:
    return f"all {total}" if done == total else f"{done} of {total}"


def progress_of(found: dict[str, Any]) -> float:
    """How much of a node's pass is done, 0 to 1: the scan counts as half, the comparisons as the other half."""
    verified: float = found["verified"] / max(1, found["partitions"])
    peers = found["peers"].values()
    compared = sum(
        1.0
        if peer["state"] not in ("waiting", "comparing")
        else peer.get("compared", 0) / max(1, peer.get("shared", 0))
        for peer in peers
    )
    return (verified + (compared / len(peers) if peers else 1.0)) / 2


@contextlib.contextmanager
def _bar(nodes: int) -> Iterator[OnProgress]:
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda name, found: None
        return
    from rich.console import Console  # noqa: PLC0415 - costs more than all the rest of a command
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (BarColumn(), TextColumn("{task.percentage:>3.0f}%  {task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=float(nodes))
        done: dict[str, float] = {}

        def show(name: str, found: dict[str, Any]) -> None:
            done[name] = progress_of(found)
            moved = found["received"] + found["sent"]
            text = f"{name} is {found['state']}, {moved} records repaired, {found['damaged']} damaged"
            bar.update(task, completed=sum(done.values()), description=text)

        yield show
