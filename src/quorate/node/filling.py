"""Partitions that are being filled: this replica holds less of them than it once acknowledged, and says so.

A store that was found empty, or that emptied itself (`absence`), would answer reads with "absent", which counts towards
R and is false. So until its copy of a partition has been compared with the other replicas', it answers reads of that
partition with `NOT_READY`, and does not count its own record when it coordinates one. It takes writes as always: a
write adds to what it holds, and a copy is a copy.

In a cluster that was made just now, everybody is empty, and says so when asked: then there is nothing to wait for.

A partition is filled when it has been compared with every other replica that is connected, at least one. A replica
that is down then may hold an acknowledged write that none of the others has; with it, that would have been two losses.

Invariants: the list survives a crash (it is forgotten, durably, only when it is empty, or begun anew as a whole);
partitions of which this node is the only replica are never on it, since there is nobody to ask.
Rejected: to wait for the first pass over all data before serving anything (a large store would serve after hours what
it had after seconds).
"""

from __future__ import annotations

import logging

from quorate.core.errors import StorageError
from quorate.core.messages import AbsenceAsk
from quorate.core.ports import Space
from quorate.node.context import NodeContext
from quorate.node.gather import Answers, GatherOperation

log = logging.getLogger(__name__)

FILLING_KEY = b"filling"
ASK_TIMEOUT_MS = 1_000


class Filling:
    """`partitions` is empty in a healthy node: that is all that the hot path looks at."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self.partitions: dict[int, dict[tuple[int, int], bool]] = {}
        """Partition → the (peer, n) that it has been compared with since filling began."""
        self._began_ms = 0.0
        self._empty_peers: dict[int, bool] = {}
        """Peers that said that they hold nothing. What they get from now on, this node gets as well."""

    def restore(self) -> None:
        """At start: begin if the store is new, go on if a former life did not finish. Raises `StorageError`.

        Where anti-entropy is switched off, nothing would ever fill it, so it serves what it has.
        """
        engine = self._node.engine
        if self._node.options.anti_entropy_interval_ms > 0 and (
            engine.report.fresh or engine.get(Space.META, FILLING_KEY) is not None
        ):
            self.begin()

    def begin(self) -> None:
        """Everything that this node replicates is to be filled. Raises `StorageError`."""
        node = self._node
        self.partitions = {partition: {} for partition in range(node.view.ring.partitions) if self._peers(partition)}
        self._began_ms = node.clock.monotonic_ms()
        self._empty_peers = {}
        if self.partitions:
            node.engine.write([(Space.META, FILLING_KEY, b"1")])

    def unready(self, key: bytes) -> bool:
        """May this node's record of a storage key be less than it acknowledged? Look at `partitions` first."""
        return (key[0] << 8 | key[1]) in self.partitions

    def on_connected(self, peer: int) -> None:
        """Ask whether there is anything to be had from `peer`."""
        if self.partitions:
            gather = GatherOperation(self._node, ASK_TIMEOUT_MS, self._told)
            gather.send({peer: AbsenceAsk(gather.id, ASK_TIMEOUT_MS, 0)})

    def _told(self, answers: Answers) -> None:
        for peer, answer in answers.items():
            if answer.empty:
                self._empty_peers[peer] = True
        if self.partitions and all(number in self._empty_peers for number in self._node.view.other_numbers):
            self.give_up()

    def on_compared(self, peer: int, partition: int, n: int) -> None:
        """What this node holds of a partition, for buckets with `n`, is the same as at `peer` now."""
        compared = self.partitions.get(partition)
        if compared is None:
            return
        compared[(peer, n)] = True
        wanted = self._peers(partition)
        connected = {pair: True for pair in wanted if self._node.transport.connected(pair[0])}
        if connected and all(pair in compared for pair in connected):
            del self.partitions[partition]
            if not self.partitions:
                self._finished()

    def give_up(self) -> None:
        """It turned out that nothing is missing."""
        if self.partitions:
            self.partitions = {}
            self._finished()

    def _finished(self) -> None:
        node = self._node
        seconds = (node.clock.monotonic_ms() - self._began_ms) / 1000
        if seconds > 1.0:
            log.info("all partitions are filled from the other replicas, after %.1f s", seconds)
        try:
            node.engine.write([(Space.META, FILLING_KEY, None)])
        except StorageError as error:
            log.error("it could not be noted that this store is whole: %s", error)  # It will be compared once more.

    def _peers(self, partition: int) -> dict[tuple[int, int], bool]:
        """(peer, n) for all others that replicate the partition together with this node, for every n in use."""
        found = {}
        for n in self._node.trees.n_values():
            placement = self._node.view.placements_of(n)[partition]
            if placement.local:
                for peer in placement.others:
                    found[(peer, n)] = True
        return found
