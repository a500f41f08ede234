"""One exchange: this node and one peer compare what they share, and each gets what it lacks (SOSP 2007, §4.7).

1. All roots of the partitions that both replicate, in one message. Under load some differ for writes on their way, so
   those that differ are compared once more after `SETTLE_MS`, and only what differs still is looked into.
2. Per partition: sums level by level, of the children of differing nodes only, down to the leaves.
3. Range by range: this node lists the keys and digests that it holds in the differing leaves; the peer answers with the
   records that this node lacks or holds otherwise, and with the keys that it wants itself.

Records move whole and are merged as any replicated write is: an exchange mints no versions, so it brings back nothing
that was overwritten (hard case 24). Limits on what clients may store do not apply (hard case 36).

Invariants: one question is on the way at a time, and at most `EXCHANGE_WRITES_IN_FLIGHT_MAX` writes; nothing assumes
that a partition fits in memory or into one turn of the loop; whatever goes wrong ends the partition or the exchange,
is counted, and is tried again in a later exchange. One bad record holds up no other (hard case 28).
Rejected: sending whole leaves (a leaf of large values moves megabytes for one of them).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from quorate.core.errors import DamagedRecord, PeerError, StorageError
from quorate.core.keyspace import split_storage_key
from quorate.core.limits import (
    EXCHANGE_BYTES_MAX,
    EXCHANGE_KEYS_MAX,
    EXCHANGE_RECORD_BYTES_MAX,
    EXCHANGE_RECORDS_HELD_MAX_MS,
    EXCHANGE_RECORDS_MAX,
    EXCHANGE_RECORDS_PER_OPERATION,
    EXCHANGE_WRITES_IN_FLIGHT_MAX,
)
from quorate.core.merkle.reconcile import Entry, bounds_of_bucket
from quorate.core.merkle.trees import HashTree, children, widths
from quorate.core.messages import (
    LeafKeys,
    LeafKeysReply,
    Message,
    Status,
    TreeRoots,
    TreeRootsReply,
    TreeSums,
    TreeSumsReply,
    Write,
    WriteReply,
)
from quorate.core.record import decode_record
from quorate.node.context import NodeContext
from quorate.node.leaf_scan import LeafScan
from quorate.node.steps import Wait, admission, answer, pause, together

log = logging.getLogger(__name__)

SETTLE_MS: Final = 1_000.0
"""Longer than a write is usually on its way."""
EXCHANGE_TIMEOUT_MS: Final = 10_000
"""For one answer: the peer may have to wait for admission."""

_NUMBER_BYTES: Final = 9
"""What a digest or a sum takes on the wire."""

Reply = TypeVar("Reply", TreeRootsReply, TreeSumsReply, LeafKeysReply)


class ExchangeFigures:
    """What came of an exchange, or so far."""

    __slots__ = (
        "compared",
        "differed",
        "ended_because",
        "failed",
        "gone_through",
        "payload_bytes",
        "received",
        "sent",
        "shared",
        "unready",
    )

    def __init__(self) -> None:
        self.shared = 0
        """Partitions to compare, those of each n by themselves."""
        self.compared = 0
        """Found equal, or made so."""
        self.differed = 0
        """Looked into: their roots differed for longer than a write is on its way."""
        self.unready = 0
        """Not compared because a tree is being rebuilt on either side."""
        self.failed = 0
        """Given up half-way."""
        self.gone_through: list[tuple[int, int]] = []
        """(n, partition) of those that did not become equal, but for records that no exchange can move ever."""
        self.received = 0
        """Records that this node took from the peer."""
        self.sent = 0
        """Records that the peer took from this node."""
        self.payload_bytes = 0
        """Sums, keys, digests and records in both directions."""
        self.ended_because = ""
        """Why the exchange was given up as a whole; empty if it was not."""

    @property
    def complete(self) -> bool:
        return not self.ended_because and self.compared == self.shared


class PartitionFigures:
    """One partition of one n in an exchange."""

    __slots__ = ("immovable", "left_out", "n", "partition", "received", "sent")

    def __init__(self, n: int, partition: int) -> None:
        self.n = n
        self.partition = partition
        self.received = 0
        self.sent = 0
        self.left_out = 0
        """Records that could not be moved, whatever the reason."""
        self.immovable = 0
        """Those among them that cannot be moved a second time either."""


class _PartitionGivenUp(Exception):
    """This partition cannot be compared now; the others may."""


class _ExchangeGivenUp(Exception):
    """The peer, or this node, takes no part any more."""


class Exchange:
    """One pass over what this node shares with `peer`; of `bucket` only, unless that is empty."""

    def __init__(
        self,
        node: NodeContext,
        peer: int,
        on_compared: Callable[[int, PartitionFigures], None],
        bucket: bytes = b"",
    ) -> None:
        """`on_compared(peer, figures)` is called for each partition that was found equal or made so."""
        self._node = node
        self._peer = peer
        self._bucket = bucket
        self._on_compared = on_compared
        self.ring_version = node.view.version
        self._leaf_count = node.trees.leaf_count
        self.figures = ExchangeFigures()
        self.stopped = False
        """Set it to make the exchange end before its next step."""

    async def run(self) -> ExchangeFigures:
        figures, node = self.figures, self._node
        n_values = [node.view.bucket(self._bucket).properties.n] if self._bucket else node.trees.n_values()
        shared = [(n, partition) for n in n_values for partition in self._shared(n)]
        figures.shared = len(shared)
        try:
            for n in n_values:
                await self._compare([partition for other, partition in shared if other == n], n)
        except (_ExchangeGivenUp, _PartitionGivenUp) as reason:
            figures.ended_because = str(reason)
        return figures

    def _shared(self, n: int) -> list[int]:
        """Partitions whose buckets with this `n` both nodes hold."""
        return [
            partition
            for partition, placement in enumerate(self._node.view.placements_of(n))
            if placement.stores and self._peer in placement.other_homes
        ]

    async def _compare(self, partitions: list[int], n: int) -> None:
        suspects = await self._differing(n, partitions)
        if suspects:
            await pause(self._node, SETTLE_MS)
            suspects = await self._differing(n, suspects)
        if suspects:
            # Others may be filling the same node: each begins somewhere else.
            first = self._node.rng.below(len(suspects))
            suspects = suspects[first:] + suspects[:first]
        for partition in suspects:
            self.figures.differed += 1
            try:
                await self._look_into(PartitionFigures(n, partition))
            except _PartitionGivenUp as reason:
                self.figures.failed += 1
                log.debug("partition %d was not compared with #%d to its end: %s", partition, self._peer, reason)

    async def _differing(self, n: int, partitions: list[int]) -> list[int]:
        """Those whose roots differ; what is equal is noted, what is not ready counted."""
        trees = self._node.trees
        ready = [partition for partition in partitions if trees.ready(partition, n)]
        self.figures.unready += len(partitions) - len(ready)
        if not ready:
            return []
        roots = _packed([trees.root(partition, n) for partition in ready])
        reply = await self._ask(
            lambda number: TreeRoots(number, EXCHANGE_TIMEOUT_MS, self.ring_version, n, ready, roots), TreeRootsReply
        )
        self.figures.payload_bytes += len(roots) + 3 * (len(ready) + len(reply.differing) + len(reply.unready))
        differing, unready = dict.fromkeys(reply.differing), dict.fromkeys(reply.unready)
        self.figures.unready += len(unready)
        for partition in ready:
            if partition not in differing and partition not in unready:
                self._equal(PartitionFigures(n, partition))
        return [partition for partition in ready if partition in differing]

    def _equal(self, found: PartitionFigures) -> None:
        self.figures.compared += 1
        self._on_compared(self._peer, found)

    # --- one partition ---

    async def _look_into(self, found: PartitionFigures) -> None:
        tree = self._tree(found)
        # Of nothing, everything differs: no need to go down.
        leaves = list(range(self._leaf_count)) if tree.root == 0 else await self._differing_leaves(found)
        after, limit = b"", b""
        if self._bucket:
            after, limit = bounds_of_bucket(found.partition, self._bucket)
        while leaves:
            after = await self._reconcile(found, leaves, after, limit)
            if after == limit:
                break
        if found.left_out:
            if found.left_out == found.immovable:
                self.figures.gone_through.append((found.n, found.partition))
            raise _PartitionGivenUp(f"{found.left_out} of its records could not be repaired")
        self._equal(found)

    def _tree(self, found: PartitionFigures) -> HashTree:
        if not self._node.trees.ready(found.partition, found.n):
            raise _PartitionGivenUp("its tree is being rebuilt here")
        return self._node.trees.tree(found.partition, found.n)

    async def _differing_leaves(self, found: PartitionFigures) -> list[int]:
        above, nodes = 1, [0]
        for width in widths(self._leaf_count):
            asked = children(nodes, above, width)
            sums = _packed(self._tree(found).sums(width, asked))
            reply = await self._ask(_sums_question(self.ring_version, found, width, asked, sums), TreeSumsReply)
            self.figures.payload_bytes += len(sums) + 3 * (len(asked) + len(reply.differing))
            differing = dict.fromkeys(reply.differing)
            above, nodes = width, [number for number in asked if number in differing]
        return nodes

    async def _reconcile(self, found: PartitionFigures, leaves: list[int], after: bytes, limit: bytes) -> bytes:
        """One question and what follows from it; returns how far it went (`limit`: to the end)."""
        entries: list[Entry] = []

        def see(key: bytes, digest: int, body: bytes) -> bool:
            entries.append((key, digest))
            return len(entries) < EXCHANGE_KEYS_MAX

        try:
            upto = await LeafScan(self._node, found.n, found.partition, leaves).go_through(after, limit, see)
        except StorageError as error:
            raise _ExchangeGivenUp(f"this node's disk: {error}") from error
        reply = await self._ask(_keys_question(self.ring_version, found, leaves, after, upto, entries), LeafKeysReply)
        if reply.covered and (reply.covered <= after or (upto and reply.covered > upto)):
            raise _ExchangeGivenUp("the peer answered beyond what it was asked")
        self.figures.payload_bytes += sum(len(key) + _NUMBER_BYTES for key, _ in entries) + 2 * len(leaves)
        self.figures.payload_bytes += sum(len(key) + len(body) for key, body in reply.records)
        self.figures.payload_bytes += sum(map(len, reply.wanted))
        await self._take(found, reply.records)
        await self._give(found, reply.wanted, dict(entries), dict(reply.records))
        return reply.covered or upto

    async def _take(self, found: PartitionFigures, records: list[tuple[bytes, bytes]]) -> None:
        """Merge what the peer holds."""
        if len(records) > EXCHANGE_RECORDS_MAX:
            raise _ExchangeGivenUp(f"the peer sent {len(records)} records at once")
        came_ms = self._node.clock.monotonic_ms()
        await admission(self._node, -(-len(records) // EXCHANGE_RECORDS_PER_OPERATION))
        if self._node.clock.monotonic_ms() - came_ms > EXCHANGE_RECORDS_HELD_MAX_MS:
            raise _PartitionGivenUp("the peer's records could not be taken in for too long")
        taken = await together([self._merged(found, key, body) for key, body in records])
        found.received += sum(taken)
        found.left_out += len(taken) - sum(taken)
        self.figures.received += sum(taken)

    def _merged(self, found: PartitionFigures, key: bytes, body: bytes) -> Wait[bool]:
        """Merge one record, and wait until it is as durable as its bucket wants."""
        node = self._node

        def start(resume: Callable[[bool], None]) -> None:
            if not key.startswith(found.partition.to_bytes(2, "big")) or len(key) < 3:
                log.error("a peer sent a record of another partition than was compared (key %r)", key)
                resume(False)
                return
            view = node.view.bucket(split_storage_key(key)[1])
            try:
                node.records.merge(
                    key, body, view.last_write_wins, view.synced, lambda argument, durable: resume(durable), None
                )
            except (PeerError, StorageError) as error:
                found.immovable += isinstance(error, PeerError)
                node.count("records_not_repaired")
                log.error("a record of a peer could not be merged (key %r): %s", key, error)
                resume(False)

        return Wait(start)

    async def _give(
        self, found: PartitionFigures, wanted: list[bytes], listed: dict[bytes, int], received: dict[bytes, bytes]
    ) -> None:
        """Send the peer what it wants of what was listed, as ordinary writes."""
        keys = [key for key in wanted if key in listed]
        while keys:
            count = min(len(keys), EXCHANGE_WRITES_IN_FLIGHT_MAX)
            await admission(self._node, -(-count // EXCHANGE_RECORDS_PER_OPERATION))
            self._check_still_on()
            batch: list[Wait[bool]] = []
            size_bytes = 0
            try:
                # What is read here may be of this very turn: no peer may know it before this node's log does.
                self._node.commits.flush()
                while keys and len(batch) < EXCHANGE_WRITES_IN_FLIGHT_MAX and size_bytes < EXCHANGE_BYTES_MAX:
                    key = keys.pop(0)
                    body = self._body_to_send(found, key, received)
                    if body:
                        batch.append(self._sent(key, body))
                        size_bytes += len(key) + len(body)
            except StorageError as error:
                raise _ExchangeGivenUp(f"this node's disk: {error}") from error
            accepted = await together(batch)
            found.sent += sum(accepted)
            self.figures.sent += sum(accepted)
            self.figures.payload_bytes += size_bytes
            if not all(accepted):
                raise _PartitionGivenUp("the peer did not take what it wanted")

    def _body_to_send(self, found: PartitionFigures, key: bytes, received: dict[bytes, bytes]) -> bytes:
        """The record to send; empty if there is none, or none that the peer lacks. Raises `StorageError`."""
        node = self._node
        try:
            stored = node.records.read_written(key)
        except DamagedRecord:
            found.left_out += 1
            return b""
        if stored is None or stored[2] == received.get(key):
            return b""
        if len(stored[2]) > EXCHANGE_RECORD_BYTES_MAX:
            found.left_out += 1
            found.immovable += 1
            node.count("records_too_large_to_send")
            log.error("a record of %d bytes fits in no frame and is not repaired (key %r)", len(stored[2]), key)
            return b""
        try:
            decode_record(stored[2])
        except msgspec.DecodeError as error:
            # It would cost the connection, with everything else that is on it (hard case 28).
            found.left_out += 1
            found.immovable += 1
            node.count("records_not_repaired")
            log.error("a record of this node cannot be read and is not sent (key %r): %s", key, error)
            return b""
        return stored[2]

    def _sent(self, key: bytes, body: bytes) -> Wait[bool]:
        """Send one record; was it taken?"""
        flags = self._node.view.bucket(split_storage_key(key)[1]).flags
        version = self.ring_version
        asked = answer(
            self._node,
            self._peer,
            lambda number: Write(number, EXCHANGE_TIMEOUT_MS, version, key, body, flags),
            EXCHANGE_TIMEOUT_MS,
        )

        def start(resume: Callable[[bool], None]) -> None:
            asked.start(lambda reply: resume(isinstance(reply, WriteReply) and reply.status == Status.OK))

        return Wait(start)

    # --- questions ---

    def _check_still_on(self) -> None:
        if self.stopped:
            raise _ExchangeGivenUp("this node stops")
        if self._node.fenced_because:
            raise _ExchangeGivenUp("this node is fenced")
        if self._node.view.version != self.ring_version:
            raise _ExchangeGivenUp("the ring has changed")

    async def _ask(self, question: Callable[[int], Message], kind: type[Reply]) -> Reply:
        """The peer's answer, if it is one. Raises `_PartitionGivenUp`, `_ExchangeGivenUp`."""
        self._check_still_on()
        reply: Any = await answer(self._node, self._peer, question, EXCHANGE_TIMEOUT_MS)
        self._check_still_on()
        if not isinstance(reply, kind):
            connected = self._node.transport.connected(self._peer)
            raise _ExchangeGivenUp("no answer in time" if connected else "the connection was lost")
        if reply.status == Status.OK:
            return reply
        if reply.status in (Status.NOT_READY, Status.NOT_REPLICA, Status.OVERLOADED):
            raise _PartitionGivenUp(f"the peer says: {Status(reply.status).name}")
        if reply.status in (Status.STALE_RING, Status.FENCED):
            raise _ExchangeGivenUp(f"the peer says: {Status(reply.status).name}")
        raise _ExchangeGivenUp(f"the peer answers with the unknown status {reply.status}")


def _sums_question(
    ring_version: int, found: PartitionFigures, width: int, nodes: list[int], sums: bytes
) -> Callable[[int], Message]:
    n, partition = found.n, found.partition
    return lambda number: TreeSums(number, EXCHANGE_TIMEOUT_MS, ring_version, n, partition, width, nodes, sums)


def _keys_question(
    ring_version: int, found: PartitionFigures, leaves: list[int], after: bytes, upto: bytes, entries: list[Entry]
) -> Callable[[int], Message]:
    n, partition = found.n, found.partition
    return lambda number: LeafKeys(
        number, EXCHANGE_TIMEOUT_MS, ring_version, n, partition, leaves, after, upto, entries
    )


def _packed(sums: Sequence[int]) -> bytes:
    """8 bytes each, big-endian."""
    return b"".join(total.to_bytes(8, "big") for total in sums)
