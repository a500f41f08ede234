"""Watching peers and oneself: probes to peers that have fallen silent, and the node's own stalls.

A node that stood still (a long pause of its loop, a machine that slept) sees every request time out. It has to notice
that before it blames others (SOSP 2007, §4.8.3 leaves this out; every store has met it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from quorate.core.membership.failure_detector import TICK_INTERVAL_MS
from quorate.core.messages import Probe, ProbeReply
from quorate.node.context import NodeContext
from quorate.node.evidence import LOAD_REQUESTS_PER_TICK, OBSERVED_UNDER_LOAD

STALL_MS = 150.0
"""A tick that comes later than this was a stall of this node."""

PROBE_TIMEOUT_MS = 1_000.0


class _ProbeOperation:
    """One probe on its way. An answer clears the suspicion.

    Silence is held against a peer that is not suspected yet: reads avoid one that is silent or slow, so that without
    probes nothing more would be learned of it by a node that serves reads alone.
    """

    __slots__ = ("_member", "_node", "_sent_ms", "id")

    def __init__(self, node: NodeContext, member: int) -> None:
        self._node = node
        self._member = member
        self._sent_ms = node.clock.monotonic_ms()
        self.id = node.requests.open(self, node.options.retry_ms)

    def on_reply(self, member: int, message: ProbeReply) -> None:
        self._node.requests.close(self.id)
        self._node.detector.on_answer(member, self._node.clock.monotonic_ms() - self._sent_ms)

    def on_disconnected(self, member: int) -> None:
        pass

    def owed(self) -> Iterable[tuple[int, float]]:
        return ((self._member, self._sent_ms),)

    def on_silent(self, member: int) -> None:
        pass

    def on_time(self) -> None:
        node = self._node
        now_ms = node.clock.monotonic_ms()
        waited_ms = now_ms - self._sent_ms
        if waited_ms >= PROBE_TIMEOUT_MS:
            node.requests.close(self.id)
            return
        if self._member not in node.detector.suspects:
            node.detector.on_timeout(self._member, waited_ms, now_ms)
        node.requests.remind(self.id, PROBE_TIMEOUT_MS - waited_ms)


class Health:
    """The node's pulse."""

    def __init__(self, node: NodeContext, on_recovered: Callable[[int], None]) -> None:
        self._node = node
        self._on_recovered = on_recovered
        self._suspected: dict[int, bool] = {}
        self._due_ms = 0.0
        self._made = 0
        self.lag_ms = 0.0

    def start(self) -> None:
        self._due_ms = self._node.clock.monotonic_ms() + TICK_INTERVAL_MS
        self._node.scheduler.call_later(TICK_INTERVAL_MS, self._tick)

    def _tick(self) -> None:
        node = self._node
        now_ms = node.clock.monotonic_ms()
        self.lag_ms = now_ms - self._due_ms
        if self.lag_ms > STALL_MS:
            node.on_stall(now_ms)
        node.detector.tick(now_ms)
        made, self._made = node.requests_made - self._made, node.requests_made
        node.observed_every = OBSERVED_UNDER_LOAD if made > LOAD_REQUESTS_PER_TICK else 1
        for member in node.detector.due_probes(now_ms):
            if node.transport.connected(member):
                node.count("probes")
                node.transport.send(member, Probe(_ProbeOperation(node, member).id))
        suspected = dict(node.detector.suspects)
        for member in self._suspected:
            if member not in suspected and node.transport.connected(member):
                self._on_recovered(member)
        self._suspected = suspected
        self._due_ms = now_ms + TICK_INTERVAL_MS
        node.scheduler.call_later(TICK_INTERVAL_MS, self._tick)
