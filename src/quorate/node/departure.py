"""Departure: what becomes of a node that the ring does not contain any more.

It may hold hints for others (hard case 14), or the second copy of what was written while a replica was away, and
clients may not know yet that it is gone. So it stays for a while: it hands its hints to the replicas of their keys, and
gives these what they lack of its records (`sweep`), forwards what clients ask, takes no writes of its own, and ends
when nothing is left to do. Hints it keeps for as long as nobody takes them; its records are with its successors anyway,
so if one of these stays away it ends after `STALLED_MS` without progress. Its peers keep its present connections until
it ends them (`core.ports.Transport.set_members`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from quorate.core.limits import RING_POLL_INTERVAL_MS
from quorate.node.context import NodeContext

log = logging.getLogger(__name__)

CHECK_INTERVAL_MS: Final = 500.0
STALLED_MS: Final = 15_000.0
LINGER_MIN_MS: Final = 2.0 * RING_POLL_INTERVAL_MS
"""Long enough for every client to have asked for the ring."""


class Departure:
    """Watches for this node's own removal, and ends it in good order."""

    def __init__(self, node: NodeContext, on_departed: Callable[[], None]) -> None:
        self._node = node
        self.left: Callable[[], int] = lambda: 0
        """How many partitions there are of which something is here still. Set by `Node`."""
        self._handed_over = 0
        self._progressed_ms = 0.0
        self._on_departed = on_departed
        self._since_ms = 0.0
        self._leaving = False
        self.ended = False

    def on_ring(self) -> None:
        """This node goes by a newer ring."""
        node = self._node
        if node.view.is_member or self._leaving or not node.view.told:
            return
        self._leaving = True
        self._since_ms = self._progressed_ms = node.clock.monotonic_ms()
        version = node.view.version
        log.warning("this node is no member any more, by ring version %d: it hands over its hints and ends", version)
        self._look()

    def _look(self) -> None:
        node = self._node
        now_ms = node.clock.monotonic_ms()
        handed_over = node.counters.get("strays_handed_over", 0)
        if handed_over != self._handed_over or node.hints.by_home:
            self._handed_over, self._progressed_ms = handed_over, now_ms
        given = not self.left() or now_ms - self._progressed_ms >= STALLED_MS
        if now_ms - self._since_ms >= LINGER_MIN_MS and not node.hints.by_home and given and not node.in_flight:
            self.ended = True
            self._on_departed()
            return
        node.scheduler.call_later(CHECK_INTERVAL_MS, self._look)
