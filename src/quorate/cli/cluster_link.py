"""Questions to a cluster whose members come and go while a command looks on.

A change of membership outlives the node through which it was begun: that may be the very one that leaves. So a command
that follows a change asks the node that it was given, remembers who else is a member, and goes on with the next one
when a node does not answer. What one node tells may be older than what another told before; the answers carry the
ring's version, and an older one is not taken for news.

Only questions are repeated elsewhere. A command that changes something is sent once, by `ask`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from quorate.cli.link import Link
from quorate.core.errors import QuorateError, Unavailable

PATIENCE_S = 60.0
"""So long a command that looks on bears it that nobody answers."""
POLL_INTERVAL_S = 0.5
ANSWER_TIMEOUT_S = 20.0


class ClusterLink:
    """A conversation with the node `node`, or with another member once that one is gone.

    Raises `Unavailable` if `node` does not answer at first.
    """

    def __init__(self, node: str, password: str | None) -> None:
        self._password = password
        self._addresses = [node]
        self._link: Link | None = Link(node, password, ANSWER_TIMEOUT_S)

    def ask(self, *arguments: bytes | str | int, write: bool = False) -> Any:
        """The document that one node answers with, as `Link.document`; nothing is repeated."""
        return self._connected().document(*arguments, write=write)

    def question(self, *arguments: bytes | str | int) -> Any:
        """The same of whichever known member answers; raises `Unavailable` if none does."""
        problem: QuorateError | None = None
        for _ in range(len(self._addresses)):
            try:
                return self.ask(*arguments)
            except Unavailable as error:
                problem = problem or error
                self._move_on()
        assert problem is not None, "there is always one address"
        raise problem

    def learn_members(self) -> dict[str, Any]:
        """The document of KV.MEMBERS; from now on any of these members may be asked."""
        document: dict[str, Any] = self.question("KV.MEMBERS")
        here = self._addresses[0]
        self._addresses = list(dict.fromkeys([here, *(one["client_address"] for one in document["members"])]))
        return document

    def until(
        self, done: Callable[[dict[str, Any]], bool], command: str, version: int, patience_s: float | None = None
    ) -> dict[str, Any]:
        """Ask `command` again and again until `done` says so of an answer that is not of an older ring than `version`
        or than the newest one told of; gives that answer.

        Raises `Unavailable` once nobody has answered for `patience_s`.
        """
        limit_s = PATIENCE_S if patience_s is None else patience_s
        heard_at = time.monotonic()
        while True:
            try:
                document: dict[str, Any] = self.question(command)
            except Unavailable:
                if time.monotonic() - heard_at > limit_s:
                    raise
            else:
                heard_at = time.monotonic()
                if document["ring_version"] < version:
                    self._move_on()
                else:
                    version = document["ring_version"]
                    if done(document):
                        return document
            pause()

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None

    def __enter__(self) -> ClusterLink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self) -> Link:
        if self._link is None:
            self._link = Link(self._addresses[0], self._password, ANSWER_TIMEOUT_S)
        return self._link

    def _move_on(self) -> None:
        """Ask another member next."""
        self.close()
        self._addresses.append(self._addresses.pop(0))


def pause() -> None:
    """Between two questions. Whoever calls it has a bound on how often."""
    time.sleep(POLL_INTERVAL_S)
