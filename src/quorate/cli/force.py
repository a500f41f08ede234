"""force: go on without a majority that is lost for good.

The one change that nobody decides by consensus, for those who would have to agree are gone. If they are not, two
clusters go on from here under one name, and what the other one takes in is thrown away. So the operator is told what
is at stake, and types a word that is not typed by habit.
"""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from quorate.cli.cluster_link import ClusterLink
from quorate.cli.confirmation import check_answerable, yes_option
from quorate.cli.exit_codes import ERROR
from quorate.cli.options import node_options
from quorate.cli.transfers import print_transfers
from quorate.core.errors import CallerError
from quorate.core.ring.ring import Member
from quorate.core.ring.workers import called

WORD = "lost"
ID_DIGITS_MIN = 6


@click.command("force", epilog="\b\nExample:\n  quorate force --lost n2 --lost n3")
@click.option("--lost", "lost", multiple=True, required=True, metavar="NODE", help="A member that is lost for good.")
@yes_option
@node_options
def force_command(lost: tuple[str, ...], node: str, password: str | None, as_json: bool, yes: bool) -> None:
    """Remove members that are lost for good, without asking a majority; only if no majority is left to ask.

    As long as a majority of the members runs, use `quorate leave NODE --stopped` or `quorate replace` instead: they
    keep all that any other replica holds, and can be planned. After this command the rest is a cluster again, and its
    replicas are filled up from each other.
    """
    check_answerable(yes, as_json)
    with ClusterLink(node, password) as link:
        members = link.ask("KV.MEMBERS")["members"]
        ring = link.ask("KV.RING")
        staying = _staying(members, lost)
        if not yes:
            _ask(ring["cluster_id"], lost, staying)
        document = link.ask("KV.FORCE", json.dumps(list(lost)), write=True)
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        print_transfers(document)


def _staying(members: list[dict[str, Any]], lost: tuple[str, ...]) -> list[str]:
    """The names of those that are left; raises `CallerError` if `lost` names a stranger, or everybody."""
    known = [msgspec.convert(member, Member) for member in members]
    gone: list[Member] = []
    for name in lost:
        found = called(known, name)
        if not found:
            names = ", ".join(member.name for member in known)
            raise CallerError(f"no member is called '{name}'; there are: {names}")
        gone += found
    staying = [member.name for member in known if member not in gone]
    if not staying:
        raise CallerError("with all members lost there is nobody left to go on")
    return staying


def _ask(cluster_id: str, lost: tuple[str, ...], staying: list[str]) -> None:
    click.secho("THIS CAN LOSE DATA THAT WAS ACKNOWLEDGED.", fg="red", bold=True, err=True)
    click.echo(
        f"Without {', '.join(lost)}, the cluster goes on with {', '.join(staying)} alone.\n"
        "- Whatever only the lost members hold is given up for good: writes that were acknowledged, changes of\n"
        "  buckets, and a plan that is under way.\n"
        "- If one of them still runs, or comes back, it is refused, and what it took in meanwhile is gone.\n"
        "  Make sure that they are stopped, and stay stopped.\n"
        "- If a majority of the members runs, this is the wrong command: see `quorate leave NODE --stopped`.",
        err=True,
    )
    typed = click.prompt(
        f"Type '{WORD}', or the beginning of the cluster's id ({cluster_id[:ID_DIGITS_MIN]}…), to go on",
        default="",
        show_default=False,
        err=True,
    ).strip()
    if typed != WORD and not (len(typed) >= ID_DIGITS_MIN and cluster_id.startswith(typed)):
        click.echo("nothing was changed", err=True)
        raise click.exceptions.Exit(ERROR)
