"""up: a whole cluster on this machine, one process a node, or several (`--workers`); `supervisor` runs them."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import click

from quorate.cli.hosts import host_lines
from quorate.cli.local_cluster import NODES_MAX, PROCESSES_MAX, LocalCluster, plan_cluster
from quorate.cli.program import program_name
from quorate.cli.supervisor import Child, Manner, Supervisor
from quorate.core.limits import WORKERS_MAX
from quorate.core.ring.workers import by_host

_KEPT_FROM_NODES = frozenset({"QUORATE_PASSWORD", "QUORATE_SECRET"})
"""Variables that are kept from the nodes: they have both from the cluster's file."""


@click.command(
    "up",
    epilog="\b\nExamples:\n  quorate up\n  quorate up --nodes 5 --port 8400 --data /tmp/five --engine memory\n"
    "  quorate up --nodes 3 --workers 2 --data /tmp/six",
)
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), help="How many nodes.  [default: 3]")
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    help=f"Processes for each node, for several cores; at most {PROCESSES_MAX} in all.  [default: 1]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_000),
    help="Base port: node i, or the i-th process, serves clients on port+i.  [default: 7400]",
)
@click.option(
    "--data",
    default="quorate-data",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the cluster's data is kept; each node has a directory in it.",
)
@click.option("--engine", type=click.Choice(["rocksdb", "memory"]), help="Where data is kept.  [default: rocksdb]")
@click.option("--partitions", type=int, help="Partitions of a new cluster, a power of two.  [default: 1024]")
@click.option(
    "--grace", "grace_s", type=int, metavar="SECONDS",
    help="How long what was deleted is remembered at least.  [default: 86400]",
)  # fmt: skip
@click.option("--password", envvar="QUORATE_PASSWORD", help="What clients must know; kept with the cluster.")
@click.option("--json", "as_json", is_flag=True, help="Print events as JSON lines on stdout, for programs.")
def up_command(
    nodes: int | None,
    workers: int | None,
    port: int | None,
    data: Path,
    engine: Any,
    partitions: int | None,
    grace_s: int | None,
    password: str | None,
    as_json: bool,
) -> int:
    """Run a whole cluster on this machine until Ctrl-C.

    Run it again with the same --data to resume the same cluster.
    """
    plan = plan_cluster(data, nodes, port, engine, partitions, password, grace_s, workers)
    environment = {name: value for name, value in os.environ.items() if name not in _KEPT_FROM_NODES}
    manner = Manner("node", environment, as_events=as_json, controlled=True)
    supervisor = Supervisor(plan.wards(), manner, lambda children: None if as_json else _announce(plan, children))
    return asyncio.run(supervisor.run())


def _announce(plan: LocalCluster, children: list[Child]) -> None:
    """Say that the cluster serves, where, and what to try."""
    verb = "created" if plan.created else "resumed"
    members = {member.name: member for member in plan.cluster.ring.members}
    hosts = by_host(children, lambda child: (child.ward.name, members[child.ward.name].host))
    workers = max(len(those) for _, those in hosts)
    count = f"{len(hosts)} nodes" + (f" of {workers} workers" if workers > 1 else "")
    lines = ["", click.style(f"Cluster {verb}: {count}, data in {plan.path}", bold=True)]
    lines += [f"  {line}" for line in host_lines([(name, [child.listen for child in those]) for name, those in hosts])]
    suggestions = _suggestions(children[0].listen["client"], bool(plan.cluster.password))
    lines += ["", "Try in another terminal:", *(f"  {line}" for line in suggestions)]
    lines += ["", "Ctrl-C stops the cluster; the same command resumes it.", ""]
    click.echo("\n".join(lines))


def _suggestions(client_address: str, has_password: bool) -> list[str]:
    node = "" if client_address == "127.0.0.1:7401" else f" --node {client_address}"
    password = " --password …" if has_password else ""
    port = client_address.rpartition(":")[2]
    program = program_name()
    return [
        f"{program} put carts alice '{{\"milk\": 1}}'{node}{password}",
        f"{program} get carts alice{node}{password}",
        f"{program} status{node}{password}",
        f"redis-cli -c -p {port} set carts:bob hello",
    ]
