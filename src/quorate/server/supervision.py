"""A node and whoever started it, `quorate up`: how the node passes on what its clients ask to be done to local nodes.

The two pipes that there are anyway carry it, and no further port: the node asks by an event on its stdout, and is
answered by a line on its stdin. The same way it is told to cut itself off from its peers, or to be back.

A question has a bound on how long it waits, and there are only so many of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from quorate.core.local_control import LocalAction, LocalNodes, LocalRefusal
from quorate.core.ports import Cancellable, Scheduler

QUESTIONS_MAX = 16
TIMEOUT_MS = 8_000.0
"""Longer than the supervisor takes for anything."""

Reply = Callable[[LocalNodes | LocalRefusal], None]
log = logging.getLogger("quorate.server")


class SupervisorLine(msgspec.Struct, frozen=True):
    """What a supervisor says to a node: the answer to question `id`, or what to `do`."""

    id: int = 0
    answer: LocalNodes | None = None
    refusal: LocalRefusal | None = None
    do: str = ""


class Supervision:
    """Implements `core.local_control.LocalControl` for the node `name`. `emit` is the event writer's; `cut_off` cuts
    the node off from its peers (True), or ends that."""

    def __init__(
        self, name: str, emit: Callable[..., None], scheduler: Scheduler, cut_off: Callable[[bool], None]
    ) -> None:
        self._name = name
        self._emit = emit
        self._scheduler = scheduler
        self._cut_off = cut_off
        self._asked = 0
        self._waiting: dict[int, tuple[Reply, Cancellable]] = {}

    def nodes(self, reply: Reply) -> None:
        self._ask(reply)

    def act(self, node: str, action: LocalAction, reply: Reply) -> None:
        if node == self._name and action in ("pause", "kill"):
            reply(LocalRefusal("refused", f"{node} could not answer any more; ask another node to {action} it"))
            return
        self._ask(reply, node=node, action=action)

    def on_line(self, line: bytes) -> None:
        """A line from the supervisor; what is none of its kind is logged and dropped."""
        try:
            said = msgspec.json.decode(line, type=SupervisorLine)
        except ValueError as error:
            log.warning("a line on stdin is none of a supervisor's: %s", error)
            return
        if said.do in ("cut", "heal"):
            log.warning("cut off from all peers" if said.do == "cut" else "no longer cut off")
            self._cut_off(said.do == "cut")
        answer = said.answer or said.refusal
        if answer is not None and said.id in self._waiting:
            reply, timer = self._waiting.pop(said.id)
            timer.cancel()
            reply(answer)

    def _ask(self, reply: Reply, **fields: Any) -> None:
        if len(self._waiting) >= QUESTIONS_MAX:
            reply(LocalRefusal("unavailable", "too many such questions wait for an answer; ask again"))
            return
        self._asked += 1
        number = self._asked
        self._waiting[number] = (reply, self._scheduler.call_later(TIMEOUT_MS, lambda: self._give_up(number)))
        self._emit("control", id=number, **fields)

    def _give_up(self, number: int) -> None:
        reply, _ = self._waiting.pop(number)
        reply(LocalRefusal("unavailable", "`quorate up` did not answer in time; see what it prints"))
