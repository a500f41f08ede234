"""Control of the nodes of a cluster on one machine, for people who want to see what faults do.

Whoever started the nodes (`quorate up`) can pause, kill, cut off and start them. A node that was started so offers it
to its clients, and passes it on. Nowhere else is there such a thing: a node in production has nobody to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol, get_args

import msgspec

LocalAction = Literal["pause", "resume", "kill", "start", "cut", "heal"]
LocalState = Literal["starting", "running", "paused", "cut", "ended"]
ACTIONS: tuple[str, ...] = get_args(LocalAction)

MAY_FOLLOW: dict[str, tuple[str, ...]] = {
    "starting": ("kill",),
    "running": ("pause", "kill", "cut"),
    "paused": ("resume", "kill"),
    "cut": ("heal", "kill"),
    "ended": ("start",),
}
"""State → what may be done to a node in it."""


class LocalNode(msgspec.Struct, frozen=True):
    """One node of this machine."""

    name: str
    state: LocalState


class LocalNodes(msgspec.Struct, frozen=True):
    """All nodes that were started together; none if nobody can control them."""

    nodes: list[LocalNode]


class LocalRefusal(msgspec.Struct, frozen=True):
    """Why nothing was done."""

    kind: Literal["unknown", "refused", "unavailable"]
    """No such node; not in its state, or not by this node; the supervisor does not answer."""
    message: str


class LocalControl(Protocol):
    """Who started this node, seen from it."""

    def nodes(self, reply: Callable[[LocalNodes | LocalRefusal], None]) -> None: ...

    def act(self, node: str, action: LocalAction, reply: Callable[[LocalNodes | LocalRefusal], None]) -> None:
        """Do it, and reply with how all nodes are then."""
        ...
