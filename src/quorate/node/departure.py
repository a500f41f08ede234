"""Departure: what becomes of a node that the ring does not contain any more.

It holds nothing that its successors lack (`core.ring.advance`, rule D), but it may hold hints, for others (hard case
14), and clients may not know yet that it is gone. So it stays for a while: it hands its hints to the replicas of their
keys, forwards what clients ask, takes no writes of its own, and ends when nothing is left to do. Its peers keep its
present connections until it ends them (`core.ports.Transport.set_members`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from quorate.core.limits import RING_POLL_INTERVAL_MS
from quorate.node.context import NodeContext

log = logging.getLogger(__name__)

CHECK_INTERVAL_MS: Final = 500.0
LINGER_MIN_MS: Final = 2.0 * RING_POLL_INTERVAL_MS
"""Long enough for every client to have asked for the ring."""


class Departure:
    """Watches for this node's own removal, and ends it in good order."""

    def __init__(self, node: NodeContext, on_departed: Callable[[], None]) -> None:
        self._node = node
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
        self._since_ms = node.clock.monotonic_ms()
        version = node.view.version
        log.warning("this node is no member any more, by ring version %d: it hands over its hints and ends", version)
        self._look()

    def _look(self) -> None:
        node = self._node
        waited_ms = node.clock.monotonic_ms() - self._since_ms
        if waited_ms >= LINGER_MIN_MS and not node.hints.by_home and not node.in_flight:
            self.ended = True
            self._on_departed()
            return
        node.scheduler.call_later(CHECK_INTERVAL_MS, self._look)
