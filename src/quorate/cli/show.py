"""status, ring, where: what the cluster looks like, and why, as one node sees it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from quorate.cli.documents import iso_time
from quorate.cli.exit_codes import ERROR, OK
from quorate.cli.link import Link
from quorate.cli.options import bucket_bytes, key_bytes, node_options
from quorate.core.keyspace import canonical_name

if TYPE_CHECKING:
    from rich.table import Table

_STATE_STYLES = {"up": "green", "fenced": "red", "silent": "yellow", "unreachable": "red"}


@click.command("status", epilog="\b\nExample:\n  quorate status --json | jq '.members[].report.state'")
@node_options
def status_command(node: str, password: str | None, as_json: bool) -> int:
    """Show every node of the cluster and what it says about itself.

    Exits with 1 if any of them is not up.
    """
    with Link(node, password) as link:
        document = link.document("KV.STATUS")
    healthy = all(member["report"]["state"] == "up" for member in document["members"])
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        _print_status(document)
    return OK if healthy else ERROR


@click.command("ring", epilog="\b\nExample:\n  quorate ring --json | jq .owners")
@node_options
def ring_command(node: str, password: str | None, as_json: bool) -> None:
    """Show who owns how much of the ring."""
    with Link(node, password) as link:
        ring = link.document("KV.RING")
    if as_json:
        click.echo(json.dumps(ring))
        return
    table = _table("node", "number", "host", "zone", "weight", "partitions", "share", "of its fair share", "id")
    owned = Counter(ring["owners"])
    partitions, weights = len(ring["owners"]), sum(member["weight"] for member in ring["members"])
    for member in ring["members"]:
        tokens = owned[member["number"]]
        fair = partitions * member["weight"] / weights
        table.add_row(
            member["name"],
            *(str(member[field] if member[field] != "" else "–") for field in ("number", "host", "zone", "weight")),
            *(str(tokens), f"{tokens / partitions:.1%}", f"{tokens / fair:.1%}"),
            member["id"],
        )
    click.echo(f"cluster {ring['cluster_id']}, ring version {ring['version']}, {partitions} partitions")
    _show(table)


@click.command("where", epilog="\b\nExample:\n  quorate where carts alice")
@click.argument("bucket")
@click.argument("key")
@node_options
def where_command(bucket: str, key: str, node: str, password: str | None, as_json: bool) -> None:
    """Show which nodes KEY belongs to, and what each of them holds right now."""
    with Link(node, password) as link:
        document = link.document("KV.WHERE", canonical_name(bucket_bytes(bucket), key_bytes(key)))
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    click.echo(f"slot {document['slot']}, partition {document['partition']}")
    click.echo(f"preference list: {', '.join(document['preference_list'])}")
    click.echo(f"stand-ins, in this order: {', '.join(document['fallbacks']) or 'none'}")
    table = _table("node", "state", "digest", "version", "value", "type", "written", "clock")
    for replica in document["replicas"]:
        _add_replica(table, replica)
    _show(table)
    digests = {replica.get("digest") for replica in document["replicas"] if "digest" in replica}
    if len(digests) > 1:
        click.echo("The replicas differ; a read of the key, or time, brings them together.")


def _print_status(document: dict[str, Any]) -> None:
    click.echo(
        f"cluster {document['cluster_id']}, ring version {document['ring_version']}, "
        f"{document['partitions']} partitions, as {document['seen_by']} sees it"
    )
    table = _table("node", "state", "clients", "owns", "uptime", "version", "in flight", "disk free", "connected to")
    notes = []
    for member in document["members"]:
        report = member["report"]
        state = report["state"]
        style = _STATE_STYLES.get(state, "yellow")
        table.add_row(
            member["name"],
            f"[{style}]{state}[/]",
            member["client_address"],
            f"{member['tokens'] / document['partitions']:.1%}",
            _duration(report.get("uptime_s")),
            report.get("version", "–"),
            str(report.get("in_flight_requests", "–")),
            f"{report['disk_free_fraction']:.0%}" if "disk_free_fraction" in report else "–",
            ", ".join(report.get("connected_to", [])) or "–",
        )
        if report.get("reason"):
            notes.append(f"{member['name']} is {state}: {report['reason']}")
        if report.get("suspects"):
            notes.append(f"{member['name']} gets no answers from {', '.join(report['suspects'])}")
    _show(table)
    for note in notes:
        click.echo(note)


def _add_replica(table: Table, replica: dict[str, Any]) -> None:
    name, state = replica["node"], replica["state"]
    siblings = replica.get("siblings", [])
    clock = ", ".join(f"{actor}:{counter}" for actor, counter in replica.get("clock", {}).items())
    if not siblings:
        table.add_row(name, state, replica.get("digest", "–"), *("–",) * 4, clock or "–")
    for index, sibling in enumerate(siblings):
        value = "tombstone" if sibling["tombstone"] else f"{sibling['value_bytes']} bytes"
        first = index == 0
        table.add_row(
            name if first else "",
            state if first else "",
            replica["digest"] if first else "",
            sibling["dot"],
            value + (f", expires {iso_time(sibling['expiry_ms'])}" if sibling["expiry_ms"] else ""),
            sibling["content_type"] or "bytes",
            iso_time(sibling["unix_ms"]),
            clock if first else "",
        )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _table(*columns: str) -> Table:
    from rich import box  # noqa: PLC0415 - costs more than all the rest of a command, so only tables pay for it
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _show(table: Table) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    # Piped output is for tools, which must not lose columns to an imagined terminal of 80 characters.
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
