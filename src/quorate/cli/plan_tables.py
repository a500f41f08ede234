"""A plan as tables: who owns and holds how much before and after, what goes from whom to whom, and what it costs."""

from __future__ import annotations

from typing import Any

import click

from quorate.cli.tables import show_table, size_text, table_of

FLOWS_SHOWN_MAX = 20


def print_plan(plan: dict[str, Any], what: str) -> None:
    """The document of KV.PLAN for people; `what` says in words what it does."""
    click.echo(f"plan {plan['id']}: {what} (made for ring version {plan['ring_version']})")
    members = plan["members"]
    if members:
        _print_members(members)
    if plan["flows"]:
        _print_flows(plan["flows"])
    owned = sum(member["owns_before"] for member in members)
    click.echo(
        f"{plan['partitions_moved']} of {owned} partitions get another owner (at least {plan['fewest_moves']} must); "
        f"{plan['copies']} copies of partitions are made, about {size_text(plan['bytes'])}"
    )
    for warning in plan["warnings"]:
        click.secho("warning: ", fg="red", bold=True, nl=False)
        click.echo(warning)


def _print_members(members: list[dict[str, Any]]) -> None:
    table = table_of("node", "weight", "owns before", "after", "of all", "copies before", "after")
    owned = max(1, sum(member["owns_after"] for member in members))
    for member in members:
        table.add_row(
            member["name"],
            str(member["weight"]),
            str(member["owns_before"]),
            str(member["owns_after"]),
            f"{member['owns_after'] / owned:.1%}",
            str(member["copies_before"]),
            str(member["copies_after"]),
        )
    show_table(table)


def _print_flows(flows: list[dict[str, Any]]) -> None:
    table = table_of("from", "to", "partitions")
    for flow in flows[:FLOWS_SHOWN_MAX]:
        table.add_row(flow["from"], flow["to"], str(flow["partitions"]))
    show_table(table)
    if len(flows) > FLOWS_SHOWN_MAX:
        click.echo(f"and {len(flows) - FLOWS_SHOWN_MAX} more; --plan-only --json shows all")
