"""What `quorate up` does to its nodes when somebody asks for it at one of them (`core.local_control`).

Signals are what the operating system does to processes anyway; a cut is the node's own doing, since no process can cut
another one's connections without rights that nobody should have to give. Nothing here touches a process that `up` has
not started itself.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from quorate.core.local_control import ACTIONS, MAY_FOLLOW, LocalNode, LocalNodes, LocalRefusal, LocalState

END_TIMEOUT_S = 5.0
"""How long a killed process may take to be gone."""


class ControlledChild(Protocol):
    """A node's process, as the supervisor has it."""

    process: asyncio.subprocess.Process
    ready: bool
    ended: asyncio.Event
    paused: bool
    cut: bool
    killed: bool


class Control:
    """Answers what nodes pass on. `children`: by name; `start` starts one of them anew; `say` tells the terminal."""

    def __init__(
        self,
        children: Callable[[], dict[str, Any]],
        start: Callable[[str], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        self._children: Callable[[], dict[str, ControlledChild]] = children
        self._start = start
        self._say = say

    async def answer(self, asker: ControlledChild, question: dict[str, Any]) -> None:
        """Do what `question` asks for, and tell the node that asked."""
        name, action = question.get("node"), question.get("action")
        result: LocalNodes | LocalRefusal = self.nodes()
        if name is not None or action is not None:
            result = await self._act(str(name), str(action))
        what = "refusal" if isinstance(result, LocalRefusal) else "answer"
        _tell(asker, {"id": question.get("id"), what: result})

    def nodes(self) -> LocalNodes:
        return LocalNodes([LocalNode(name, state_of(child)) for name, child in self._children().items()])

    async def _act(self, name: str, action: str) -> LocalNodes | LocalRefusal:
        child = self._children().get(name)
        if child is None or action not in ACTIONS:
            known = ", ".join(self._children())
            return LocalRefusal("unknown", f"no node called '{name[:64]}' runs here; there are: {known}")
        state = state_of(child)
        if action not in MAY_FOLLOW[state]:
            possible = ", ".join(MAY_FOLLOW[state])
            return LocalRefusal("refused", f"{name} is {state}: it cannot {action}, only {possible}")
        self._say(f"{name}: {action}, as was asked over HTTP.")
        match action:
            case "pause":
                child.process.send_signal(signal.SIGSTOP)
                child.paused = True
            case "resume":
                child.process.send_signal(signal.SIGCONT)
                child.paused = False
            case "kill":
                child.killed = True
                child.process.kill()
                try:
                    await asyncio.wait_for(child.ended.wait(), END_TIMEOUT_S)
                except TimeoutError:
                    return LocalRefusal("unavailable", f"{name} was killed and is still there; see what `up` prints")
            case "start":
                await self._start(name)
            case "cut" | "heal":
                _tell(child, {"do": action})
                child.cut = action == "cut"
        return self.nodes()


def state_of(child: ControlledChild) -> LocalState:
    if child.ended.is_set():
        return "ended"
    if child.paused:
        return "paused"
    if not child.ready:
        return "starting"
    return "cut" if child.cut else "running"


def _tell(child: ControlledChild, document: dict[str, Any]) -> None:
    stdin = child.process.stdin
    if stdin is not None and not child.ended.is_set() and not stdin.is_closing():
        stdin.write(msgspec.json.encode(document) + b"\n")
