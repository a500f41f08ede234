"""The answering side of an exchange: compares a peer's sums and listings with what this node holds.

Stateless between messages: each question says all there is to know, so a peer that dies, or asks twice, leaves
nothing behind. What takes longer than a turn of the loop (going through a partition) is bounded for each question and
for all of them together, and paced like all background work.

What a peer claims is checked before it is used; nothing that it says can make this side look at more than one
partition or answer with more than `EXCHANGE_BYTES_MAX` and one record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from quorate.core.errors import PeerError, StorageError
from quorate.core.limits import (
    EXCHANGE_ANSWERS_MAX,
    EXCHANGE_BYTES_MAX,
    EXCHANGE_KEYS_MAX,
    EXCHANGE_RECORD_BYTES_MAX,
    EXCHANGE_RECORDS_MAX,
    EXCHANGE_RECORDS_PER_OPERATION,
)
from quorate.core.merkle.reconcile import Comparison, check_listing
from quorate.core.merkle.trees import widths
from quorate.core.messages import (
    LeafKeys,
    LeafKeysReply,
    Status,
    TreeRoots,
    TreeRootsReply,
    TreeSums,
    TreeSumsReply,
)
from quorate.node.context import NodeContext
from quorate.node.leaf_scan import LeafScan
from quorate.node.steps import admission, run

log = logging.getLogger(__name__)

_Question = TreeRoots | TreeSums | LeafKeys


class ExchangeResponder:
    """Handlers of TreeRoots, TreeSums and LeafKeys."""

    def __init__(self, node: NodeContext, delivers_to: Callable[[int], bool]) -> None:
        """As long as this node `delivers_to(peer)` hints, that peer is told to come back later."""
        self._node = node
        self._delivers_to = delivers_to
        self._answering = 0

    def on_tree_roots(self, member: int, message: TreeRoots, age_ms: float) -> None:
        if self._expired(message, age_ms):
            return
        node = self._node
        partitions, roots = message.partitions, message.roots
        if len(roots) != 8 * len(partitions):
            raise PeerError("a peer compared partitions without one root for each")
        _check_numbers(partitions, node.view.ring.partitions)
        status = self._refusal(message)
        busy = self._delivers_to(member)
        differing: list[int] = []
        unready: list[int] = []
        if status == Status.OK:
            for place, partition in enumerate(partitions):
                if busy or self._partition_status(message.n, partition) != Status.OK:
                    unready.append(partition)
                elif node.trees.root(partition, message.n) != int.from_bytes(roots[8 * place : 8 * place + 8], "big"):
                    differing.append(partition)
        node.transport.send(member, TreeRootsReply(message.id, status, differing, unready))

    def on_tree_sums(self, member: int, message: TreeSums, age_ms: float) -> None:
        if self._expired(message, age_ms):
            return
        node = self._node
        nodes, sums = message.nodes, message.sums
        if message.width not in widths(node.trees.leaf_count) or len(sums) != 8 * len(nodes):
            raise PeerError("a peer compared a level of a tree that does not exist, or not one sum for each node")
        _check_numbers(nodes, message.width)
        status = self._refusal(message)
        if status == Status.OK:
            status = self._partition_status(message.n, message.partition)
        differing: list[int] = []
        if status == Status.OK:
            mine = node.trees.tree(message.partition, message.n).sums(message.width, nodes)
            differing = [
                number
                for place, number in enumerate(nodes)
                if mine[place] != int.from_bytes(sums[8 * place : 8 * place + 8], "big")
            ]
        node.transport.send(member, TreeSumsReply(message.id, status, differing))

    def on_leaf_keys(self, member: int, message: LeafKeys, age_ms: float) -> None:
        if self._expired(message, age_ms):
            return
        _check_numbers(message.leaves, self._node.trees.leaf_count)
        check_listing(message.entries, message.after, message.upto)
        if len(message.entries) > EXCHANGE_KEYS_MAX:
            raise PeerError(f"a peer listed {len(message.entries)} keys at once; {EXCHANGE_KEYS_MAX} are allowed")
        status = self._refusal(message)
        if status == Status.OK and not self._is_replica(message.n, message.partition):
            status = Status.NOT_REPLICA
        if status == Status.OK and self._answering >= EXCHANGE_ANSWERS_MAX:
            status = Status.OVERLOADED
        if status != Status.OK:
            self._node.transport.send(member, LeafKeysReply(message.id, status, [], [], b""))
            return
        self._answering += 1

        def done(reply: LeafKeysReply) -> None:
            self._answering -= 1
            self._node.transport.send(member, reply)

        run(self._compare(message), done)

    async def _compare(self, message: LeafKeys) -> LeafKeysReply:
        """Go through this node's records of the range, until the answer is full."""
        comparison = Comparison(message.entries)
        records: list[tuple[bytes, bytes]] = []
        size_bytes = 0

        def see(key: bytes, digest: int, body: bytes) -> bool:
            nonlocal size_bytes
            if comparison.lacks(key, digest):
                if len(body) > EXCHANGE_RECORD_BYTES_MAX:
                    self._node.count("records_too_large_to_send")
                    log.error("a record of %d bytes fits in no frame and is not repaired (key %r)", len(body), key)
                    return True
                records.append((key, body))
                size_bytes += len(key) + len(body)
            return size_bytes < EXCHANGE_BYTES_MAX and len(records) < EXCHANGE_RECORDS_MAX

        scan = LeafScan(self._node, message.n, message.partition, message.leaves)
        try:
            covered = await scan.go_through(message.after, message.upto, see)
            # The asker may be new, and not know yet what its clients are used to.
            await admission(self._node, -(-len(records) // EXCHANGE_RECORDS_PER_OPERATION))
        except StorageError:
            return LeafKeysReply(message.id, Status.FENCED, [], [], b"")
        if covered == message.upto:
            covered = b""
        return LeafKeysReply(message.id, Status.OK, records, comparison.wanted(covered), covered)

    def _expired(self, message: _Question, age_ms: float) -> bool:
        if message.remaining_ms > age_ms:
            return False
        self._node.count("expired_requests_dropped")
        return True

    def _refusal(self, message: _Question) -> Status:
        """Why this node takes no part in an exchange at all; or OK."""
        if message.ring_version != self._node.view.version:
            return Status.STALE_RING
        return Status.FENCED if self._node.fenced_because else Status.OK

    def _is_replica(self, n: int, partition: int) -> bool:
        placements = self._node.view.placements_of(n)
        return 0 <= partition < len(placements) and placements[partition].stores

    def _partition_status(self, n: int, partition: int) -> Status:
        if not self._is_replica(n, partition):
            return Status.NOT_REPLICA
        return Status.OK if self._node.trees.ready(partition, n) else Status.NOT_READY


def _check_numbers(numbers: list[int], count: int) -> None:
    """Raise `PeerError` unless `numbers` ascend and are below `count`: which also bounds how many there are."""
    last = -1
    for number in numbers:
        if not last < number < count:
            raise PeerError("a peer named a part of a tree that does not exist, or the same one twice")
        last = number
