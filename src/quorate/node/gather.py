"""Ask several members something and collect what they answer by a deadline: for everything off the hot path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from quorate.core.messages import Message
from quorate.node.context import NodeContext

Answers = dict[int, Any]
"""Member → its reply message; members that did not answer are left out."""


class GatherOperation:
    """One question to several members. `done` is called once, when all have answered or the time is up."""

    __slots__ = ("answers", "awaited", "done", "id", "node")

    def __init__(self, node: NodeContext, timeout_ms: float, done: Callable[[Answers], None]) -> None:
        self.node = node
        self.done = done
        self.answers: Answers = {}
        self.awaited: list[int] = []
        self.id = node.requests.open(self, timeout_ms)

    def send(self, questions: Mapping[int, Message]) -> None:
        """Send each member its message; all of them carry this operation's `id`."""
        self.awaited = list(questions)
        for member, message in questions.items():
            if not self.node.transport.send(member, message):
                self.awaited.remove(member)
        self._check()

    def on_reply(self, member: int, message: Any) -> None:
        if member in self.awaited:
            self.awaited.remove(member)
            self.answers[member] = message
            self._check()

    def on_disconnected(self, member: int) -> None:
        if member in self.awaited:
            self.awaited.remove(member)
            self._check()

    def owed(self) -> Iterable[tuple[int, float]]:
        return ()

    def on_silent(self, member: int) -> None:
        pass

    def on_time(self) -> None:
        self.awaited.clear()
        self._check()

    def _check(self) -> None:
        if not self.awaited and self.id in self.node.requests.pending:
            self.node.requests.close(self.id)
            self.done(self.answers)


def ask(
    node: NodeContext,
    members: Iterable[int],
    question: Callable[[int], Message],
    timeout_ms: float,
    done: Callable[[Answers], None],
) -> None:
    """Ask all `members` the message that `question(id)` makes; `done` is called as by `GatherOperation`."""
    gather = GatherOperation(node, timeout_ms, done)
    gather.send(dict.fromkeys(members, question(gather.id)))
