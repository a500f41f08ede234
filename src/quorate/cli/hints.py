"""hints: what each node keeps for others that could not be reached (DeCandia et al., SOSP 2007, §4.6).

A view of the reports that `status` shows: the figures come from the holders themselves, so a node that does not answer
is named as such, and what it keeps is not counted as nothing.
"""

from __future__ import annotations

import json
from typing import Any

import click

from quorate.cli.link import Link
from quorate.cli.options import node_options
from quorate.cli.tables import show_table, size_text, table_of


@click.command("hints", epilog="\b\nExamples:\n  quorate hints\n  quorate hints --json | jq .hints")
@node_options
def hints_command(node: str, password: str | None, as_json: bool) -> None:
    """Show the writes that nodes keep for others until these can be reached.

    A hint goes home by itself as soon as its home is back. --json prints hints, bytes, nodes (name → what it keeps, by
    home; null if it did not answer) and homes (name → what is kept for it in all).
    """
    with Link(node, password) as link:
        document = hints_document(link.document("KV.STATUS"))
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        _print(document)


def hints_document(status: dict[str, Any]) -> dict[str, Any]:
    """What the answer to KV.STATUS says about hints: `hints`, `bytes`, `nodes` by holder, `homes` by home."""
    nodes = {member["name"]: member["report"].get("hints") for member in status["members"]}
    homes: dict[str, dict[str, int]] = {}
    for kept in nodes.values():
        for home, count in (kept["homes"] if kept else {}).items():
            total = homes.setdefault(home, {"hints": 0, "bytes": 0})
            total["hints"] += count["hints"]
            total["bytes"] += count["bytes"]
    return {
        "hints": sum(total["hints"] for total in homes.values()),
        "bytes": sum(total["bytes"] for total in homes.values()),
        "nodes": nodes,
        "homes": dict(sorted(homes.items())),
    }


def _print(document: dict[str, Any]) -> None:
    table = table_of("node", "keeps for", "hints", "size", "of its bound")
    for name, kept in document["nodes"].items():
        if kept is None:
            table.add_row(name, "no answer", *("?",) * 3)
            continue
        share = f"{kept['bytes'] / kept['bytes_max']:.1%} of {size_text(kept['bytes_max'])}"
        if not kept["homes"]:
            table.add_row(name, "nobody", "0", size_text(0), share)
        for index, (home, count) in enumerate(kept["homes"].items()):
            holder = name if index == 0 else ""
            table.add_row(holder, home, str(count["hints"]), size_text(count["bytes"]), "" if index else share)
    show_table(table)
    if document["hints"]:
        each = ", ".join(f"{home} {count['hints']}" for home, count in document["homes"].items())
        click.echo(f"{document['hints']} hints wait for their homes: {each}")
