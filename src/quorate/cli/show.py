"""status and where: what the cluster looks like, and why, as one node sees it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from quorate.cli.documents import iso_time
from quorate.cli.exit_codes import ERROR, OK
from quorate.cli.link import Link
from quorate.cli.membership_text import plan_text
from quorate.cli.options import bucket_bytes, key_bytes, node_options
from quorate.cli.staleness import staleness_text
from quorate.cli.status_rows import hosts_of, requests_row, status_row
from quorate.cli.tables import show_table, table_of
from quorate.core.errors import CallerError
from quorate.core.keyspace import canonical_name

if TYPE_CHECKING:
    from rich.table import Table


@click.command("status", epilog="\b\nExample:\n  quorate status --json | jq '.members[].report.state'")
@click.option("--workers", "each", is_flag=True, help="A line for each worker, not for each host.")
@node_options
def status_command(node: str, password: str | None, as_json: bool, each: bool) -> int:
    """Show every node of the cluster: what it says about itself, and what the asked node thinks of it.

    Where a host has several workers (n4.1 and n4.2 of n4) they are one line: what they own, do and keep is summed; of
    uptime, comparisons, free disk and latencies it is the worst that any of them has. --workers shows each by itself.

    "seen as" is up, suspected (asked last, fallbacks take its writes) or down, as the asked node alone has seen it, and
    how fast it answers; "in flight" is requests out of how many it takes on before it sheds load; "background" is the
    rate at which hints and other background work may run now; "compared" is how many of its partitions a node has
    compared with another replica since it was started, and within what time all of them were (--json tells each
    partition's last comparison and what differed). Gets and puts are those that a node coordinated since it was
    started; their latencies are of the last seconds: its own work, and the wait for the quorum. With --json,
    "transfers" is what `quorate transfers` says, and "staleness" what `quorate staleness` does. Exits with 1 if any
    node says that it is not up, or does not answer.
    """
    with Link(node, password) as link:
        document = link.document("KV.STATUS")
        document["transfers"] = _if_known(link, "KV.TRANSFERS")
        document["staleness"] = _if_known(link, "KV.STALENESS")
    healthy = all(member["report"]["state"] == "up" for member in document["members"])
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        _print_status(document, each)
    return OK if healthy else ERROR


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
    table = table_of("node", "state", "digest", "version", "value", "type", "written", "clock")
    for replica in document["replicas"]:
        _add_replica(table, replica)
    show_table(table)
    digests = {replica.get("digest") for replica in document["replicas"] if "digest" in replica}
    if len(digests) > 1:
        click.echo("The replicas differ; a read of the key, or time, brings them together.")


def _if_known(link: Link, command: str) -> dict[str, Any] | None:
    """The document of `command`; None from a node of an earlier version, which has no such thing."""
    try:
        document: dict[str, Any] = link.document(command)
    except CallerError:
        return None
    return document


def _print_status(document: dict[str, Any], each: bool) -> None:
    seen_by = document["seen_by"]
    click.echo(
        f"cluster {document['cluster_id']}, ring version {document['ring_version']}, "
        f"{document['partitions']} partitions, as {seen_by} sees it" + _versions_in_use(document)
    )
    transfers = document["transfers"]
    if transfers is not None and transfers.get("plan") is not None:
        click.echo(f"{plan_text(transfers)}; `quorate transfers` shows how far it is")
    reports = {member["name"]: member["report"] for member in document["members"]}
    opinions = reports[seen_by].get("peers", {})
    table = table_of(
        *("node", "state", "seen as", "clients", "owns", "uptime"),
        *("in flight", "background", "hints", "compared", "disk free"),
    )
    notes = []
    newest = max(report.get("ring_version", 0) for report in reports.values())
    hosts = hosts_of(document["members"], each)
    for name, members in hosts:
        table.add_row(*status_row(name, members, opinions, document["partitions"]))
    for member in document["members"]:
        name, report = member["name"], member["report"]
        opinion = opinions.get(name)
        if report.get("reason"):
            notes.append(f"{name} is {report['state']}: {report['reason']}")
        if left := report.get("partitions_being_filled"):
            notes.append(
                f"{name} is being filled from the others: {left} partitions left, of which it answers no reads"
            )
        if opinion is not None and opinion["state"] != "up":
            notes.append(f"{seen_by} takes {name} for {opinion['state']}: {opinion['reason']}")
        if report.get("ring_version", newest) < newest:
            notes.append(f"{name} goes by ring version {report['ring_version']}; the newest is {newest}")
        if apart := _not_connected(member, reports):
            notes.append(f"{name} is not connected to {', '.join(apart)}")
    show_table(table)
    _show_requests(hosts)
    if document["staleness"] is not None:
        click.echo(f"freshness, as {seen_by} has measured it: {staleness_text(document['staleness'])}")
    for note in notes:
        click.echo(note)


def _show_requests(hosts: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """How the requests ended that each node coordinated, and how long they took lately."""
    telling = [(name, [one["report"] for one in members if "requests" in one["report"]]) for name, members in hosts]
    rows = [requests_row(name, reports) for name, reports in telling if reports]
    if rows:
        table = table_of("node", "gets", "failed", "p50 / p99 / p99.9 ms", "puts", "failed", "p50 / p99 / p99.9 ms")
        for row in rows:
            table.add_row(*row)
        show_table(table)


def _versions_in_use(document: dict[str, Any]) -> str:
    """What program the nodes run: one version as a rule, and several while they are upgraded one by one."""
    running: dict[str, list[str]] = {}
    for member in document["members"]:
        if version := member["report"].get("version"):
            running.setdefault(version, []).append(member["name"])
    if len(running) < 2:
        return "".join(f"; version {version}" for version in running)
    return "; " + ", ".join(f"version {version} on {' '.join(names)}" for version, names in running.items())


def _not_connected(member: dict[str, Any], reports: dict[str, dict[str, Any]]) -> list[str]:
    """The nodes that answer and that `member` says it has no connection to."""
    connected = member["report"].get("connected_to")
    if connected is None:
        return []
    answering = [name for name, report in reports.items() if "connected_to" in report]
    return [name for name in answering if name != member["name"] and name not in connected]


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
