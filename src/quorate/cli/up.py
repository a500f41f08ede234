"""up: a whole cluster on this machine, one process a node.

This process only starts the nodes, passes on what they say, and stops them; it holds no data and decides nothing.

- Nodes are in process groups of their own, so Ctrl-C reaches them through us only, in order.
- Each watches a pipe from us (its stdin): however we end, they end.
- A node that ends is not started again: whoever runs a cluster wants to know, and a node that dies at every start
  would hide in a loop. We say how it ended and how to bring it back; the others go on.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import click

from quorate.cli.exit_codes import ERROR, OK
from quorate.cli.local_cluster import NODES_MAX, LocalCluster, plan_cluster
from quorate.cli.program import program_name
from quorate.cli.up_control import Control
from quorate.core.ring.ring import Member

STOP_TIMEOUT_S = 10.0
"""A node drains for two seconds and closes its store; after this long something is wrong with it, and it is killed."""
LINE_BYTES_MAX = 1024 * 1024
_KEPT_FROM_NODES = frozenset({"QUORATE_PASSWORD", "QUORATE_SECRET"})
"""Variables that are kept from the nodes: they have both from the cluster's file."""
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")


@click.command(
    "up", epilog="\b\nExamples:\n  quorate up\n  quorate up --nodes 5 --port 8400 --data /tmp/five --engine memory"
)
@click.option("--nodes", type=click.IntRange(1, NODES_MAX), help="How many nodes.  [default: 3]")
@click.option(
    "--port", type=click.IntRange(1, 65_000), help="Base port: node i serves clients on port+i.  [default: 7400]"
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
    plan = plan_cluster(data, nodes, port, engine, partitions, password, grace_s)
    return asyncio.run(Supervisor(plan, as_json).run())


class Child:
    """One node's process, as far as its supervisor knows it."""

    def __init__(self, member: Member, process: asyncio.subprocess.Process, prefix: str) -> None:
        self.member = member
        self.process = process
        self.prefix = prefix
        self.ready = False
        self.peers: set[str] = set()
        self.ended = asyncio.Event()
        self.paused = False
        self.cut = False
        self.killed = False
        """Somebody wanted it to end."""


class Supervisor:
    """Starts the nodes of `plan`, passes on what they say, and stops them."""

    def __init__(self, plan: LocalCluster, as_json: bool) -> None:
        self._plan = plan
        self._as_json = as_json
        self._children: dict[str, Child] = {}
        self._changed = asyncio.Event()
        self._stop_requests = 0
        self._group: asyncio.TaskGroup
        self._control = Control(lambda: self._children, self._start_again, lambda text: self._say(text, "yellow"))

    async def run(self) -> int:
        """Returns the exit code: 0 if the cluster ran until it was told to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_stop_signal)
        members = self._members_to_start()
        async with asyncio.TaskGroup() as self._group:
            for member in members:
                await self._start(member)
            announced = False
            while not self._stop_requests and self._living():
                await self._changed.wait()
                self._changed.clear()
                if not announced and self._connected():
                    announced = True
                    self._announce()
            return await self._stop()

    def _members_to_start(self) -> list[Member]:
        """All but those that have left the cluster."""
        staying = []
        for member in self._plan.cluster.ring.members:
            retired = self._plan.retired(member)
            if retired is None:
                staying.append(member)
            else:
                self._event("retired", name=member.name, reason=retired.reason)
                self._say(f"{member.name} {retired.reason} ({retired.at}) and is not started.", "yellow")
        return staying

    def _living(self) -> list[Child]:
        return [child for child in self._children.values() if not child.ended.is_set()]

    def _connected(self) -> bool:
        """Is every living node ready, and connected with every other living one?"""
        living = self._living()
        names = {child.member.name for child in living}
        return bool(living) and all(child.ready and names <= child.peers | {child.member.name} for child in living)

    async def _start(self, member: Member) -> None:
        process = await asyncio.create_subprocess_exec(
            *self._plan.start_command(member),
            "--supervised",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            process_group=0,
            env={name: value for name, value in os.environ.items() if name not in _KEPT_FROM_NODES},
        )
        colour = _COLOURS[(member.number - 1) % len(_COLOURS)]
        prefix = click.style(f"{member.name} │", fg=colour) if _coloured() else f"{member.name} │"
        child = self._children[member.name] = Child(member, process, prefix)
        self._group.create_task(self._follow(child))

    async def _start_again(self, name: str) -> None:
        if not self._stop_requests:
            await self._start(self._children[name].member)

    async def _follow(self, child: Child) -> None:
        """Pass on what a node says until it ends."""
        assert child.process.stdout is not None
        assert child.process.stderr is not None
        await asyncio.gather(self._read_events(child, child.process.stdout), _copy_log(child, child.process.stderr))
        code = await child.process.wait()
        child.ended.set()
        self._changed.set()
        if self._stop_requests == 0:
            self._report_end(child, code)
        else:
            self._event("exited", name=child.member.name, exit_code=code)

    async def _read_events(self, child: Child, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            try:
                event: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "ready":
                child.ready = True
                self._event("node", **{name: value for name, value in event.items() if name != "event"})
            elif event.get("event") == "control":
                self._group.create_task(self._control.answer(child, event))
            elif event.get("event") == "peers":
                child.peers = set(event["connected"])
            self._changed.set()

    def _announce(self) -> None:
        members = [child.member for child in self._living()]
        self._event("ready", nodes={member.name: member.client_address for member in members})
        if self._as_json:
            return
        verb = "created" if self._plan.created else "resumed"
        lines = ["", click.style(f"Cluster {verb}: {len(members)} nodes, data in {self._plan.path}", bold=True)]
        lines += [
            f"  {member.name}  clients {member.client_address}  HTTP {member.http_address}  peers {member.peer_address}"
            for member in members
        ]
        lines += ["", "Try in another terminal:", *(f"  {line}" for line in self._suggestions(members[0]))]
        lines += ["", "Ctrl-C stops the cluster; the same command resumes it.", ""]
        click.echo("\n".join(lines))

    def _suggestions(self, member: Member) -> list[str]:
        node = "" if member.client_address == "127.0.0.1:7401" else f" --node {member.client_address}"
        password = " --password …" if self._plan.cluster.password else ""
        port = member.client_address.rpartition(":")[2]
        program = program_name()
        return [
            f"{program} put carts alice '{{\"milk\": 1}}'{node}{password}",
            f"{program} get carts alice{node}{password}",
            f"{program} status{node}{password}",
            f"redis-cli -c -p {port} set carts:bob hello",
        ]

    def _report_end(self, child: Child, code: int) -> None:
        name = child.member.name
        self._event("exited", name=name, exit_code=code)
        retired = self._plan.retired(child.member)
        if retired is not None:
            self._say(f"{name} {retired.reason} and has stopped for good; its directory may be removed.", "yellow")
            return
        if not child.ready:
            self._say(f"{name} did not start ({describe_exit(code)}); it has said why.", "red")
            return
        if child.killed:
            self._say(f"{name} ended ({describe_exit(code)}), as was asked.", "yellow")
            return
        left = ", ".join(other.member.name for other in self._living()) or "no node"
        self._say(f"{name} ended ({describe_exit(code)}) and is not restarted; {left} still running.", "red")
        self._say(f"Bring it back with: {self._plan.revive_command(child.member)}", "red")

    def _on_stop_signal(self) -> None:
        self._stop_requests += 1
        self._changed.set()
        if self._stop_requests == 2:
            self._say("Killing the nodes. Nothing that was acknowledged is lost.", "red")
            self._kill()

    async def _stop(self) -> int:
        """Stop what still runs; returns the exit code."""
        if not self._stop_requests:
            self._say("No node is left.", "red")
            return ERROR
        self._say("Stopping the nodes; Ctrl-C again kills them.", "yellow")
        for child in self._living():
            child.process.send_signal(signal.SIGTERM)
            if child.paused:
                child.process.send_signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while self._living():
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            late = ", ".join(child.member.name for child in self._living())
            self._say(f"{late} did not stop within {STOP_TIMEOUT_S:.0f} s and is killed.", "red")
            self._kill()
        for child in self._children.values():
            await child.process.wait()
        failed = [child for child in self._children.values() if child.process.returncode]
        for child in failed:
            self._say(f"{child.member.name}: {describe_exit(child.process.returncode or 0)}", "red")
        if not failed:
            self._say("Stopped cleanly.", "green")
        self._event("stopped", clean=not failed)
        return OK

    def _kill(self) -> None:
        for child in self._living():
            child.process.kill()

    def _say(self, text: str, colour: str) -> None:
        click.echo(click.style(text, fg=colour) if _coloured() else text, err=True)

    def _event(self, event: str, **fields: Any) -> None:
        if self._as_json:
            click.echo(json.dumps({"event": event, **fields}))
            sys.stdout.flush()


def describe_exit(code: int) -> str:
    """An exit status in words."""
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"


async def _copy_log(child: Child, stream: asyncio.StreamReader) -> None:
    async for line in _lines(stream):
        click.echo(f"{child.prefix} {line.decode(errors='replace').rstrip()}", err=True)


async def _lines(stream: asyncio.StreamReader) -> Any:
    """Lines, of bounded length: the excess of a longer one is dropped."""
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            continue
        if not line:
            return
        yield line


def _coloured() -> bool:
    return sys.stderr.isatty() and "NO_COLOR" not in os.environ
