"""Anti-entropy by itself: when this node compares with whom, and what came of it (SOSP 2007, §4.7).

The node goes round its peers, one exchange at a time: the one not compared with for the longest comes first, a peer
that has just connected before all others. Where nothing differs there is one exchange in each interval; where much
does, the next one follows at once. Exchanges that fail are tried again when their turn comes round.

Rejected: a random peer each time (after a node's return, its turn may not come for minutes); exchanges with several
peers at once (they would move the same records twice).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from quorate.node.context import NodeContext
from quorate.node.damage import Damage
from quorate.node.exchange import Exchange, ExchangeFigures, PartitionFigures
from quorate.node.steps import Wait, pause, run

log = logging.getLogger(__name__)

TICK_MS: Final = 100.0
FIRST_DELAY_MS: Final = 1_000.0
"""After a peer has connected: its hints may bring it what it lacks, and whoever comes next may connect meanwhile."""
UNREADY_DELAY_MS: Final = 2_000.0
SOON_MS: Final = 100.0
MUCH_MOVED: Final = 32
"""Under load a few records always differ for a moment. More than this, and the next exchange follows at once."""


class PartitionHistory:
    """What this node knows of comparisons of one partition since it was started."""

    __slots__ = ("compared_ms", "differed_ms", "peer", "received", "sent")

    def __init__(self) -> None:
        self.compared_ms = 0
        """Wall clock, Unix milliseconds, of the last comparison that came to its end."""
        self.peer = 0
        """With whom that was."""
        self.differed_ms = 0
        """When records were last moved; 0: never."""
        self.received = 0
        self.sent = 0

    def row(self) -> tuple[int, int, int, int, int]:
        return (self.compared_ms // 1000, self.peer, self.received, self.sent, self.differed_ms // 1000)


class AntiEntropy:
    """The schedule of this node's exchanges, and their figures."""

    def __init__(self, node: NodeContext, delivers_to: Callable[[int], bool]) -> None:
        """`delivers_to(peer)`: hints are on their way there, which bring most of what it lacks, and for less."""
        self._node = node
        self._delivers_to = delivers_to
        self._damage = Damage(node)
        self._exchange: Exchange | None = None
        self._peer = 0
        self._held = False
        self._due_ms = 0.0
        self._turns = 0
        self._turn_of: dict[int, int] = {}
        """Peer → the number of its last exchange; absent: none since it connected."""
        self._history: dict[int, dict[int, PartitionHistory]] = {}
        self._last: ExchangeFigures | None = None

    def start(self) -> None:
        """Begin the round. With an interval of 0 there is none, once this node is filled: only `repair` compares."""
        self._due_ms = self._node.clock.monotonic_ms() + self._jittered(FIRST_DELAY_MS)
        self._node.scheduler.call_later(TICK_MS, self._tick)

    def stop(self) -> None:
        """End what is under way before its next step."""
        self._held = True
        if self._exchange is not None:
            self._exchange.stopped = True

    def wake(self, peer: int) -> None:
        """`peer` has connected: it may have missed a lot, or be new."""
        self._turn_of.pop(peer, None)
        if self._urgent():
            self._due_ms = 0.0
            self._node.scheduler.call_soon(self._begin_if_due)
        else:
            delay_ms = self._jittered(FIRST_DELAY_MS)
            self._due_ms = min(self._due_ms, self._node.clock.monotonic_ms() + delay_ms)

    def hold(self) -> Wait[None]:
        """Wait for the exchange that is under way, and begin none until `release`."""

        async def until_idle() -> None:
            self._held = True
            while self._exchange is not None:
                await pause(self._node, TICK_MS)

        return Wait(lambda resume: run(until_idle(), resume))

    def release(self) -> None:
        self._held = False

    async def exchange_with(self, peer: int, exchange: Exchange) -> ExchangeFigures:
        """Run one exchange and count what came of it. At most one runs at a time."""
        assert self._exchange is None, "one exchange at a time"
        node = self._node
        self._exchange, self._peer = exchange, peer
        self._damage.on_exchange()
        self._turns += 1
        self._turn_of[peer] = self._turns
        figures = await exchange.run()
        self._exchange = None
        for n, partition in figures.gone_through:
            self._filled_with(peer, partition, n, exchange)
        if node.filling.partitions:
            node.filling.on_exchanged(peer, in_vain=bool(figures.ended_because) and not figures.compared)
        self._last = figures
        node.count("exchanges")
        node.count("partitions_compared", figures.compared)
        node.count("partitions_differing", figures.differed)
        node.count("records_received_in_repair", figures.received)
        node.count("records_sent_in_repair", figures.sent)
        node.count("exchange_bytes", figures.payload_bytes)
        if figures.ended_because or figures.failed:
            node.count("exchanges_given_up")
        if figures.received or figures.sent:
            name = node.names([peer])[0]
            log.info("compared with %s: %d records received, %d sent", name, figures.received, figures.sent)
        return figures

    def note(self, peer: int, found: PartitionFigures) -> None:
        """A partition was compared in full, by the exchange that is under way."""
        now_ms = self._node.clock.wall_ms()
        history = self._history.setdefault(found.n, {}).setdefault(found.partition, PartitionHistory())
        history.compared_ms, history.peer = now_ms, peer
        if found.received or found.sent:
            history.differed_ms = now_ms
            history.received += found.received
            history.sent += found.sent
        assert self._exchange is not None
        self._filled_with(peer, found.partition, found.n, self._exchange)
        self._damage.on_compared(peer, found.partition, found.n)

    def _filled_with(self, peer: int, partition: int, n: int, exchange: Exchange) -> None:
        """What this node holds of a placement is what `peer` held. It counts only by the ring that both go by now."""
        if exchange.ring_version == self._node.view.version:
            self._node.filling.on_compared(peer, partition, n)
            self._node.plan_filling.on_compared(peer, partition, n)

    def on_ring(self) -> None:
        """This node goes by a newer ring: it may have others to compare with, and may be new somewhere."""
        members = self._node.view.names
        self._turn_of = {member: turn for member, turn in self._turn_of.items() if member in members}
        if self._urgent():
            self._turn_of = {}
            self._due_ms = 0.0
            self._node.scheduler.call_soon(self._begin_if_due)

    def _urgent(self) -> bool:
        """Is this node waiting to be filled? Then there is no time to lose."""
        return bool(self._node.filling.partitions) or self._node.plan_filling.pending

    def report(self) -> dict[str, Any]:
        """For people: how much was compared how long ago, and each partition by itself."""
        node = self._node
        shared = {
            n: [p for p, found in enumerate(node.view.placements_of(n)) if found.stores and found.other_homes]
            for n in node.trees.n_values()
        }
        times = [
            self._history[n][partition].compared_ms
            for n, partitions in shared.items()
            for partition in partitions
            if partition in self._history.get(n, {})
        ]
        partitions = sum(map(len, shared.values()))
        oldest_s = None
        if times and len(times) == partitions:
            oldest_s = round((node.clock.wall_ms() - min(times)) / 1000, 1)
        counters = node.counters
        return {
            "interval_ms": node.options.anti_entropy_interval_ms,
            "running_with": node.names([self._peer])[0] if self._exchange is not None else None,
            "partitions": partitions,
            "compared": len(times),
            "all_compared_within_s": oldest_s,
            "unready_trees": partitions - sum(node.trees.ready(p, n) for n in shared for p in shared[n]),
            "received": counters.get("records_received_in_repair", 0),
            "sent": counters.get("records_sent_in_repair", 0),
            "given_up": counters.get("exchanges_given_up", 0),
            "last_ended_because": self._last.ended_because if self._last is not None else "",
            "comparisons": {str(n): self._comparisons(n) for n in shared if n in self._history},
        }

    def _comparisons(self, n: int) -> list[dict[str, Any]]:
        """Which partitions were compared when, with whom and with what result; those of which the same is to be said
        (`received` and `sent` are of each, since this node's start) share an entry, so a quiet cluster fits a page."""
        groups: dict[tuple[int, int, int, int, int], list[int]] = {}
        for partition, history in sorted(self._history[n].items()):
            groups.setdefault(history.row(), []).append(partition)
        return [
            {
                "partitions": ranges_text(partitions),
                "compared_unix_s": compared_s,
                "with": self._node.names([peer])[0],
                "received": received,
                "sent": sent,
                "differed_unix_s": differed_s or None,
            }
            for (compared_s, peer, received, sent, differed_s), partitions in sorted(groups.items())
        ]

    # --- the round ---

    def _jittered(self, delay_ms: float) -> float:
        """Between half and one and a half of it, so that nodes that started together do not stay in step."""
        return delay_ms * (0.5 + self._node.rng.random())

    def _tick(self) -> None:
        self._begin_if_due()
        self._node.scheduler.call_later(TICK_MS, self._tick)

    def _begin_if_due(self) -> None:
        node = self._node
        now_ms = node.clock.monotonic_ms()
        wanted = node.options.anti_entropy_interval_ms > 0 or self._urgent()
        idle = self._exchange is None and not self._held and not node.fenced_because
        if wanted and idle and now_ms >= self._due_ms:
            peer = self._next_peer()
            if peer:
                self._due_ms = float("inf")
                run(self.exchange_with(peer, Exchange(node, peer, self.note)), self._ended)

    def _next_peer(self) -> int:
        """The usable peer whose last exchange was longest ago; 0 if there is none.

        One that is being filled asks for itself: twice as much at once would disturb the clients.
        """
        node = self._node
        usable = [m for m in node.view.other_numbers if node.usable(m) and not self._delivers_to(m)]
        if not self._urgent():
            usable = [member for member in usable if member not in node.detector.unready]
        return min(usable, key=lambda member: self._turn_of.get(member, 0), default=0)

    def _ended(self, figures: ExchangeFigures) -> None:
        node = self._node
        delay_ms = self._jittered(float(node.options.anti_entropy_interval_ms))
        if figures.unready:
            delay_ms = min(delay_ms, self._jittered(UNREADY_DELAY_MS))
        if self._urgent():
            delay_ms = min(delay_ms, SOON_MS)
        waits = any(node.usable(member) and member not in self._turn_of for member in node.view.other_numbers)
        if waits or figures.received + figures.sent >= MUCH_MOVED:
            delay_ms = min(delay_ms, SOON_MS)
        self._due_ms = node.clock.monotonic_ms() + delay_ms


def ranges_text(numbers: list[int]) -> str:
    """[1, 2, 3, 7] → "1-3 7"; the numbers ascend."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
