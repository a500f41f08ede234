"""join, leave, replace, weight, abort: who belongs to the cluster.

Each change is planned first: the plan is shown, and begun once the operator says yes. The nodes then carry it out by
themselves; the command only looks on, and goes on looking through other members if the node that it asked goes away.

Changes are one after the other. A command that finds another one under way waits for its end and then plans; and if
the ring has changed between plan and yes, the plan does not hold any more and is made again. So commands that are given
at once through several nodes all come to their end. Whether a plan was carried out or taken back is seen from the
members once it has ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from quorate.cli import cluster_link
from quorate.cli.cluster_link import ClusterLink
from quorate.cli.confirmation import check_answerable, yes_option
from quorate.cli.exit_codes import ERROR, OK
from quorate.cli.membership_text import is_granted, plan_text, wish_text
from quorate.cli.options import node_options
from quorate.cli.plan_tables import print_plan
from quorate.cli.transfers import print_transfers, watch_plan
from quorate.core.errors import CallerError, OutcomeUnknown, Unavailable

PLANS_MAX = 20
"""So often a plan is made again because the ring has changed in between."""

CHANGE_SEEN_WITHIN_S = 3.0

F = TypeVar("F", bound=Callable[..., Any])


def _change_options(function: F) -> F:
    """--plan-only, --yes, and what all commands have."""
    function = yes_option(node_options(function))
    return click.option("--plan-only", is_flag=True, help="Show what would be done, and do nothing.")(function)


_stopped_option = click.option(
    "--stopped",
    is_flag=True,
    help="It has stopped for good: it is not waited for, and what only it holds is given up.",
)


@click.command("join", epilog="\b\nExamples:\n  quorate join n4\n  quorate join n4 --yes --json")
@click.argument("name", metavar="NODE")
@_change_options
def join_command(name: str, node: str, password: str | None, as_json: bool, yes: bool, plan_only: bool) -> int:
    """Take NODE into the cluster.

    NODE is running already, started with `quorate start --name NODE --join HOST:PEERPORT`, and listed under candidates
    by `quorate members`. Host, zone and weight are its own. Reads and writes go on meanwhile.

    All workers of a host (`quorate start --workers`) join at once by the name that theirs begin with: n4 for n4.1 and
    n4.2. `leave`, `replace`, `weight` and `force` take such a name as well.
    """
    return _change({"kind": "join", "node": name}, node, password, as_json, yes, plan_only)


@click.command("leave", epilog="\b\nExamples:\n  quorate leave n4\n  quorate leave n4 --stopped")
@click.argument("name", metavar="NODE")
@_stopped_option
@_change_options
def leave_command(
    name: str, stopped: bool, node: str, password: str | None, as_json: bool, yes: bool, plan_only: bool
) -> int:
    """Let NODE go: the others take over what it holds, and then its process ends by itself.

    A node that has left does not come back; to use the machine again, give it an empty data directory and let it join.
    """
    return _change({"kind": "leave", "node": name, "stopped": stopped}, node, password, as_json, yes, plan_only)


@click.command("replace", epilog="\b\nExamples:\n  quorate replace n2 --by n7\n  quorate replace n2 --by n7 --stopped")
@click.argument("name", metavar="NODE")
@click.option("--by", required=True, metavar="CANDIDATE", help="The node that takes its place, as for `quorate join`.")
@_stopped_option
@_change_options
def replace_command(
    name: str, by: str, stopped: bool, node: str, password: str | None, as_json: bool, yes: bool, plan_only: bool
) -> int:
    """Let another node take the place of NODE, in one change instead of two."""
    wish = {"kind": "replace", "node": name, "by": by, "stopped": stopped}
    return _change(wish, node, password, as_json, yes, plan_only)


@click.command("weight", epilog="\b\nExample:\n  quorate weight n2 2")
@click.argument("name", metavar="NODE")
@click.argument("weight", type=click.IntRange(1))
@_change_options
def weight_command(
    name: str, weight: int, node: str, password: str | None, as_json: bool, yes: bool, plan_only: bool
) -> int:
    """Let NODE carry WEIGHT times as much as a node of weight 1."""
    return _change({"kind": "weight", "node": name, "weight": weight}, node, password, as_json, yes, plan_only)


@click.command("abort", epilog="\b\nExample:\n  quorate abort")
@node_options
def abort_command(node: str, password: str | None, as_json: bool) -> None:
    """Take back the change of membership that is under way.

    It can be taken back until the side after it is read (`quorate transfers`: stage 2); from then on it only goes
    forward, and the opposite change undoes it.
    """
    with ClusterLink(node, password) as link:
        before = link.ask("KV.TRANSFERS")
        document = link.ask("KV.ABORT", write=True)
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    if document["plan"] is None and before["plan"] is not None:
        click.echo(f"plan {before['plan']} was taken back")
    print_transfers(document)


def _change(wish: dict[str, Any], node: str, password: str | None, as_json: bool, yes: bool, plan_only: bool) -> int:
    """Plan, ask, begin and look on; gives the exit code."""
    if not plan_only:
        check_answerable(yes, as_json)
    with ClusterLink(node, password) as link:
        if plan_only:
            plan = _planned(link, wish)
            _show(plan, wish, as_json)
            return OK
        for _ in range(PLANS_MAX):
            _wait_for_others(link)
            plan, begun = _begin(link, wish, yes, as_json)
            if begun is not None:
                return _look_on(link, wish, plan, begun, as_json)
            click.echo("the ring has changed meanwhile: planning again", err=True)
    raise Unavailable(f"the ring changed {PLANS_MAX} times before the plan could be begun; try again")


def _planned(link: ClusterLink, wish: dict[str, Any]) -> dict[str, Any]:
    plan: dict[str, Any] = link.ask("KV.PLAN", json.dumps(wish))
    return plan


def _wait_for_others(link: ClusterLink) -> None:
    """Look on until no change is under way."""
    while (document := link.question("KV.TRANSFERS"))["plan"] is not None:
        click.echo(f"{plan_text(document)}; waiting for its end", err=True)
        watch_plan(link, document)


def _begin(
    link: ClusterLink, wish: dict[str, Any], yes: bool, as_json: bool
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """(the plan, what KV.TRANSFERS says of it once it is begun; None if the ring has changed, so that it is not).

    Raises `Abort` if the operator does not want it.
    """
    plan: dict[str, Any] = {}
    try:
        plan = _planned(link, wish)
        if not as_json:
            _show(plan, wish, as_json)
        if not yes and not click.confirm("Begin it?", err=True):
            click.echo("nothing was changed", err=True)
            raise click.exceptions.Exit(ERROR)
        return plan, link.ask("KV.COMMIT", plan["id"], json.dumps(wish), write=True)
    except CallerError:
        now = _change_since(link, plan)
        if now is None:
            raise
        # Begun by another operator in the same moment, or by us and the answer was lost: or not begun.
        return plan, now if plan and now["plan"] == plan["id"] else None
    except (OutcomeUnknown, Unavailable):
        if not plan:
            raise
        now = link.question("KV.TRANSFERS")
        if now["plan"] != plan["id"] and now["ring_version"] <= plan["ring_version"]:
            raise
        return plan, now


def _change_since(link: ClusterLink, plan: dict[str, Any]) -> dict[str, Any] | None:
    """What KV.TRANSFERS says if a change is why something was refused; None if it was refused for what it is.

    Whoever refuses a commit because the ring has changed may go by the new ring only a moment later.
    """
    give_up_at = time.monotonic() + (CHANGE_SEEN_WITHIN_S if plan else 0.0)
    while True:
        now: dict[str, Any] = link.question("KV.TRANSFERS")
        if now["plan"] is not None or (plan and now["ring_version"] > plan["ring_version"]):
            return now
        if time.monotonic() >= give_up_at:
            return None
        cluster_link.pause()


def _look_on(
    link: ClusterLink, wish: dict[str, Any], plan: dict[str, Any], begun: dict[str, Any], as_json: bool
) -> int:
    """Wait for the end of a plan that was begun, and say what came of it."""
    ended = begun
    if begun["plan"] == plan["id"]:
        ended = watch_plan(link, begun)
    members = link.until(lambda _: True, "KV.MEMBERS", ended["ring_version"])
    granted = is_granted(wish, members, plan)
    if as_json:
        click.echo(json.dumps(ended, indent=1))
    elif granted:
        click.echo(f"done: {wish_text(wish, plan)} (ring version {ended['ring_version']})")
    if not granted:
        click.echo(f"plan {plan['id']} was aborted, by this or another operator: nothing has changed", err=True)
        return ERROR
    return OK


def _show(plan: dict[str, Any], wish: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(plan, indent=1))
    else:
        print_plan(plan, wish_text(wish, plan))
