"""Supervising the processes of several nodes on this machine, for `quorate up` and for `quorate start --workers`.

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
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from quorate.cli.exit_codes import ERROR, OK
from quorate.cli.up_control import Control
from quorate.server.data_directory import read_retirement

STOP_TIMEOUT_S = 10.0
"""A node drains for two seconds and closes its store; after this long something is wrong with it, and it is killed."""
LINE_BYTES_MAX = 1024 * 1024
_COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "bright_cyan", "bright_magenta", "bright_green")


class Ward(msgspec.Struct, frozen=True):
    """A node to be run."""

    name: str
    command: list[str]
    """The command line of its process."""
    data_path: Path
    revive: str
    """What a person types to bring it back."""


class Manner(msgspec.Struct, frozen=True):
    """How nodes are run, and how what happens is told."""

    what: str
    """What one of them is called: a node, or a worker."""
    environment: Mapping[str, str]
    """Of their processes."""
    as_events: bool
    """Events are JSON lines on stdout, for programs."""
    log_format: str = "text"
    """Lines on stderr are `text`, with the node's name before them, or `json`, which has it in it."""
    controlled: bool = False
    """Clients may ask a node to have the others paused, killed, started (see `core.local_control`)."""


class Child:
    """One node's process, as far as its supervisor knows it."""

    def __init__(self, ward: Ward, process: asyncio.subprocess.Process, prefix: str) -> None:
        self.ward = ward
        self.process = process
        self.prefix = prefix
        self.ready = False
        self.listen: dict[str, str] = {}
        """What → the address that it listens on, once it is ready."""
        self.waits_at = ""
        """Waiting to be joined: a member's address for clients."""
        self.peers: set[str] = set()
        self.ended = asyncio.Event()
        self.paused = False
        self.cut = False
        self.killed = False
        """Somebody wanted it to end."""


class Supervisor:
    """Starts `wards`, passes on what they say, and stops them.

    `announce` is told of those that run, once all of them are connected with each other; `announce_waiting`, once all
    are there and some wait to be joined to a cluster. Both speak to people; programs are told by events.
    """

    def __init__(
        self,
        wards: Sequence[Ward],
        manner: Manner,
        announce: Callable[[list[Child]], None],
        announce_waiting: Callable[[list[Child]], None] = lambda children: None,
    ) -> None:
        self._wards = wards
        self._manner = manner
        self._announce = announce
        self._announce_waiting = announce_waiting
        self._children: dict[str, Child] = {}
        self._changed = asyncio.Event()
        self._stop_requests = 0
        self._group: asyncio.TaskGroup
        self._control = Control(lambda: self._children, self._start_again, lambda text: self._say(text, "yellow"))

    async def run(self) -> int:
        """Returns the exit code: 0 if they ran until they were told to stop, or all have left their cluster."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_stop_signal)
        wards = self.wards_to_start()
        async with asyncio.TaskGroup() as self._group:
            for ward in wards:
                await self._start(ward)
            announced = announced_waiting = False
            while not self._stop_requests and self._living():
                await self._changed.wait()
                self._changed.clear()
                if not announced and self._connected():
                    announced = True
                    self._report_ready()
                if not announced_waiting and self._waiting():
                    announced_waiting = True
                    self._announce_waiting(self._waiting())
            return await self._stop()

    def wards_to_start(self) -> list[Ward]:
        """All but those that have left the cluster."""
        staying = []
        for ward in self._wards:
            retired = read_retirement(ward.data_path)
            if retired is None:
                staying.append(ward)
            else:
                self._event("retired", name=ward.name, reason=retired.reason)
                self._say(f"{ward.name} {retired.reason} ({retired.at}) and is not started.", "yellow")
        return staying

    def _living(self) -> list[Child]:
        return [child for child in self._children.values() if not child.ended.is_set()]

    def _connected(self) -> bool:
        """Is every living node ready, and connected with every other living one?"""
        living = self._living()
        names = {child.ward.name for child in living}
        return bool(living) and all(child.ready and names <= child.peers | {child.ward.name} for child in living)

    def _waiting(self) -> list[Child]:
        """Those that wait to be joined, as soon as all others are ready; nobody before that."""
        living = self._living()
        if not all(child.ready or child.waits_at for child in living):
            return []
        return [child for child in living if not child.ready]

    async def _start(self, ward: Ward) -> None:
        process = await asyncio.create_subprocess_exec(
            *ward.command,
            *(["--supervised"] if self._manner.controlled else []),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LINE_BYTES_MAX,
            process_group=0,
            env=self._manner.environment,
        )
        child = self._children[ward.name] = Child(ward, process, self._prefix(ward))
        self._group.create_task(self._follow(child))

    def _prefix(self, ward: Ward) -> str:
        """What stands before the lines of its log."""
        if self._manner.log_format == "json":
            return ""
        colour = _COLOURS[self._wards.index(ward) % len(_COLOURS)]
        return (click.style(f"{ward.name} │", fg=colour) if _coloured() else f"{ward.name} │") + " "

    async def _start_again(self, name: str) -> None:
        if not self._stop_requests:
            await self._start(self._children[name].ward)

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
            self._event("exited", name=child.ward.name, exit_code=code)

    async def _read_events(self, child: Child, stream: asyncio.StreamReader) -> None:
        async for line in _lines(stream):
            try:
                event: dict[str, Any] = json.loads(line)
            except ValueError:
                continue
            if event.get("event") == "ready":
                child.ready = True
                child.listen = {what: event[what] for what in ("client", "http", "peer")}
                self._event("node", **{name: value for name, value in event.items() if name != "event"})
            elif event.get("event") == "waiting":
                child.waits_at = event["member"]
                self._event("waiting", **{name: value for name, value in event.items() if name != "event"})
            elif event.get("event") == "control":
                self._group.create_task(self._control.answer(child, event))
            elif event.get("event") == "peers":
                child.peers = set(event["connected"])
            self._changed.set()

    def _report_ready(self) -> None:
        living = self._living()
        self._event("ready", nodes={child.ward.name: child.listen["client"] for child in living})
        self._announce(living)

    def _report_end(self, child: Child, code: int) -> None:
        name = child.ward.name
        self._event("exited", name=name, exit_code=code)
        retired = read_retirement(child.ward.data_path)
        if retired is not None:
            self._say(f"{name} {retired.reason} and has stopped for good; its directory may be removed.", "yellow")
            return
        if not child.ready and not child.waits_at:
            self._say(f"{name} did not start ({describe_exit(code)}); it has said why.", "red")
            return
        if child.killed:
            self._say(f"{name} ended ({describe_exit(code)}), as was asked.", "yellow")
            return
        left = ", ".join(other.ward.name for other in self._living()) or f"no {self._manner.what}"
        self._say(f"{name} ended ({describe_exit(code)}) and is not restarted; {left} still running.", "red")
        self._say(f"Bring it back with: {child.ward.revive}", "red")

    def _on_stop_signal(self) -> None:
        self._stop_requests += 1
        self._changed.set()
        if self._stop_requests == 2:
            self._say(f"Killing the {self._manner.what}s. Nothing that was acknowledged is lost.", "red")
            self._kill()

    async def _stop(self) -> int:
        """Stop what still runs; returns the exit code."""
        if not self._stop_requests:
            left_cluster = [child for child in self._children.values() if read_retirement(child.ward.data_path)]
            if self._children and len(left_cluster) == len(self._children):
                return OK
            self._say(f"No {self._manner.what} is left.", "red")
            return ERROR
        self._say(f"Stopping the {self._manner.what}s; Ctrl-C again kills them.", "yellow")
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
            late = ", ".join(child.ward.name for child in self._living())
            self._say(f"{late} did not stop within {STOP_TIMEOUT_S:.0f} s and is killed.", "red")
            self._kill()
        for child in self._children.values():
            await child.process.wait()
        failed = [child for child in self._children.values() if child.process.returncode]
        for child in failed:
            self._say(f"{child.ward.name}: {describe_exit(child.process.returncode or 0)}", "red")
        if not failed:
            self._say("Stopped cleanly.", "green")
        self._event("stopped", clean=not failed)
        return OK

    def _kill(self) -> None:
        for child in self._living():
            child.process.kill()

    def _say(self, text: str, colour: str) -> None:
        if self._manner.log_format == "json":
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            level = "error" if colour == "red" else "info"
            text = json.dumps({"time": moment, "level": level, "logger": __name__, "message": text})
        elif _coloured():
            text = click.style(text, fg=colour)
        click.echo(text, err=True)

    def _event(self, event: str, **fields: Any) -> None:
        if self._manner.as_events:
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
        click.echo(child.prefix + line.decode(errors="replace").rstrip(), err=True)


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
