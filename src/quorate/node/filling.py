"""Partitions that are being filled: this replica holds less of them than it once acknowledged, and says so.

A store that was found empty, or that emptied itself (`absence`), would answer reads with "absent", which counts towards
R and is false. So until its copy of a partition has been compared with the other replicas', it answers reads of that
partition with `NOT_READY`, and does not count its own record when it coordinates one. It takes writes as always: a
write adds to what it holds, and a copy is a copy.

In a cluster that was made just now, everybody is empty, and says so when asked: then there is nothing to wait for.

A partition is filled when it has been compared with every other replica, or with at least one if the others have been
out of reach for `PATIENCE_MS`. A replica that is down then may hold an acknowledged write that none of the others has;
with it, that would have been two losses. One that is a moment late, as all but the first are at start-up, is no loss.

Invariants: the list survives a crash (it is forgotten, durably, only when it is empty, or begun anew as a whole);
keys with a single replica are never held back, since there is nobody to ask, and partitions that share no replica with
anybody leave the list with the first exchange.
Rejected: to wait for the first pass over all data before serving anything (a large store would serve after hours what
it had after seconds); to ask only whoever is connected at the moment (the first peer to connect would then be all there
is, and what it lacks would be "absent").
"""

from __future__ import annotations

import logging

from quorate.core.errors import StorageError
from quorate.core.messages import AbsenceAsk
from quorate.core.ports import Space
from quorate.node.context import NodeContext
from quorate.node.gather import Answers, ask

log = logging.getLogger(__name__)

FILLING_KEY = b"filling"
ASK_TIMEOUT_MS = 1_000
PATIENCE_MS = 5_000.0
"""For a replica that is down, or takes no part in comparisons: longer than connections take to come back."""


class Filling:
    """`partitions` is empty in a healthy node: that is all that the hot path looks at."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self.partitions: dict[int, dict[tuple[int, int], bool]] = {}
        """Partition → the (peer, n) that it has been compared with since filling began."""
        self._began_ms = 0.0
        self._empty_peers: dict[int, bool] = {}
        """Peers that said that they hold nothing. What they get from now on, this node gets as well."""
        self._undecided = False
        self._refusing: dict[int, bool] = {}
        """Peers with which the last exchange came to nothing."""
        self._out_since_ms: dict[int, float] = {}
        """Peer → since when it has been seen out of reach."""

    def restore(self) -> None:
        """At start: begin if the store is new, go on if a former life did not finish. Raises `StorageError`.

        Where anti-entropy is switched off, a new store serves what it has.
        """
        engine = self._node.engine
        new = engine.report.fresh and self._node.options.anti_entropy_interval_ms > 0
        if new or engine.get(Space.META, FILLING_KEY) is not None:
            self.begin()

    def hold_back(self) -> None:
        """Serve nothing that others hold as well until it is decided to `begin` or to `give_up` (see `absence`)."""
        self._undecided = True
        self._list_all()

    def begin(self) -> None:
        """Everything that this node replicates is to be filled. Raises `StorageError`."""
        self._undecided = False
        self._list_all()
        if self.partitions:
            self._node.engine.write([(Space.META, FILLING_KEY, b"1")])

    def _list_all(self) -> None:
        node = self._node
        # All, not those with other replicas: a new disk does not know yet which n there are, and is told by its peers.
        self.partitions = {partition: {} for partition in range(node.view.ring.partitions)}
        if not node.view.other_numbers:
            self.partitions = {}
        self._began_ms = node.clock.monotonic_ms()
        self._empty_peers, self._refusing, self._out_since_ms = {}, {}, {}

    def unready(self, key: bytes) -> bool:
        """May this node's record of a storage key be less than it acknowledged? Look at `partitions` first."""
        return self.holds_back(key[0] << 8 | key[1], self._node.trees.n_of(key))

    def holds_back(self, partition: int, n: int) -> bool:
        """The same of all keys of a partition whose buckets have `n` replicas."""
        return partition in self.partitions and n > 1

    def on_connected(self, peer: int) -> None:
        """Ask whether there is anything to be had from `peer`."""
        self._out_since_ms.pop(peer, None)
        if self.partitions and not self._undecided:
            ask(self._node, [peer], lambda number: AbsenceAsk(number, ASK_TIMEOUT_MS, 0), ASK_TIMEOUT_MS, self._told)

    def _told(self, answers: Answers) -> None:
        for peer, answer in answers.items():
            if answer.empty:
                self._empty_peers[peer] = True
        if self.partitions and all(number in self._empty_peers for number in self._node.view.other_numbers):
            self.give_up()

    def on_compared(self, peer: int, partition: int, n: int) -> None:
        """What this node holds of a partition, for buckets with `n`, is the same as at `peer` now; or differs only in
        records that cannot be moved, ever: one of those does not keep a whole partition from being read (hard case 28).
        """
        compared = self.partitions.get(partition)
        if compared is None:
            return
        compared[(peer, n)] = True
        if self._is_filled(partition):
            del self.partitions[partition]
            if not self.partitions:
                self._all_filled()

    def on_exchanged(self, peer: int, in_vain: bool) -> None:
        """An exchange with `peer` has ended; `in_vain` if it refused, or fell silent, before anything was compared.

        Also the time to notice who has been out of reach for too long, and which partitions need no filling any more
        because a bucket's n has changed.
        """
        if in_vain:
            self._refusing[peer] = True
        else:
            self._refusing.pop(peer, None)
        for other in self._node.view.other_numbers:
            self._out_of_reach(other)
        filled = [partition for partition in self.partitions if self._is_filled(partition)]
        for partition in filled:
            del self.partitions[partition]
        if filled and not self.partitions:
            self._all_filled()

    def _is_filled(self, partition: int) -> bool:
        if not self._node.view.told:
            return False
        compared = self.partitions[partition]
        compared_n = {n: True for _, n in compared}
        return all(
            (peer, n) in compared or (n in compared_n and self._out_of_reach(peer))
            for peer, n in self._peers(partition)
        )

    def _out_of_reach(self, peer: int) -> bool:
        """Has `peer` been out of reach, each time this was asked, for `PATIENCE_MS`?"""
        node = self._node
        if node.usable(peer) and peer not in self._refusing:
            self._out_since_ms.pop(peer, None)
            return False
        now_ms = node.clock.monotonic_ms()
        return now_ms - self._out_since_ms.setdefault(peer, now_ms) >= PATIENCE_MS

    def give_up(self) -> None:
        """It turned out that nothing is missing."""
        self._undecided = False
        if self.partitions:
            self.partitions = {}
            self._finished()

    def _all_filled(self) -> None:
        node = self._node
        seconds = (node.clock.monotonic_ms() - self._began_ms) / 1000
        if seconds > 1.0:
            log.info("all partitions are filled from the other replicas, after %.1f s", seconds)
        self._finished()

    def _finished(self) -> None:
        try:
            self._node.engine.write([(Space.META, FILLING_KEY, None)])
        except StorageError as error:
            log.error("it could not be noted that this store is whole: %s", error)  # It will be compared once more.

    def _peers(self, partition: int) -> dict[tuple[int, int], bool]:
        """(peer, n) for all others that replicate the partition together with this node, for every n in use."""
        found = {}
        for n in self._node.trees.n_values():
            placement = self._node.view.placements_of(n)[partition]
            if placement.stores:
                # Only who is read: a newcomer that is filled itself has nothing to tell (`core.ring.joint`).
                for peer in placement.others:
                    found[(peer, n)] = True
        return found
