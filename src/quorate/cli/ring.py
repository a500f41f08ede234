"""ring: who owns how much of it, and during a change of membership, how much before and after."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from quorate.cli.link import Link
from quorate.cli.options import node_options
from quorate.cli.tables import show_table, table_of

if TYPE_CHECKING:
    from rich.table import Table

_STAGES = {1: "the side before is read, both are written", 2: "the side after is read, both are written"}


@click.command("ring", epilog="\b\nExample:\n  quorate ring --json | jq .owners")
@node_options
def ring_command(node: str, password: str | None, as_json: bool) -> None:
    """Show who owns how much of the ring.

    While a change of membership is under way, partitions and weights are shown as before → after. --json prints the
    whole ring, with the change under "transition".
    """
    with Link(node, password) as link:
        ring = link.document("KV.RING")
    if as_json:
        click.echo(json.dumps(ring))
        return
    transition = ring.get("transition")
    before = transition["before"] if transition else ring
    after = transition["after"] if transition else ring
    click.echo(f"cluster {ring['cluster_id']}, ring version {ring['version']}, {len(ring['owners'])} partitions")
    if transition:
        click.echo(f"plan {transition['plan']} is under way: {_STAGES.get(transition['stage'], 'an unknown stage')}")
    show_table(_table(ring["members"], before, after))


def _table(members: list[dict[str, Any]], before: dict[str, Any], after: dict[str, Any]) -> Table:
    """A row for each of `members`, of either side; shares are those of the side after."""
    table = table_of("node", "number", "host", "zone", "weight", "partitions", "share", "of its fair share", "id")
    owned = [Counter(side["owners"]) for side in (before, after)]
    weights = [{member["number"]: member["weight"] for member in side["members"]} for side in (before, after)]
    partitions, total = len(after["owners"]), sum(weights[1].values())
    for member in members:
        number = member["number"]
        tokens = owned[1][number]
        fair = partitions * weights[1].get(number, 0) / total
        table.add_row(
            member["name"],
            str(number),
            member["host"],
            member["zone"] or "–",
            _changed(weights[0].get(number), weights[1].get(number)),
            _changed(owned[0][number], tokens),
            f"{tokens / partitions:.1%}",
            f"{tokens / fair:.1%}" if fair else "–",
            member["id"],
        )
    return table


def _changed(before: int | None, after: int | None) -> str:
    """One figure, or two if they differ; None: the member is not on that side."""
    if before == after:
        return str(after)
    return f"{'–' if before is None else before} → {'–' if after is None else after}"
