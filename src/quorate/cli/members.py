"""members: who belongs to the cluster, who would like to, and how many have left."""

from __future__ import annotations

import json
from typing import Any

import click

from quorate.cli.link import Link
from quorate.cli.options import node_options
from quorate.cli.tables import coloured_state, duration_text, show_table, shown, table_of


@click.command("members", epilog="\b\nExamples:\n  quorate members\n  quorate members --json | jq '.candidates[].name'")
@node_options
def members_command(node: str, password: str | None, as_json: bool) -> None:
    """Show the members with their addresses and labels, and the candidates that wait for `quorate join`.

    "state" is what the asked node thinks of a member; "ring" is the version that the member is known to go by.
    """
    with Link(node, password) as link:
        document = link.document("KV.MEMBERS")
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        _print(document)


def _print(document: dict[str, Any]) -> None:
    click.echo(f"ring version {document['ring_version']}")
    table = table_of(
        "node", "no.", "state", "side", "host", "zone", "weight", "owns", "clients", "peers", "ring", "software"
    )
    notes = []
    for member in document["members"]:
        table.add_row(
            member["name"],
            str(member["number"]),
            coloured_state(member["state"]),
            member["side"],
            member["host"],
            shown(member["zone"]),
            str(member["weight"]),
            str(member["owns"]),
            member["client_address"],
            member["peer_address"],
            shown(member["confirmed"]),
            shown(member["software"]),
        )
        if member["reason"]:
            notes.append(f"{member['name']} is {member['state']}: {member['reason']}")
    show_table(table)
    for note in notes:
        click.echo(note)
    _print_candidates(document["candidates"])
    if document["departed"]:
        click.echo(f"{len(document['departed'])} members have left for good; --json tells their ids")


def _print_candidates(candidates: list[dict[str, Any]]) -> None:
    if not candidates:
        return
    click.echo("candidates, which `quorate join NODE` takes in:")
    table = table_of("node", "host", "zone", "weight", "clients", "peers", "heard of")
    for candidate in candidates:
        table.add_row(
            candidate["name"],
            candidate["host"],
            shown(candidate["zone"]),
            str(candidate["weight"]),
            candidate["client_address"],
            candidate["peer_address"],
            f"{duration_text(candidate['heard_s_ago'])} ago",
        )
    show_table(table)
