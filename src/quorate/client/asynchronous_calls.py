"""Calls of the asynchronous client: from a command to its reply.

The first attempt of a call is made inline: pick a node, write, await one future. Only if that fails, an `Operation`
(the retry policy) takes over from there, with the very failure that the first attempt met. One task keeps house.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from time import monotonic

from quorate.client import commands
from quorate.client.housekeeping import Timetable, learn_ring
from quorate.client.introduction import Introduction
from quorate.client.operations import Operation, RetryBudget
from quorate.client.protocol import AttemptFailure, Command, FailureKind, Reply
from quorate.client.routing import Router
from quorate.client.streams import StreamNode, Traffic, now_ms, open_connection
from quorate.core.errors import CallerError, QuorateError, Unavailable
from quorate.core.limits import CALLS_IN_FLIGHT_MAX, CONNECTIONS_PER_NODE, PROBE_TIMEOUT_MS


class AsyncCalls:
    """Runs commands on a cluster. Belongs to the event loop it was made in."""

    def __init__(self, seeds: Sequence[str], password: str | None, timeout_ms: float) -> None:
        self.timeout_ms = timeout_ms
        self._seeds = seeds
        self._password = password
        self._traffic = Traffic()
        self._router: Router[StreamNode] = Router(StreamNode)
        self._budget = RetryBudget()
        self._closed = False
        self._attention = asyncio.Event()
        self._timetable = Timetable(now_ms())
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Learn the ring from the first seed that tells it; raises `Unavailable` or `CallerError`."""
        try:
            await self._learn_ring(self.timeout_ms)
        except BaseException:
            await self.close()
            raise
        self._keeper = asyncio.create_task(self._keep_house())

    @property
    def cluster_id(self) -> str:
        """Of the cluster whose ring it has; empty before `start`."""
        return self._router.cluster_id or ""

    async def close(self) -> None:
        """Close everything. Calls that are under way end as if their connections were lost."""
        self._closed = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        for node in self._router.nodes.values():
            _drop(node)
        for connection in list(self._traffic.connections):
            connection.abort(FailureKind.LOST, "the client was closed")

    async def execute(self, command: Command, bucket: bytes, timeout_ms: float | None) -> Reply:
        """Run `command` at the node that suits it best; gives a reply that it accepts, or raises.

        Raises `CallerError`, `Unavailable`, `Overloaded` or `OutcomeUnknown`, each true (hard case 31).
        """
        total_ms = self.timeout_ms if timeout_ms is None else commands.check_timeout(timeout_ms)
        if self._closed:
            raise CallerError("the client is closed; connect again")
        self._budget.calls += 1
        started_ms = monotonic() * 1000.0
        router = self._router
        node = router.pick(router.replicas(bucket, command.slot))
        if node is None:
            raise Unavailable("no node is known by an address that a client could use; connect to another seed")
        attempt_ms = router.attempt_ms(node, command, total_ms, total_ms, 0)
        connection = node.best_connection(started_ms)
        if connection is None or self._traffic.in_flight >= CALLS_IN_FLIGHT_MAX:
            reply = await self._send(node, command, attempt_ms, total_ms)
        else:
            answer = connection.send(command.payload(attempt_ms), attempt_ms, started_ms)
            if connection.held_up(started_ms) and len(node.connections) < CONNECTIONS_PER_NODE:
                self._grow(node, started_ms)
            reply = await answer
        if reply.__class__ is command.expects:
            if node.failures:
                node.worked()
            return reply
        return await self._pursue(node, command, bucket, reply, attempt_ms, total_ms, started_ms)

    async def _pursue(
        self,
        node: StreamNode,
        command: Command,
        bucket: bytes,
        reply: Reply,
        attempt_ms: float,
        total_ms: float,
        started_ms: float,
    ) -> Reply:
        """Go on after the first attempt, at `node`, gave `reply`."""
        operation = Operation(self._router, self._budget, command, bucket, total_ms, started_ms)
        while not command.accepts(reply):
            pause_ms = operation.failed(node, reply, attempt_ms, now_ms())
            self._attention.set()
            if pause_ms:
                await asyncio.sleep(pause_ms / 1000)
            if self._closed:
                raise operation.abandoned("the client was closed")
            now = now_ms()
            node, attempt_ms = operation.attempt(now)
            reply = await self._send(node, command, attempt_ms, started_ms + total_ms - now)
        node.worked()
        return reply

    async def _send(self, node: StreamNode, command: Command, attempt_ms: float, remaining_ms: float) -> Reply:
        """One attempt, with all that may have to come before it: connecting, and waiting for room."""
        deadline_ms = now_ms() + remaining_ms
        may_connect = True
        while not self._closed:
            now = now_ms()
            if node.retired:
                return AttemptFailure(FailureKind.NOT_SENT, "the node left the cluster")
            if not node.connections:
                if not may_connect:
                    return AttemptFailure(FailureKind.NOT_SENT, "the connection was lost at once")
                may_connect = False
                failure = await self._connected(node, min(attempt_ms, deadline_ms - now))
                if failure is not None:
                    self._traffic.admit()
                    return failure
            elif (
                self._traffic.in_flight < CALLS_IN_FLIGHT_MAX and (connection := node.best_connection(now)) is not None
            ):
                attempt_ms = max(1.0, min(attempt_ms, deadline_ms - now))
                return await connection.send(command.payload(attempt_ms), attempt_ms, now)
            else:
                failure = await self._traffic.room(deadline_ms - now)
                if failure is not None:
                    return failure
        return AttemptFailure(FailureKind.NOT_SENT, "the client was closed")

    def _grow(self, node: StreamNode, now: float) -> None:
        """Begin to open one more connection to `node`; not more often than once a second, if it cannot be had."""
        if node.opening is None and now >= node.grow_at_ms:
            node.grow_at_ms = now + 1_000
            self._open(node, self.timeout_ms)

    def _open(self, node: StreamNode, timeout_ms: float) -> asyncio.Task[AttemptFailure | None]:
        """Begin to open a connection, unless that is under way already."""
        if node.opening is None:
            introduction = Introduction(self._password, self._router.cluster_id)
            node.opening = asyncio.ensure_future(open_connection(node, self._traffic, introduction, timeout_ms))
            node.opening.add_done_callback(lambda _: setattr(node, "opening", None))
        return node.opening

    async def _connected(self, node: StreamNode, timeout_ms: float) -> AttemptFailure | None:
        """Wait until `node` has a connection; the failure says why it has none."""
        opening = self._open(node, timeout_ms)
        await asyncio.wait([opening], timeout=timeout_ms / 1000)
        if not opening.done():
            return AttemptFailure(FailureKind.NOT_SENT, f"no connection within {timeout_ms:.0f} ms")
        return None if opening.cancelled() else opening.result()

    async def _keep_house(self) -> None:
        """Ask for newer rings, probe nodes in doubt, let figures fade; until the client is closed."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._timetable.wait_ms(self._router, now_ms()) / 1000):
                    await self._attention.wait()
            self._attention.clear()
            now = now_ms()
            self._router.fade(now)
            await asyncio.gather(*(self._probe(node) for node in self._router.due_probes(now)))
            if self._timetable.poll_is_due(self._router, now):
                with contextlib.suppress(QuorateError):
                    await self._learn_ring(PROBE_TIMEOUT_MS)

    async def _probe(self, node: StreamNode) -> None:
        command = commands.ping_command()
        if command.accepts(await self._send(node, command, PROBE_TIMEOUT_MS, PROBE_TIMEOUT_MS)):
            node.probed()

    async def _learn_ring(self, timeout_ms: float) -> None:
        to_close: list[StreamNode] = []
        steps = learn_ring(self._router, self._seeds, to_close)
        try:
            node, command = next(steps)
            while True:
                reply = await self._send(node, command, timeout_ms, timeout_ms)
                node, command = steps.send(reply)
        except StopIteration:
            pass
        finally:
            for other in to_close:
                other.retire()


def _drop(node: StreamNode) -> None:
    if node.opening is not None:
        node.opening.cancel()
    for connection in list(node.connections):
        connection.abort(FailureKind.LOST, "the client was closed")
