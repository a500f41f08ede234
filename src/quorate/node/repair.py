"""Repair on demand: one full pass of anti-entropy now, from this node to all others, with its progress.

First every record of this node is read and checked against its checksum (the hash trees are made anew from a scan), so
that damage that nobody has read yet is found; then the node compares with each other member. A pass on every node of
the cluster in turn, which is what `quorate repair` does, thus verifies and compares everything there is.

Invariants: one pass at a time, and no scheduled exchange beside it; it waits for nothing without a bound.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from quorate.node.anti_entropy import AntiEntropy
from quorate.node.context import NodeContext
from quorate.node.exchange import Exchange, ExchangeFigures, PartitionFigures
from quorate.node.steps import pause, run

log = logging.getLogger(__name__)

RUNNING: Final = ("verifying", "comparing")
PROGRESS_MS: Final = 200.0
POLL_MS: Final = 50.0
VERIFY_STALL_MS: Final = 60_000.0
"""The scan has not finished a single partition for so long: it will not."""
RETRIES_MAX: Final = 30
RETRY_MS: Final = 1_000.0
"""A peer whose trees are being made anew is asked again for half a minute."""


class Repair:
    """The pass that runs, or the last one that did."""

    def __init__(self, node: NodeContext, anti_entropy: AntiEntropy) -> None:
        self._node = node
        self._anti_entropy = anti_entropy
        self._state = "idle"
        self._bucket = b""
        self._reason = ""
        self._damaged = 0
        self._verified = 0
        self._peers: dict[int, dict[str, Any]] = {}
        self._began_ms = 0.0
        self._ended_ms = 0.0

    def begin(self, bucket: bytes = b"") -> None:
        """Start a pass over all buckets, or over one; if one is under way, that one goes on instead."""
        if self._state in RUNNING:
            return
        node = self._node
        self._state, self._bucket, self._reason = "verifying", bucket, ""
        self._damaged = self._verified = 0
        self._peers = {member: {"state": "waiting"} for member in node.view.other_numbers if self._shares(member)}
        self._began_ms = self._ended_ms = node.clock.monotonic_ms()
        run(self._pass(), lambda result: None)

    def status(self, reply: Callable[[dict[str, Any]], None]) -> None:
        """`document`, at once if no pass is under way, else in a moment: so looking on needs no clock."""
        if self._state in RUNNING:
            self._node.scheduler.call_later(PROGRESS_MS, lambda: reply(self.document()))
        else:
            reply(self.document())

    def document(self) -> dict[str, Any]:
        """Where the pass is, JSON-able."""
        node = self._node
        end_ms = node.clock.monotonic_ms() if self._state in RUNNING else self._ended_ms
        return {
            "state": self._state,
            "bucket": self._bucket.decode(errors="backslashreplace") or None,
            "reason": self._reason,
            "partitions": node.view.ring.partitions,
            "verified": self._verified,
            "damaged": self._damaged,
            "peers": {node.names([member])[0]: dict(peer) for member, peer in self._peers.items()},
            "received": sum(peer.get("received", 0) for peer in self._peers.values()),
            "sent": sum(peer.get("sent", 0) for peer in self._peers.values()),
            "complete": self._state == "done" and all(peer["state"] == "done" for peer in self._peers.values()),
            "seconds": round((end_ms - self._began_ms) / 1000, 1),
        }

    def _shares(self, member: int) -> bool:
        view = self._node.view
        n_values = [view.bucket(self._bucket).properties.n] if self._bucket else self._node.trees.n_values()
        return any(found.stores and member in found.other_homes for n in n_values for found in view.placements_of(n))

    async def _pass(self) -> None:
        await self._anti_entropy.hold()
        try:
            if await self._verify():
                self._state = "comparing"
                for member in self._peers:
                    await self._compare(member)
                self._state = "done"
        finally:
            self._ended_ms = self._node.clock.monotonic_ms()
            self._anti_entropy.release()

    async def _verify(self) -> bool:
        """Make all trees anew; false if that comes to no end."""
        node = self._node
        trees = node.trees
        trees.rebuild_all()
        n = trees.n_values()[0]
        moved_ms = node.clock.monotonic_ms()
        while self._verified < node.view.ring.partitions:
            await pause(node, POLL_MS)
            before = self._verified
            self._verified = sum(trees.ready(partition, n) for partition in range(node.view.ring.partitions))
            self._damaged = trees.report()["damaged_records"]
            now_ms = node.clock.monotonic_ms()
            if self._verified > before:
                moved_ms = now_ms
            elif node.fenced_because or now_ms - moved_ms > VERIFY_STALL_MS:
                self._state = "failed"
                self._reason = node.fenced_because or "the scan of this node's records has stopped"
                return False
        return True

    async def _compare(self, member: int) -> None:
        """Exchange with `member` until everything shared was compared, or that proves impossible."""
        node = self._node
        peer = self._peers[member]
        peer.update(state="comparing", reason="", received=0, sent=0, differed=0, exchanges=0)
        for _ in range(1 + RETRIES_MAX):
            if not node.usable(member):
                peer.update(state="unreachable", reason="it is not connected, or does not answer")
                return
            exchange = Exchange(node, member, self._note, self._bucket)
            received, sent = peer["received"], peer["sent"]
            self._show(peer, exchange.figures, received, sent)
            figures = await self._anti_entropy.exchange_with(member, exchange)
            self._show(peer, figures, received, sent)
            if figures.complete:
                peer["state"] = "done"
                return
            if figures.ended_because:
                peer.update(state="given up", reason=figures.ended_because)
                return
            await pause(node, RETRY_MS)
        peer.update(state="given up", reason="some partitions could not be compared; see the node's log")

    def _show(self, peer: dict[str, Any], figures: ExchangeFigures, received: int, sent: int) -> None:
        peer.update(
            shared=figures.shared,
            compared=figures.compared,
            differed=peer["differed"] + figures.differed,
            unready=figures.unready,
            failed=figures.failed,
            received=received + figures.received,
            sent=sent + figures.sent,
        )

    def _note(self, member: int, found: PartitionFigures) -> None:
        peer = self._peers[member]
        peer["compared"] = peer.get("compared", 0) + 1
        if not self._bucket:
            self._anti_entropy.note(member, found)
