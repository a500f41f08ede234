"""Filling for a plan: a newcomer gets all that it is to own, before it is read (`core.ring.advance`, rules S and P).

While a plan stands at READ_OLD, each of this node's placements in which it is new is compared with the replicas before,
by the same exchanges that heal replicas (`exchange`): so copying is resumable and exact by nature, and a partition that
was compared before a crash costs one root after it. A comparison counts if both sides went by the plan's ring, or a
later one, when it began. When enough sources were compared for every placement, and all of them that can be reached,
this node says so by gossip, and to whoever asks (`StandingAsk`).

The promise is durable (a node that restarts still holds what it held) and is bound to the plan by the ring that began
it. A wiped store has lost it with the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec

from quorate.core.errors import StorageError
from quorate.core.membership.gossip import RingRank
from quorate.core.ports import Space
from quorate.core.ring.advance import sources_awaited
from quorate.core.ring.transition import Stage
from quorate.node.context import NodeContext
from quorate.node.documents import load_whole, sealed
from quorate.node.gossip_rounds import NOTHING_FILLED

log = logging.getLogger(__name__)

FILLED_KEY: Final = b"filled"
CHECK_INTERVAL_MS: Final = 500.0
ROWS_MAX: Final = 64
"""Rows of a report: groups of partitions that wait for the same members."""

Part = tuple[int, int]
"""(n, partition)"""


class PlanFilling:
    """What this node still has to be given for the plan under way."""

    def __init__(self, node: NodeContext, on_filled: Callable[[RingRank], None]) -> None:
        """`on_filled(rank)`: everything that the plan begun by the ring of this rank needs is here, durably."""
        self._node = node
        self._on_filled = on_filled
        self._rank: RingRank = NOTHING_FILLED
        """Of the ring that began the plan under way."""
        self.total = 0
        self.waiting: dict[Part, dict[int, bool]] = {}
        """Placement in which this node is new and not filled → the members that it was compared with."""
        self._began_ms = 0.0
        self._noted = False
        """That all of it is here: noted, or about to be."""
        self._began_records = self._began_bytes = 0
        self.filled = self._load()

    def start(self) -> None:
        if self.filled != NOTHING_FILLED:
            self._on_filled(self.filled)
        self.on_ring()
        self._tick()

    @property
    def pending(self) -> bool:
        """Is there anything to be had? Then exchanges follow each other at once."""
        return bool(self.waiting)

    def on_ring(self) -> None:
        """This node goes by a newer ring."""
        node = self._node
        transition = node.view.ring.transition
        if transition is None or transition.stage != Stage.READ_OLD:
            self.waiting, self.total = {}, 0
            return
        rank = (node.rings.chain.confirmed.forced, transition.began)
        if rank in (self._rank, self.filled):
            return
        self._rank, self._noted = rank, False
        me = node.self_number
        self.waiting = {
            (n, partition): {}
            for n in node.trees.n_values()
            for partition, placement in enumerate(node.view.placements_of(n))
            if placement.sides and me in placement.sides[1] and me not in placement.sides[0]
        }
        self.total = len(self.waiting)
        for n, partition in list(self.waiting):
            before = node.view.placements_of(n)[partition].sides[0]
            if all(member in transition.stopped for member in before):
                del self.waiting[n, partition]  # Given up by the operator: there is nobody to be compared with.
        self._began_ms = node.clock.monotonic_ms()
        self._began_records = node.counters.get("records_received_in_repair", 0)
        self._began_bytes = node.counters.get("exchange_bytes", 0)
        if self.waiting:
            log.info("this node is to get %d partitions and begins to be filled", self.total)

    def on_compared(self, peer: int, partition: int, n: int) -> None:
        """What this node holds of a placement equals what `peer` held when both went by the present ring."""
        compared = self.waiting.get((n, partition))
        if compared is not None:
            compared[peer] = True
            self._look_at([(n, partition)])

    def _tick(self) -> None:
        self._look_at([part for part, compared in self.waiting.items() if compared])
        self._node.scheduler.call_later(CHECK_INTERVAL_MS, self._tick)

    def _awaited(self, parts: Collection[Part]) -> dict[Part, list[int]]:
        """Whom each of these placements must still be compared with; nothing once the plan is over."""
        view = self._node.view
        transition = view.ring.transition
        if transition is None:
            return {}
        down = [member for member in view.other_numbers if not self._node.usable(member)]
        of_n = {n: [quorum for quorum in view.quorums if quorum.n == n] for n in dict.fromkeys(n for n, _ in parts)}
        return {
            (n, partition): sources_awaited(
                view.joint.of(partition, n), self.waiting[n, partition], transition.stopped, down, of_n[n]
            )
            for n, partition in parts
        }

    def _look_at(self, parts: Collection[Part]) -> None:
        """Those of these placements that were compared with enough replicas are filled."""
        for part, awaited in self._awaited(parts).items():
            if not awaited:
                del self.waiting[part]
        self._finish()

    def _finish(self) -> None:
        """All is here: note it, synced, and say so."""
        node = self._node
        if self.waiting or not self.total or self._noted or node.fenced_because:
            return
        rank, self._noted = self._rank, True
        seconds = (node.clock.monotonic_ms() - self._began_ms) / 1000
        log.info("this node is filled for the plan that ring version %d began, after %.1f s", rank[1], seconds)

        def synced(error: StorageError | None) -> None:
            if error is None:
                self.filled = rank
                self._on_filled(rank)

        try:
            node.commits.flush()
            node.engine.write([(Space.META, FILLED_KEY, sealed(msgspec.msgpack.encode(rank)))])
            node.engine.sync(synced)
        except StorageError as error:
            self._noted = False
            log.error("it could not be noted that this node is filled: %s", error)

    def _load(self) -> RingRank:
        raw = load_whole(self._node.engine, FILLED_KEY)
        return NOTHING_FILLED if raw is None else msgspec.msgpack.decode(raw, type=tuple[int, int])

    # --- for people ---

    def report(self) -> dict[str, Any]:
        """How far it is, and what each group of partitions waits for."""
        node = self._node
        elapsed_s = max(0.001, (node.clock.monotonic_ms() - self._began_ms) / 1000)
        received = node.counters.get("records_received_in_repair", 0) - self._began_records
        size_bytes = node.counters.get("exchange_bytes", 0) - self._began_bytes
        # The first comparison of a placement brings what there is; those after it find little.
        untouched = sum(not compared for compared in self.waiting.values())
        touched = self.total - untouched
        seconds_left = round(elapsed_s * untouched / touched, 1) if touched and self.waiting else None
        return {
            "partitions": self.total,
            "partitions_left": len(self.waiting),
            "received_records": received if self.total else 0,
            "received_bytes": size_bytes if self.total else 0,
            "bytes_per_s": round(size_bytes / elapsed_s) if self.waiting else 0,
            "seconds_left": seconds_left,
            "waits_for": self._rows(),
        }

    def _rows(self) -> list[dict[str, Any]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for (_, partition), awaited in self._awaited(sorted(self.waiting)).items():
            groups.setdefault(tuple(awaited), []).append(partition)
        return [
            {
                "partitions": sorted(set(partitions)),
                "members": self._node.names(list(members)),
                "reason": "to be compared with, or copied from, these replicas",
            }
            for members, partitions in sorted(groups.items())[:ROWS_MAX]
        ]
