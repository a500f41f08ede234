"""Calls of the synchronous client: from a command to its reply, on the caller's own thread.

One daemon thread a client keeps house, so that a node in doubt is probed by nobody's call. The thread holds the client
by a weak reference: a client that was forgotten without `close` goes, and the thread with it.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Sequence
from threading import Event, Thread

from quorate.client import commands
from quorate.client.housekeeping import Timetable, learn_ring
from quorate.client.introduction import Introduction
from quorate.client.operations import Operation, RetryBudget
from quorate.client.protocol import AttemptFailure, Command, FailureKind, Reply
from quorate.client.routing import Router
from quorate.client.sockets import SocketNode, now_ms
from quorate.core.errors import CallerError, QuorateError
from quorate.core.limits import PROBE_TIMEOUT_MS


class SyncCalls:
    """Runs commands on a cluster. Safe for threads."""

    def __init__(self, seeds: Sequence[str], password: str | None, timeout_ms: float) -> None:
        self.timeout_ms = timeout_ms
        self._seeds = seeds
        self._password = password
        self._router: Router[SocketNode] = Router(SocketNode)
        self._budget = RetryBudget()
        self._timetable = Timetable(now_ms())
        self._attention = Event()
        self._closed = Event()

    def start(self) -> None:
        """Learn the ring from the first seed that tells it; raises `Unavailable` or `CallerError`."""
        self._learn_ring(self.timeout_ms)
        keeper = Thread(
            target=_keep_house,
            args=(weakref.ref(self), self._attention, self._closed),
            name="quorate-client",
            daemon=True,
        )
        keeper.start()

    def close(self) -> None:
        """Close everything. Calls that are under way on other threads end in their own time."""
        self._closed.set()
        self._attention.set()
        for node in self._router.nodes.values():
            node.close()

    def execute(self, command: Command, bucket: bytes, timeout_ms: float | None) -> Reply:
        """Run `command` at the node that suits it best; gives a reply that it accepts, or raises.

        Raises `CallerError`, `Unavailable`, `Overloaded` or `OutcomeUnknown`, each true (hard case 31).
        """
        total_ms = self.timeout_ms if timeout_ms is None else commands.check_timeout(timeout_ms)
        self._budget.calls += 1
        now = now_ms()
        operation = Operation(self._router, self._budget, command, bucket, total_ms, now)
        if self._closed.is_set():
            raise CallerError("the client is closed; connect again")
        while True:
            node, attempt_ms = operation.attempt(now)
            reply = node.exchange(command, attempt_ms, self._introduction)
            if command.accepts(reply):
                if node.failures:
                    node.worked()
                return reply
            pause_ms = operation.failed(node, reply, attempt_ms, now_ms())
            self._attention.set()
            if pause_ms:
                self._closed.wait(pause_ms / 1000)
            if self._closed.is_set():
                raise operation.abandoned("the client was closed")
            now = now_ms()

    def keep_house(self) -> float:
        """Do what is due beside the calls; gives the seconds until something may be due again."""
        now = now_ms()
        self._router.fade(now)
        for node in self._router.due_probes(now):
            command = commands.ping_command()
            if command.accepts(node.exchange(command, PROBE_TIMEOUT_MS, self._introduction)):
                node.probed()
        if self._timetable.poll_is_due(self._router, now):
            with contextlib.suppress(QuorateError):
                self._learn_ring(PROBE_TIMEOUT_MS)
        return self._timetable.wait_ms(self._router, now_ms()) / 1000

    def _introduction(self) -> Introduction:
        """For a connection that is opened now: the ring may have been learned since the last one."""
        return Introduction(self._password, self._router.cluster_id)

    def _learn_ring(self, timeout_ms: float) -> None:
        to_close: list[SocketNode] = []
        steps = learn_ring(self._router, self._seeds, to_close)
        try:
            node, command = next(steps)
            while True:
                if self._closed.is_set():
                    reply: Reply = AttemptFailure(FailureKind.NOT_SENT, "the client was closed")
                else:
                    reply = node.exchange(command, timeout_ms, self._introduction)
                node, command = steps.send(reply)
        except StopIteration:
            pass
        finally:
            for other in to_close:
                other.close()


def _keep_house(calls: weakref.ref[SyncCalls], attention: Event, closed: Event) -> None:
    wait_s = 0.0
    while not closed.is_set():
        attention.wait(wait_s)
        attention.clear()
        there = calls()
        if there is None or closed.is_set():
            return
        wait_s = there.keep_house()
        del there
